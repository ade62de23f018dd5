"""Checkpoints that several versions of transformers save."""
