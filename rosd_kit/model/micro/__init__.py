"""The laboratory's model and tokenizer."""
