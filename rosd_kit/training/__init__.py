"""The train step: the student and its teacher, layouts, the loss engine, the optimizer, checkpoints, processes."""
