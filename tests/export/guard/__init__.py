"""Warnings of the guard."""
