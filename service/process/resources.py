"""Resources of a server: memory, open files, and the folder in which several workers share their metrics."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import tempfile
from pathlib import Path

from service.settings import SettingsError

_CGROUP = "/sys/fs/cgroup"
_NO_LIMIT = 2**60  # cgroup v1 writes "no limit" as a number near 2**63

_M_ARENA_MAX, _ARENAS = -8, 2  # the first from glibc's malloc.h

# Clients with kept-alive connections can fill gunicorn's default of 1,000 and lock out health checks.
_MIN_WANTED = 4000
_OTHER_FILES = 100  # libraries, logs, metrics and the check of a bundle

_PREFIX = "inferer-metrics-"
_LOCK = "lock"
_open_locks: list[object] = []  # workers inherit the open file, and with it the lock


def limit_malloc_arenas() -> None:
    """Let glibc share two arenas between all threads, unless the operator set MALLOC_ARENA_MAX.

    By default each thread that meets another in malloc gets an arena of its own, up to eight per CPU, and an arena
    seldom gives memory back. Other C libraries have no arenas.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, _ARENAS)


def resident_memory() -> int:
    """Return the bytes of memory that this process holds now; 0 where unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_limit() -> int | None:
    """Return the container's memory limit in bytes; None without a visible limit."""
    return _cgroup_limit("memory.max", "memory/memory.limit_in_bytes")


def memory_left() -> int | None:
    """Return the bytes that the container may still take, its caches of files left aside; None without a limit."""
    limit = memory_limit()
    for usage, stat, cache, shared in (
        ("memory.current", "memory.stat", "file", "shmem"),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_cache", "total_shmem"),
    ):
        try:
            used = int(Path(_CGROUP, usage).read_text())
            parts = dict(line.split() for line in Path(_CGROUP, stat).read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit is not None:
            return limit - used + max(0, int(parts.get(cache, 0)) - int(parts.get(shared, 0)))
    return limit


def process_limits() -> list[str]:
    """Return the limits of processes and threads, in words."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    of_group = _cgroup_limit("pids.max", "pids/pids.max")
    limits = [] if soft == resource.RLIM_INFINITY else [f"the user's limit is {soft} (ulimit -u)"]
    return limits if of_group is None else [*limits, f"the container's limit is {of_group} (pids.max)"]


def _cgroup_limit(*names: str) -> int | None:
    """Return the limit in the first of the files that has one; None without a visible limit."""
    for name in names:
        try:
            limit = Path(_CGROUP, name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            return int(limit)
    return None


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


def make_metrics_folder(parent: str | None) -> Path:
    """Return a new folder in `parent` (default: the temporary folder), locked; remove those of killed servers."""
    base = Path(parent or tempfile.gettempdir())
    for folder in base.glob(f"{_PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    unlocked = made / f"{_LOCK}.new"
    lock = unlocked.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unlocked.rename(made / _LOCK)  # other servers look at the folder only from now on
    _open_locks.append(lock)
    return made


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, of another user, or not yet complete
        return False
    return True
