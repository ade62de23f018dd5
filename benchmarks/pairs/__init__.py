"""Benchmarks of rankers: their speed, and what they find."""
