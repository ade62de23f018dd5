"""Training, validation and held-out rows."""
