"""Counts and examples of scored batches; those of the parts of a job add up to those of the whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from bulk.scoring import ERROR, LABEL, LABELS, SCORE, TRUNCATED, ScoreOptions
from bulk.tables.batches import LEFT_OVER

BINS = 20  # of the score of the best label, from 0 to 1; as many as the bundle's reference has
NO_LABEL = "(no label)"
NEEDED = (LABEL, SCORE, TRUNCATED)
_EXAMPLES = 3  # per label, at either end
_SHOWN = 300  # characters of an example

Example = list[Any]  # the score and the start of the text


@dataclass
class Tally:
    """labels: predictions of each; a multi-label row counts for each of its labels. scores: rows per bin of BINS.

    errors: rows per error, without its numbers and the row's own cells. most, least: the examples per label with the
    highest and the lowest scores.
    """

    rows: int = 0
    truncated: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    scores: list[int] = field(default_factory=lambda: [0] * BINS)
    errors: dict[str, int] = field(default_factory=dict)
    most: dict[str, list[Example]] = field(default_factory=dict)
    least: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add the counts of `other`, and keep the better examples of both."""
        self.rows += other.rows
        self.truncated += other.truncated
        self.labels = dict(Counter(self.labels) + Counter(other.labels))
        self.errors = dict(Counter(self.errors) + Counter(other.errors))
        self.scores = [one + two for one, two in zip(self.scores, other.scores, strict=True)]
        for ours, theirs, highest in ((self.most, other.most, True), (self.least, other.least, False)):
            for label, examples in theirs.items():
                ours[label] = _best([*ours.get(label, []), *examples], highest=highest)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it; `Tally(**…)` reads it back."""
        return asdict(self)


def tally_of(batch: pa.RecordBatch, options: ScoreOptions) -> Tally:
    """Return the tally of a batch with predictions, which has the columns NEEDED."""
    tally = Tally(rows=batch.num_rows)
    found: dict[str, list[Example]] = {}
    labels: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for text, names, score, truncated, error in _rows(batch, options):
        if error is not None:
            errors[re.sub(r"\d[\d,.]*", "N", error.split(LEFT_OVER)[0])] += 1
            continue
        tally.truncated += bool(truncated)
        tally.scores[min(int(score * BINS), BINS - 1)] += 1
        labels.update(names or [NO_LABEL])
        for name in names or [NO_LABEL]:
            found.setdefault(name, []).append([score, text[:_SHOWN]])
    tally.labels, tally.errors = dict(labels), dict(errors)
    tally.most = {label: _best(examples, highest=True) for label, examples in found.items()}
    tally.least = {label: _best(examples, highest=False) for label, examples in found.items()}
    return tally


def _rows(batch: pa.RecordBatch, options: ScoreOptions) -> Iterator[tuple[str, list[str], float, bool, str | None]]:
    prefixed = {name: options.prefix + name for name in (LABEL, LABELS, SCORE)}
    columns = {name: batch.column(at).to_pylist() for name, at in prefixed.items() if at in batch.schema.names}
    names = columns.get(LABELS) or [[] if label is None else [label] for label in columns[LABEL]]
    texts, cut, errors = (batch.column(name).to_pylist() for name in (options.text_column, TRUNCATED, ERROR))
    yield from zip(texts, names, columns[SCORE], cut, errors, strict=True)


def _best(examples: list[Example], *, highest: bool) -> list[Example]:
    """Return the examples with the highest or lowest scores, each text once."""
    once = {text: score for score, text in reversed(examples)}
    ordered = sorted(once.items(), key=lambda one: (-one[1] if highest else one[1], one[0]))
    return [[score, text] for text, score in ordered[:_EXAMPLES]]
