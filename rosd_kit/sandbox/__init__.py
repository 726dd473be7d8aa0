"""Functions in processes of their own: what loops, crashes or eats memory there costs a deadline and nothing else."""

from rosd_kit.sandbox.pool import Outcome, WorkerPool

__all__ = ["Outcome", "WorkerPool"]
