"""Tests of training/distillation."""
