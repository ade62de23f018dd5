"""Tests of inferer."""
