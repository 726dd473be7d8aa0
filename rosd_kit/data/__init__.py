"""Rows of data sets and how they become problems: reading files and the hub, filtering, and field templates."""
