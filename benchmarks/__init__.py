"""Measurements: side by side in one process, interleaved, medians and ratios. Run by `make bench`."""
