"""Stands where SGLang would be installed; put its folder on PYTHONPATH."""
