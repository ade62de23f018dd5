"""Instructions of the hot path, which noise does not change, for `make instructions`."""
