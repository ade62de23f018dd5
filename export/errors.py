"""The error that ends an export: one line for the user, nothing written."""


class ExportError(Exception):
    """A failed export; the message names the fault and its remedy."""
