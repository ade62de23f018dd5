"""Predictions that were made already."""
