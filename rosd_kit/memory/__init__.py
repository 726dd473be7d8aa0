"""Estimates the memory that a run needs before it starts, without loading its weights."""

from rosd_kit.memory.estimate import Line, MemoryEstimate, estimate_memory

__all__ = ["Line", "MemoryEstimate", "estimate_memory"]
