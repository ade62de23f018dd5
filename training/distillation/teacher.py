"""The logits of a teacher for the rows of a run: a checkpoint, the mean of several, or a table of probabilities."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.files import MANIFEST
from inferer.bundle.manifest import MULTI_LABEL, NONE, REGRESSION, SINGLE_LABEL, activation_of
from inferer.scoring import activate
from inferer.tokens.texts import TextOrPair
from training.data.dataset import Columns, Dataset
from training.data.reader import read_dataset
from training.errors import TrainingError
from training.evaluation.checkpoint_logits import compute_logits, load_model
from training.evaluation.model_folder import RECORD, read_model_folder
from training.model.hub_model import download_model
from training.recipe.recipe import Recipe
from training.splits.stratify import plain

_LEAST = 1e-6  # of a probability: its logarithm stays finite
_HELD_OUT = "held_out.csv"
_KINDS = {SINGLE_LABEL: "single-label classifier", MULTI_LABEL: "multi-label classifier", REGRESSION: "regression"}


def teacher_logits(
    recipe: Recipe, train: Dataset, texts: Sequence[TextOrPair], probabilities: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Return the teacher's logits for `texts`, float32 [texts, labels], in the order of `train.labels`.

    probabilities: those of a teacher that is a table; a text without has NaN there and in the result. Of several
    checkpoints the mean of the scores counts, and of a regression that of the numbers. Raises TrainingError for a model
    with other labels or of another kind.
    """
    if probabilities is None:
        scores = np.mean([_scores(name, train, texts) for name in recipe.teacher], axis=0)
        if train.problem_type == REGRESSION:
            return np.asarray(scores, dtype=np.float32)
    else:
        scores = probabilities
    scores = scores.clip(_LEAST, 1 - _LEAST)
    logits = np.log(scores) if train.problem_type == SINGLE_LABEL else np.log(scores) - np.log1p(-scores)
    return np.asarray(logits, dtype=np.float32)


def teacher_identity(recipe: Recipe, probabilities: NDArray[np.float64] | None) -> bytes:
    """Return the bytes of a table's probabilities, or else the SHA-256 of the checkpoints' weights and of hub names."""
    if probabilities is not None:
        return probabilities.tobytes()
    content = hashlib.sha256()
    for name in recipe.teacher:
        files = sorted(Path(name).glob("*.safetensors")) or sorted(Path(name).glob("pytorch_model*.bin"))
        for file in files:
            with file.open("rb") as weights:
                content.update(hashlib.file_digest(weights, "sha256").digest())
        if not files:
            content.update(name.encode())
    return content.digest()


def seen_notes(recipe: Recipe, held_out: Dataset) -> list[str]:
    """Return a sentence for each teacher that may have been trained on rows that this run holds out."""
    notes = []
    for name in recipe.teacher:
        folder = Path(name)
        if not (folder / RECORD).is_file() or not (folder / _HELD_OUT).is_file():
            if folder.is_dir():
                unknown = "does not say which texts it has seen; held-out ones would flatter the figures"
                notes.append(f"teacher {name} {unknown}")
            continue
        given = read_model_folder(folder).recipe
        columns = Columns(given.get("text_column") or "text", text_pair_column=given.get("text_pair_column"))
        unseen = {plain(text) for text in read_dataset(folder / _HELD_OUT, columns).texts}
        if seen := sum(plain(text) not in unseen for text in held_out.texts):
            notes.append(
                f"teacher {name} did not hold out {seen} of the {len(held_out)} texts held out here, and may have seen "
                "them: the figures may flatter the model; give both runs the same --test-data"
            )
    return notes


def _scores(name: str, train: Dataset, texts: Sequence[TextOrPair]) -> NDArray[np.float64]:
    """Return the scores of the checkpoint `name`, or a regression's numbers, float64 [texts, labels]."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = download_model(name, "teacher")
    if (folder / MANIFEST).is_file():
        raise TrainingError(f"teacher {name}: is a bundle; give the checkpoint that it was exported from")
    pair = train.columns.text_pair_column is not None
    loaded = load_model(folder, pair=pair)
    config = loaded.model.config
    reads_pairs = bool(getattr(config, "inferer_text_pair", False))
    is_ours = (folder / RECORD).is_file()  # others do not say
    if reads_pairs != pair and (reads_pairs or is_ours):
        read, given = ("pairs", "single texts") if reads_pairs else ("single texts", "pairs")
        raise TrainingError(f"teacher {name}: reads {read}; the data has {given}")
    kind = config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE_LABEL)
    if kind != train.problem_type:
        raise TrainingError(f"teacher {name}: is a {_KINDS[kind]}; the data is for a {_KINDS[train.problem_type]}")
    names = list((config.id2label or {}).values())
    if kind != REGRESSION and sorted(names) != sorted(train.labels):
        missing, other = sorted(set(train.labels) - set(names)), sorted(set(names) - set(train.labels))
        fault = f"lacks {missing[0]!r}" if missing else f"has {other[0]!r} too"
        raise TrainingError(f"teacher {name}: its labels are {', '.join(names)}; it {fault}")
    logits = compute_logits(loaded, loaded.encoder.encode(texts), title=f"teacher {Path(name).name}")
    if kind == REGRESSION:
        return activate(logits, getattr(config, "inferer_activation", NONE))
    return activate(logits, activation_of(kind))[:, [names.index(label) for label in train.labels]]
