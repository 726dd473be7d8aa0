"""Runs functions in separate processes, where a loop, a crash or a memory leak costs only its own call."""

from rosd_kit.sandbox.pool import Outcome, WorkerPool

__all__ = ["Outcome", "WorkerPool"]
