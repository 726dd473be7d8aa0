"""A fake of the installed package `sglang`; put the folder above it on PYTHONPATH."""
