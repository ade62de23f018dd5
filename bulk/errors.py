"""The errors of a job: one line each, for the person at the command."""

from __future__ import annotations

from inferer.errors import InfererError


class JobError(InfererError):
    """The job cannot start or go on; the message names the file or the option, its value and the remedy."""
