"""Measuring a student: suites, metrics on `evaluate`, intervals, and the comparison of before with after."""
