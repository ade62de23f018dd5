"""Calibration, thresholds and abstention: their options, fit and figures."""
