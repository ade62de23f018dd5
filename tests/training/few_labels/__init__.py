"""Tests of training/few_labels."""
