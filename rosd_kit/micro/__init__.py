"""The laboratory: tiny procedural tasks with exact error oracles, and lessons for a tiny real model."""
