"""Recipes of the reproduced systems, and the data preparation of one of them."""
