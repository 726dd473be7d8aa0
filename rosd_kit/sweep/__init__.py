"""Sweeps: many trials of a recipe with parts swapped, one store, and what their differences amount to.

Read in this order: `settings` and `axes` (what is asked), `cells` and `designs` (which combinations), `trials` (what makes
two trials the same), `store` (who works on what), `trial` (one trial's process), `sweeper` and `launchers` (starting them),
`statistics`, `report` and `plots` (what came out).
"""
