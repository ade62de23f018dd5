"""Tests of the search for label errors."""
