"""Tests of single architectures."""
