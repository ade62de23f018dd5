"""The folder of a finished run: the checkpoint, its figures and pictures, its rows, its recipe and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inferer.bundle.manifest import MULTI_LABEL
from training.data.csv_file import write_csv
from training.evaluation.model_folder import RECIPE, RECORD
from training.evaluation.predictions import Predictions
from training.model.load import max_positions_of
from training.quiet import quiet_transformers
from training.recipe.recipe import Recipe, as_toml
from training.report.advice import advice
from training.report.evaluation_report import CONFUSION, LENGTHS, NUMBERS, write_json, write_report
from training.report.model_card import model_card
from training.report.pictures import draw_curves, draw_lengths
from training.run.output import fresh_folder
from training.splits.splits import Splits

EPOCHS = "epochs.json"
HELD_OUT = "held_out.csv"
CALIBRATION = "calibration.csv"
VALIDATION = "validation.csv"
CURVES = "learning_curves.png"
_PICTURES = {
    CONFUSION: "Labels predicted for each true label, on the held-out rows",
    NUMBERS: "Predicted and true numbers of the held-out rows",
    CURVES: "Loss and figures by epoch",
    LENGTHS: "Lengths of the texts, in tokens",
}


@dataclass(frozen=True)
class Result:
    """A finished run. lengths: tokens of each text before truncation. epochs: one entry per epoch.

    search: the record of the search that chose the settings, in JSON types.
    """

    recipe: Recipe
    splits: Splits
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    lengths: Sequence[int]
    threshold: float
    epochs: Sequence[dict[str, Any]]
    versions: dict[str, str]
    search: Mapping[str, Any] | None = None


def write_result(result: Result, predictions: Predictions) -> dict[str, Any]:
    """Write the run's folder, whole or not at all; return its record, with the figures of the held-out rows."""
    recipe, splits = result.recipe, result.splits
    validation, calibration = splits.validation, splits.calibration
    with fresh_folder(recipe.target) as folder:
        # The base's tokenizer file may have a fixed padding and truncation of its own (the embedded one: 128).
        result.tokenizer.backend_tokenizer.no_padding()
        result.tokenizer.backend_tokenizer.no_truncation()
        with quiet_transformers():
            result.model.save_pretrained(folder)
            result.tokenizer.save_pretrained(folder)
        for name, rows in ((HELD_OUT, splits.held_out), (VALIDATION, validation), (CALIBRATION, calibration)):
            if rows is not None:
                write_csv(folder / name, rows)
        metrics = write_report(folder, splits.held_out, predictions)
        draw_curves(folder / CURVES, result.epochs)
        max_length = int(result.tokenizer.model_max_length)
        draw_lengths(folder / LENGTHS, result.lengths, max_length)
        (folder / RECIPE).write_text(as_toml(recipe), encoding="utf-8")
        write_json(folder / EPOCHS, list(result.epochs))
        record = {
            "recipe": recipe.as_dict(),
            "data": splits.facts,
            "train_rows": len(splits.train),
            "validation_rows": 0 if validation is None else len(validation),
            "calibration_rows": 0 if calibration is None else len(calibration),
            "max_length": max_length,
            "truncated_share": sum(length > max_length for length in result.lengths) / len(result.lengths),
            "threshold": result.threshold if splits.held_out.problem_type == MULTI_LABEL else None,
            "held_out": metrics,
            "seeds": [recipe.seed],
            "versions": result.versions,
        }
        if result.search is not None:
            record["search"] = dict(result.search)
        longest, most = max(result.lengths), max_positions_of(result.model)
        record["advice"] = advice(record, result.epochs, longest, most)
        write_json(folder / RECORD, record)
        pictures = {name: caption for name, caption in _PICTURES.items() if (folder / name).is_file()}
        card = model_card(recipe.target.name, splits.held_out.problem_type, record, pictures)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return record
