"""The memory that this process may use, and the memory that it holds. Known on Linux only."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # cgroup v1 writes "no limit" as a number near 2**63


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Return the bytes of memory that this process holds now; 0 where unknown."""
    try:
        pages = int((proc / "self" / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_limit(root: Path = _CGROUP_ROOT) -> int | None:
    """Return the container's memory limit in bytes; None without a visible limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (root / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            return int(limit)
    return None
