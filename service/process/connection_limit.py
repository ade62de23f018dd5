"""How many connections fit into the files that a process may open."""

from __future__ import annotations

import contextlib
import resource

from service.settings import SettingsError

# gunicorn's own 1,000 can be filled by clients that keep their connections; a health check then finds no way in.
_AT_LEAST = 4000
_OTHERS = 100  # files that a worker holds beside its connections: libraries, logs, metrics, the check of a bundle


def connections(threads: int) -> int:
    """Return how many connections a worker with `threads` threads takes; raises the soft limit where the hard allows.

    gthread keeps connections alive only beyond its threads, so there are twice as many. Raises SettingsError where
    not even the threads have a connection each.
    """
    wanted = max(_AT_LEAST, 2 * threads)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < need:
        raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
        with contextlib.suppress(ValueError, OSError):  # a kernel may have a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    fits = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - _OTHERS)
    if fits <= threads:
        raise SettingsError(
            f"{threads} threads need more than {threads + _OTHERS} open files and the limit is {soft}: "
            "raise it (ulimit -n), or lower INFERER_MAX_IN_FLIGHT or INFERER_THREADS"
        )
    return fits
