"""Benchmarks of the ways to learn: few labels, teachers, fewer layers; and of the search for label errors."""
