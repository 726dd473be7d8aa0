"""A training run: the loop, its folder on disk, resuming, evaluation, and what observers are shown."""
