"""How much memory a run will need, found out before it starts and without its weights."""

from rosd_kit.memory.estimate import Line, MemoryEstimate, estimate_memory

__all__ = ["Line", "MemoryEstimate", "estimate_memory"]
