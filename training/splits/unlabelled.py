"""Further texts for a run that learns from a teacher, and the probabilities of a teacher that is a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.manifest import SINGLE_LABEL
from inferer.tokens.texts import TextOrPair
from training.data.dataset import Columns, Dataset
from training.data.location import file_name, parse_location, redacted
from training.data.reader import is_table, read_further, read_probabilities
from training.errors import TrainingError
from training.recipe.recipe import Recipe
from training.splits.stratify import plain


@dataclass(frozen=True)
class Unlabelled:
    """Texts without labels, each once.

    probabilities: float64 [training rows + texts, labels], with NaN for a training row that the table lacks; None
    where the teacher is a model. notes: sentences about rows left out.
    """

    texts: tuple[TextOrPair, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


def read_unlabelled(recipe: Recipe, train: Dataset, others: Sequence[Dataset | None]) -> Unlabelled:
    """Return the texts that `recipe` adds to `train`, without those of `others`, which are held out.

    Raises DataError for faults of the file, TrainingError for a table that has none of the texts.
    """
    table = next((name for name in recipe.teacher if is_table(name)), None)
    given = train.columns
    columns = Columns(given.text_column, text_pair_column=given.text_pair_column, drop_empty=recipe.drop_empty)
    values = None
    if table is not None:
        exactly_one = train.problem_type == SINGLE_LABEL
        labelled = Columns(**{**vars(columns), "label_columns": train.labels})
        texts, values = read_probabilities(parse_location(table), labelled, exactly_one=exactly_one)
    elif recipe.unlabelled is not None:
        texts = read_further(recipe.unlabelled, columns, recipe.encoding).texts
    else:
        return Unlabelled()
    held_out = {plain(text) for part in others if part is not None for text in part.texts}
    trained = {plain(text) for text in train.texts}
    place: dict[TextOrPair, int] = {}  # the first row of each text
    for row, text in enumerate(texts):
        place.setdefault(plain(text), row)
    left_out = sum(key in held_out for key in place)
    added = [row for key, row in place.items() if key not in held_out and key not in trained]
    source = file_name(table or recipe.unlabelled or "")
    notes = [f"{left_out} texts of {source} were left out: they are among the held-out ones"] if left_out else []
    if values is None:
        return Unlabelled(tuple(texts[row] for row in added), None, tuple(notes))
    known = [place.get(plain(text)) for text in train.texts]
    if not added and not any(row is not None for row in known):
        raise TrainingError(f"teacher {redacted(table or '')}: has none of the texts to train on, and adds none")
    if unknown := sum(row is None for row in known):
        notes.append(f"{unknown} of {len(train)} training texts are not in {source}, and learn from their labels alone")
    nothing = np.full(len(train.labels), np.nan)
    found = [nothing if row is None else values[row] for row in known] + [values[row] for row in added]
    return Unlabelled(tuple(texts[row] for row in added), np.array(found), tuple(notes))
