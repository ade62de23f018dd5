"""Benchmarks for `make bench`: side by side in one process, interleaved, medians and ratios."""
