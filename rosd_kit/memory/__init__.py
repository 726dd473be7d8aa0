"""How much memory a run will need, found out before it starts and without its weights."""

from rosd_kit.memory.estimate import Estimate, Line, estimate

__all__ = ["Estimate", "Line", "estimate"]
