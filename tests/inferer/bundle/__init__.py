"""Tests of reading a bundle."""
