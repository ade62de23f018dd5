"""A bundle's answers to texts, from `python -m inferer` as a child process: training imports nothing of inferer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.errors import DataError, TrainingError
from training.evaluation.predictions import Predictions, first_highest

# Where our own `inferer` lies, beside this package: in the folder that a user runs in, one of that name is another.
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BundlePredictions:
    """A bundle's predictions, with the counts of texts that were cut and of texts left without a label (abstained)."""

    predictions: Predictions
    truncated: int
    abstained: int


def predict_bundle(bundle: Path, dataset: Dataset, data: Path, threshold: float | None = None) -> BundlePredictions:
    """Return what `bundle` answers to the texts of `dataset`, as it would be served; shows a bar on stderr.

    Single-label: the best label, whether or not the bundle would abstain. Multi-label: the labels at or above the
    bundle's thresholds, or `threshold`. data: the file, for messages. Raises DataError for texts that the bundle
    refuses, by row; TrainingError for one that cannot be run, in its own words.
    """
    command = [sys.executable, "-P", "-m", "inferer", str(bundle.resolve()), "--json", "--json-lines"]
    if threshold is not None:
        command += ["--threshold", repr(threshold)]
    paths = (str(_ROOT), os.environ.get("PYTHONPATH"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Files, not pipes: with two pipes each process could wait for the other.
    with tempfile.TemporaryFile() as texts, tempfile.TemporaryFile() as said:
        texts.writelines(json.dumps(text).encode() + b"\n" for text in dataset.texts)
        texts.seek(0)
        lines, code = _run(command, env, texts, said, len(dataset))
        said.seek(0)
        words = said.read().decode("utf-8", "replace").strip().splitlines()
    if code not in (0, 1) or len(lines) != len(dataset):
        last = words[-1].removeprefix("inferer: ") if words else f"python -m inferer ended with {code}"
        raise TrainingError(last if str(bundle) in last else f"bundle {bundle}: {last}")
    for word in words:  # what it warned of, as of a golden check
        sys.stderr.write(f"{word}\n")
    column = dataset.columns.text_column
    faults = [
        f"row {i}, column '{column}': {line['error']}" for i, line in enumerate(lines, start=1) if "error" in line
    ]
    if faults:
        raise DataError(data, faults)
    return _read(lines, dataset)


def _run(
    command: Sequence[str], env: dict[str, str], texts: IO[bytes], said: IO[bytes], rows: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the lines that `command` prints and its exit code; an interrupt of this process ends it too."""
    with (
        subprocess.Popen(command, env=env, stdin=texts, stdout=subprocess.PIPE, stderr=said) as child,
        tqdm(total=rows, desc="evaluating", unit="text", file=sys.stderr) as bar,
    ):
        lines = []
        try:
            for line in child.stdout or ():
                lines.append(json.loads(line))
                bar.update()
        except BaseException:
            child.terminate()
            raise
    return lines, child.returncode


def _read(lines: Sequence[dict[str, Any]], dataset: Dataset) -> BundlePredictions:
    scores = np.array([[line["scores"][label] for label in dataset.labels] for line in lines])
    if dataset.problem_type == SINGLE_LABEL:
        chosen = first_highest(scores)
    else:
        chosen = np.array([[label in line["labels"] for label in dataset.labels] for line in lines])
    return BundlePredictions(
        Predictions(scores, chosen),
        sum(line["truncated"] for line in lines),
        sum(line.get("abstained", False) for line in lines),
    )
