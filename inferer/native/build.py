"""Compile the library of fused operators, where there is a C++ compiler: python -m inferer.native.build [--output DIR].

Needs g++ 8 or later (or CXX) and nothing else. Without one, or where it fails, a line says so and nothing is built.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
LIBRARY = "operators.so"
# No instruction that a CPU may lack is used outside the table of its level.
_AVX2 = ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mprefer-vector-width=512")
_LEVELS = {"base": (), "v3": _AVX2, "v4": (*_AVX2, *_AVX512)}
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
_SECONDS = 300  # for a step; they take about 2


def build(folder: Path) -> str | None:
    """Write the library to `folder`; return why not, or None."""
    if sys.platform != "linux":
        return f"built on Linux only, not on {sys.platform}"
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if not compiler or shutil.which(compiler[0]) is None:
        return f"no C++ compiler: {compiler[0] if compiler else 'CXX is empty'} is not in PATH"
    levels = _LEVELS if platform.machine() == "x86_64" else {"base": ()}
    with tempfile.TemporaryDirectory() as scratch:
        objects = [f"{scratch}/operators.o", *(f"{scratch}/{level}.o" for level in levels)]
        steps = [[*compiler, *_FLAGS, "-c", str(SOURCES / "operators.cpp"), "-o", objects[0]]]
        for level, flags in levels.items():
            table = ("-c", str(SOURCES / "kernels.cpp"), f"-DLEVEL=kernels_{level}", "-o", f"{scratch}/{level}.o")
            steps.append([*compiler, *_FLAGS, *flags, *table])
        # Its own copy of the C++ library, so that it loads beside an older one. `base` comes first: of a template that
        # all levels instantiate, the linker keeps the first copy.
        linked = ("-shared", "-static-libstdc++", "-static-libgcc", "-s", "-o", f"{scratch}/{LIBRARY}")
        steps.append([*compiler, *objects, *linked])
        for step in steps:
            try:
                done = subprocess.run(step, capture_output=True, text=True, timeout=_SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"{compiler[0]} does not run: {error}"
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                return f"{compiler[0]} fails: {next((line for line in lines if 'error' in line), lines[0])}"
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a process that has the old one mapped keeps it.
        part = folder / f".{LIBRARY}.{os.getpid()}"
        shutil.copy(f"{scratch}/{LIBRARY}", part)
        part.replace(folder / LIBRARY)
    return None


def main() -> None:
    """Build, and print one line."""
    parser = argparse.ArgumentParser(description="Compile the fused operators, where there is a C++ compiler.")
    parser.add_argument("--output", type=Path, default=SOURCES, help="the folder to write to; by default the package's")
    folder = parser.parse_args().output
    why_not = build(folder)
    outcome = "built" if why_not is None else f"not built, models run slower without it: {why_not}"
    sys.stderr.write(f"{folder / LIBRARY}: {outcome}\n")


if __name__ == "__main__":
    main()
