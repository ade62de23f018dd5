"""A guard against a slower hot path that no noise disturbs: instructions per call, counted by valgrind.

The instructions of many calls less those of few, by the number of calls between: the start cancels out. Counted are
`ModelInferer.predict`, and a request through the WSGI application with its line in the log. The model is one of five
nodes with 77 labels, so nearly all is our Python, msgspec, Flask and the tokenizer, not the model: valgrind knows no
AVX-512, and onnxruntime would run other kernels in it than on the CPU. It misses gunicorn's worker with its sockets,
waits for locks and the GIL, and caches; those are in benchmarks.peers.http.

Exit code 1 where a figure is more than the tolerance above the one in benchmarks/results/instructions.json; 2 where
they cannot be compared: Python, a package on the path, or the kind of processor is another one. `--store` writes the
figures, after a change that is worth its instructions or that saves some. The last line is JSON.

    python -m benchmarks.instructions [--store]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from tests.support import tiny
from tests.support.server import ROOT, environment

TOLERANCE = 0.03
FEW, MANY = 100, 600
KINDS = ("predict", "request")
STORED = ROOT / "benchmarks" / "results" / "instructions.json"
_LABELS = 77
_PACKAGES = ("flask", "gunicorn", "msgspec", "numpy", "onnxruntime", "prometheus-client", "tokenizers", "werkzeug")
_COUNT = re.compile(r"I\s+refs:\s+([\d,]+)")


def write_bundle(folder: Path) -> Path:
    """Write a bundle of five nodes and 77 labels; its texts may share runs."""
    table = np.zeros((len(tiny.WORDS), _LABELS), dtype=np.float32)
    table[4, 0] = table[5, 1] = table[6, 2] = 2.0
    golden = [{"text": word, "fp32": row, "int8": row} for word, row in zip(tiny.WORDS, table.tolist(), strict=True)]
    return tiny.write_bundle(
        folder,
        onnx_model=tiny.model(table=table),
        labels=tuple(f"intent_number_{number}" for number in range(_LABELS)),
        golden=golden[4:7],
        quantization={"scheme": "int8-token", "quantized_matmuls": 0},
    )


def count(kind: str, bundle: Path, number: int) -> int:
    """Return the instructions of a process that makes `number` calls."""
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*valgrind, "--log-fd=1", sys.executable, "-m", "benchmarks.instructions.hot_path"]
    env = environment(PYTHONHASHSEED="0", OMP_NUM_THREADS="1")
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [*command, kind, str(bundle), str(number)],
            stdout=subprocess.PIPE, stderr=log, text=True, check=False, cwd=ROOT, env=env,
        )  # fmt: skip
        found = _COUNT.search(done.stdout)
        if done.returncode or not found:
            log.seek(0)
            raise SystemExit(f"{kind} failed under valgrind: {log.read()[-2000:].decode(errors='replace')}")
    return int(found.group(1).replace(",", ""))


def measure() -> dict[str, float]:
    """Return the instructions per call of each kind."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        bundle = write_bundle(Path(scratch) / "bundle")
        counts = {(k, n): pool.submit(count, k, bundle, n) for k in KINDS for n in (FEW, MANY)}
        return {kind: (counts[kind, MANY].result() - counts[kind, FEW].result()) / (MANY - FEW) for kind in KINDS}


def surroundings() -> dict[str, str]:
    """Return the versions and the kind of processor that the figures depend on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _PACKAGES},
    }


def verdict(stored: dict[str, Any], found: dict[str, float], here: dict[str, str]) -> tuple[int, list[str]]:
    """Return the exit code and the lines for a person."""
    other = [
        f"{name} {here.get(name)}, stored with {value}"
        for name, value in stored["surroundings"].items()
        if here.get(name) != value
    ]
    if other:
        return 2, [f"not comparable: {'; '.join(other)}. Store the figures of both versions here: see the docstring"]
    lines, code = [], 0
    for kind, figure in found.items():
        before = stored["instructions"][kind]
        change = figure / before - 1
        line = f"{kind:8} {figure:12,.0f} instructions, stored {before:12,.0f}, {100 * change:+.1f} %"
        if change > TOLERANCE:
            code, line = 1, f"{line}: slower by more than {100 * TOLERANCE:.0f} %"
        elif change < -TOLERANCE:
            line = f"{line}: faster; keep it with --store"
        lines.append(line)
    return code, lines


def main() -> int:
    """Count, compare or store, and return the exit code."""
    parser = argparse.ArgumentParser(description="Instructions per prediction and per request, against stored ones.")
    parser.add_argument("--store", action="store_true", help="write the figures as the ones to compare with")
    args = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 2
    here = surroundings()
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else None
    if stored and not args.store and stored["surroundings"] != here:
        code, lines = verdict(stored, {}, here)
        print("\n".join(lines), file=sys.stderr)
        return code
    found = measure()
    if stored and not args.store:
        code, lines = verdict(stored, found, here)
        print("\n".join(lines))
        print(json.dumps({"instructions": found, "exit": code}))
        return code
    result = record.new("instructions", surroundings=here, tolerance=TOLERANCE, instructions=found)
    print("\n".join(f"{kind:8} {figure:12,.0f} instructions" for kind, figure in found.items()))
    record.write(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
