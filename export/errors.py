"""What ends an export: an ExportError, told to the user in one line, with nothing written."""


class ExportError(Exception):
    """The checkpoint cannot be exported; the message names what is wrong and what would mend it."""
