"""Benchmark of the search for label errors."""
