"""Tests of training/splits."""
