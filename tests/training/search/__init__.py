"""Tests of the search of `--auto`."""
