"""Tests of training/run."""
