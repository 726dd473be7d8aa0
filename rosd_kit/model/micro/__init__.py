"""The laboratory's model and tokenizer. Knows no task."""
