"""Limits on the time and memory in which a process loads a bundle, and the words for a process that exceeds them.

A model can hang or eat memory inside C code, which holds the interpreter's lock: only the kernel ends that for certain.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from inferer.cpu import available_cpus
from service.process.resources import memory_left, memory_limit

CONVERSION_TIMEOUT_S = 600  # a large PyTorch checkpoint on a busy machine fits

# Loading took at most twice the size of the files, for the demo and for BERT-base in int8 and fp32.
_TIMES_FILES = 4
_CONSTANT = 2**30
_LEFT_TO_OTHERS = 2**26
# RLIMIT_DATA counts a thread's whole stack, of which little is ever used.
_STACK = 2**23
_OTHER_THREADS = 8

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_KILL_FIRST = "1000"
_ENDED_FOR_MEMORY = (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS)


def memory_allowed(folder: Path) -> int:
    """Return the bytes that loading the bundle in `folder` may take, by its files."""
    files = 0
    with contextlib.suppress(OSError):
        files = sum(entry.stat().st_size for entry in os.scandir(folder))
    return _TIMES_FILES * files + _CONSTANT


def memory_beside_others(folder: Path) -> int:
    """Return the bytes that a check of the bundle in `folder` may take, so that the container has some left."""
    allowed, left = memory_allowed(folder), memory_left()
    return allowed if left is None else max(0, min(allowed, left - _LEFT_TO_OTHERS))


@contextlib.contextmanager
def limited(memory: int, timeout_s: int) -> Iterator[None]:
    """Let the process take `memory` bytes more to load a bundle; the kernel ends it by SIGALRM after `timeout_s`.

    Without memory, allocations fail: Python raises MemoryError, other code mostly aborts. Meanwhile the process is the
    first that the kernel kills when memory runs out, so that processes that serve stay. For the main thread.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_size() + memory + _STACK * (available_cpus() + _OTHER_THREADS)
    finite = [one for one in (wanted, soft, hard) if one != resource.RLIM_INFINITY]
    score = _set_oom_score(_KILL_FIRST)
    resource.setrlimit(resource.RLIMIT_DATA, (min(finite), hard))
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(timeout_s)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        if score is not None:
            _set_oom_score(score)


def too_much_memory(folder: Path) -> str:
    """Return the words for a bundle that does not fit into memory."""
    problem = f"loading the bundle {folder} needed more"
    allowed, limit, left = memory_allowed(folder), memory_limit(), memory_left()
    if limit is not None and left is not None and left - _LEFT_TO_OTHERS < allowed:
        return f"{problem} memory than the container has left, {max(0, left) // 2**20} of {limit // 2**20} MB"
    return f"{problem} than {allowed // 2**20} MB of memory"


def ended_by(number: int, folder: Path, timeout_s: int) -> str:
    """Return the words for a process that the signal `number` ended while it loaded the bundle in `folder`."""
    if number == signal.SIGALRM:
        return f"loading the bundle {folder} took more than {timeout_s} s (INFERER_LOAD_TIMEOUT_S)"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in _ENDED_FOR_MEMORY:
        return f"{too_much_memory(folder)}, or it crashed ({name})"
    return f"loading the bundle {folder} ended with {name}"


def _data_size() -> int:
    """Return what RLIMIT_DATA counts, in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _set_oom_score(score: str) -> str | None:
    """Set the process's standing when memory runs out; return the one before, None where that cannot be changed."""
    try:
        before = _OOM_SCORE.read_text()
        _OOM_SCORE.write_text(score)
    except OSError:
        return None
    return before
