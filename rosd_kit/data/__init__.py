"""Data sets: reads rows from files or the hub, filters and splits them, and fills field templates."""
