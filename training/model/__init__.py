"""The classifier: base model, heads, tokens, losses."""
