"""Rows whose labels are likely to be wrong, by models that have not seen them."""
