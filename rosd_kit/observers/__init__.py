"""Built-in observers: plugins that hear what happens in a run and change nothing of it."""
