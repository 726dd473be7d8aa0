"""Measures, before any training, where a recipe's signal lies: on what was right, in the error, or after it, and why."""
