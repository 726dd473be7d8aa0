"""Evaluates students: suites, metrics built on `evaluate`, confidence intervals, and comparisons of two evaluations."""
