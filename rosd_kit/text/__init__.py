"""Characters, tokens, tags, quotes and budgets: pure functions, no model, no component."""
