"""Likely label errors, by models trained on other rows."""
