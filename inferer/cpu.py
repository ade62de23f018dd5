"""The CPUs that this process may use: quota, affinity and instruction set.

gunicorn's configuration imports this before the fork, so it is free of onnxruntime and numpy.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
# The files of a control group with its quota and period, in microseconds, in cgroup v2 and v1.
_V2, _V1 = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")

MOST_THREADS = 1024  # a sane upper limit, far below the overflow of onnxruntime's integer

# The flags that decide which int8 kernels onnxruntime picks.
_INT8_FLAGS = ("avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
# The flags of kernels that sum u8*s8 products in 32 bits. Without one of them onnxruntime sums pairs in 16 bits and
# saturates silently (microsoft/onnxruntime#5849).
_SUMS_IN_32_BITS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _quota(folder: Path, files: Sequence[str]) -> float | None:
    """Return the CPUs that a control group's quota and period allow; None for no limit or without the files."""
    values = " ".join(_read(folder / name) or "" for name in files).split()
    if len(values) != 2 or values[0] == "max" or int(values[0]) <= 0 or int(values[1]) <= 0:
        return None
    return int(values[0]) / int(values[1])


def cpu_quota(root: Path = _CGROUP_ROOT, proc: Path = Path("/proc")) -> float | None:
    """Return the smallest cgroup CPU quota over this process, in CPUs; None without a quota.

    Reads cgroup v2 and v1, in the process's own group and in every group above it: each may set a limit, and inside a
    container the process's own group is the visible root.
    """
    found = [_quota(root, _V2), _quota(root / "cpu", _V1), _quota(root / "cpu,cpuacct", _V1)]
    for line in (_read(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)  # of cgroup v2 without a name
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), 0, -1):
            below = Path(*parts[:depth])
            if controllers == "":
                found.append(_quota(root / below, _V2))
            elif "cpu" in controllers.split(","):
                found.append(_quota(root / controllers / below, _V1))
    return min((quota for quota in found if quota is not None), default=None)


def available_cpus() -> int:
    """Return how many threads can run in parallel: min(floor(quota), affinity mask), at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, affinity if quota is None else min(affinity, math.floor(quota)))


def instruction_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the CPU flags that affect int8 arithmetic, in a fixed order."""
    for line in (_read(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(value.split())
            return tuple(flag for flag in _INT8_FLAGS if flag in present)
    return ()


def is_x86_64() -> bool:
    """Return whether this process runs on a 64-bit x86 CPU."""
    return platform.machine() in ("x86_64", "AMD64")


def int8_may_saturate(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether int8 products may saturate on this CPU: x86-64 that shows neither VNNI nor AMX."""
    return is_x86_64() and not _SUMS_IN_32_BITS & set(instruction_flags(cpuinfo))
