"""Predictions of a checkpoint or a bundle, for evaluation."""
