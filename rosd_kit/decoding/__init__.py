"""Generates text with a causal language model in this process: rows of a batch, their caches, and the loop over tokens."""
