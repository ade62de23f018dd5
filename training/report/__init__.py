"""Figures, tables, pictures and cards of a run."""
