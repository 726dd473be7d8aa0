"""Text as pure functions: tags, quotes, templates, token spans and budgets. Knows no model and no component."""
