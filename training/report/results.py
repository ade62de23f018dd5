"""What a run leaves: the checkpoint, and beside it everything that says how good it is and how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inferer.bundle.manifest import MULTI_LABEL
from training.data.csv_file import write_csv
from training.evaluation.model_folder import RECORD
from training.evaluation.predictions import Predictions
from training.recipe.recipe import Recipe, as_toml
from training.report.evaluation_report import CONFUSION, LENGTHS, write_report
from training.report.model_card import model_card
from training.report.pictures import draw_curves, draw_lengths
from training.run.output import fresh_folder
from training.splits.splits import Splits

RECIPE = "recipe.toml"
EPOCHS = "epochs.json"
HELD_OUT = "held_out.csv"
CALIBRATION = "calibration.csv"
VALIDATION = "validation.csv"
CURVES = "learning_curves.png"
_PICTURES = {
    CONFUSION: "Which labels were taken for which, on the rows held out",
    CURVES: "Loss and figures, epoch by epoch",
    LENGTHS: "How long the texts are, in tokens",
}


@dataclass(frozen=True)
class Result:
    """A run that has come to its end. lengths: tokens of each text, uncut. epochs: an entry for each."""

    recipe: Recipe
    parts: Splits
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    lengths: Sequence[int]
    threshold: float
    epochs: Sequence[dict[str, Any]]
    versions: dict[str, str]


def write_result(result: Result, predictions: Predictions) -> dict[str, Any]:
    """Write the folder of the run, whole or not at all; return the figures of `predictions` to the held-out rows."""
    recipe, parts = result.recipe, result.parts
    with fresh_folder(recipe.target) as folder:
        _write_checkpoint(folder, result)
        write_csv(folder / HELD_OUT, parts.held_out)
        for name, part in ((VALIDATION, parts.validation), (CALIBRATION, parts.calibration)):
            if part is not None:
                write_csv(folder / name, part)
        metrics = write_report(folder, parts.held_out, predictions)
        draw_curves(folder / CURVES, result.epochs)
        max_length = int(result.tokenizer.model_max_length)
        cut = sum(length > max_length for length in result.lengths) / len(result.lengths)
        draw_lengths(folder / LENGTHS, result.lengths, max_length)
        (folder / RECIPE).write_text(as_toml(recipe), encoding="utf-8")
        _write_json(folder / EPOCHS, list(result.epochs))
        record = {
            "recipe": recipe.as_dict(),
            "data": parts.facts,
            "train_rows": len(parts.train),
            "validation_rows": 0 if parts.validation is None else len(parts.validation),
            "calibration_rows": 0 if parts.calibration is None else len(parts.calibration),
            "max_length": max_length,
            "truncated_share": cut,
            "threshold": result.threshold if parts.held_out.problem_type == MULTI_LABEL else None,
            "held_out": metrics,
            "seeds": [recipe.seed],
            "versions": result.versions,
        }
        _write_json(folder / RECORD, record)
        (folder / "README.md").write_text(
            model_card(recipe.target.name, parts.held_out.problem_type, record, _PICTURES), encoding="utf-8"
        )
    return metrics


def _write_checkpoint(folder: Path, result: Result) -> None:
    # The base's file may carry a fixed padding and truncation (the embedded one: 128); they are not ours.
    result.tokenizer.backend_tokenizer.no_padding()
    result.tokenizer.backend_tokenizer.no_truncation()
    result.model.save_pretrained(folder, safe_serialization=True)
    result.tokenizer.save_pretrained(folder)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
