"""The embedded laboratory: tiny procedural tasks, exact error oracles and a tiny real model."""
