"""The number of connections that fit into a process's limit of open files."""

from __future__ import annotations

import contextlib
import resource

from service.settings import SettingsError

# Clients with kept-alive connections can fill gunicorn's default of 1,000 and lock out health checks.
_MIN_WANTED = 4000
_OTHER_FILES = 100  # libraries, logs, metrics and the check of a bundle


def max_connections(threads: int) -> int:
    """Return the connections for a worker with `threads` threads, raising the soft limit of open files as needed.

    gthread keeps only the connections beyond its threads alive, hence twice as many. Raises SettingsError if not even
    each thread can have a connection.
    """
    wanted = max(_MIN_WANTED, 2 * threads)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):  # the kernel may have a lower limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - _OTHER_FILES)
    if allowed <= threads:
        raise SettingsError(
            f"{threads} threads need more than {threads + _OTHER_FILES} open files and the limit is {soft}: "
            "raise it (ulimit -n), or lower INFERER_MAX_IN_FLIGHT or INFERER_THREADS"
        )
    return allowed
