"""Sweeps: run variants of a recipe with several seeds, keep all trials in one store, and compare them.

Reading order: `settings` and `axes` (what the user asks for), `combinations` and `designs` (which variants), `trial_id` (when
two trials are the same), `store` and `lease` (who works on which trial), `worker` (one trial's process), `scheduler` and
`launchers` (start workers), `statistics`, `report`, `formats` and `plots` (the results).
"""
