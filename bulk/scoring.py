"""The engine of every job: record batches in, the same batches with columns of predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import pyarrow as pa

from bulk.errors import JobError
from bulk.tables.batches import ROW_FAULT
from inferer.answers.cache import AnswerCache
from inferer.bundle.manifest import MULTI_LABEL
from inferer.errors import TextError
from inferer.model import ModelInferer
from inferer.options import CallOptions, Timings
from inferer.scoring import Prediction
from inferer.tokens.texts import TextOrPair, characters_of, sides_of

LABEL, SCORE, LABELS, SCORES, ABSTAINED = "label", "score", "labels", "scores", "abstained"
NUM_TOKENS, TRUNCATED, ERROR = "num_tokens", "truncated", "error"
CHOICES = (LABEL, SCORE, LABELS, SCORES, ABSTAINED, NUM_TOKENS, TRUNCATED)
DEFAULT = (LABEL, SCORE, NUM_TOKENS, TRUNCATED)
_PREFIXED = (LABEL, SCORE, LABELS, SCORES, ABSTAINED)
_AT_ONCE = 256  # texts per call of the model, which forms runs of similar length among them
_ANSWER_BYTES = 32_000_000  # of the answers that a model keeps: of about 27,000 texts of 100 characters
_answers: WeakKeyDictionary[ModelInferer, AnswerCache] = WeakKeyDictionary()


@dataclass(frozen=True)
class ScoreOptions:
    """What to predict.

    columns: of CHOICES, beside `error`; None for `default_columns`. prefix: before the names of labels and scores.

    truncation, threshold: as `ModelInferer.predict`. max_chars: a longer text gets an error. dedupe: whether equal
    texts are computed once, in a batch and while the model keeps their answer. text_pair_column: of the second texts,
    for a model that reads pairs.
    """

    text_column: str
    columns: tuple[str, ...] | None = None
    prefix: str = "predicted_"
    truncation: str | None = None
    threshold: float | None = None
    max_chars: int = 1_000_000
    dedupe: bool = True
    text_pair_column: str | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Return the column of the texts, or both columns of pairs."""
        return (self.text_column,) if self.text_pair_column is None else (self.text_column, self.text_pair_column)

    def resolved(self, model: ModelInferer) -> ScoreOptions:
        """Return these with the columns chosen. Raises InfererError for options that `model` does not have."""
        if model.text_pair and self.text_pair_column is None:
            raise JobError("the model reads pairs: give --text-pair-column, the column of the second texts")
        if self.text_pair_column is not None and not model.text_pair:
            raise JobError(f"--text-pair-column is {self.text_pair_column!r}, but the model reads one text")
        if self.text_pair_column == self.text_column:
            raise JobError(f"the column {self.text_column!r} cannot be both texts of a pair")
        pair = None if self.text_pair_column is None else "a"
        model.predict("a", pair, truncation=self.truncation, threshold=self.threshold)
        return self if self.columns is not None else replace(self, columns=default_columns(model))

    def fields(self) -> list[pa.Field]:
        """Return the columns that a prediction adds."""
        kinds = {
            LABEL: pa.string(),
            SCORE: pa.float64(),
            LABELS: pa.list_(pa.string()),
            SCORES: pa.map_(pa.string(), pa.float64()),
            ABSTAINED: pa.bool_(),
            NUM_TOKENS: pa.int32(),
            TRUNCATED: pa.bool_(),
            ERROR: pa.string(),
        }
        chosen = (*(name for name in CHOICES if name in (self.columns or DEFAULT)), ERROR)
        return [pa.field(self.prefix + name if name in _PREFIXED else name, kinds[name]) for name in chosen]


def output_schema(schema: pa.Schema, options: ScoreOptions) -> pa.Schema:
    """Return the columns of the output for an input of `schema`. Raises JobError for a name that both have."""
    kept = [field for field in schema if field.name != ROW_FAULT]
    added = options.fields()
    names = {field.name for field in kept}
    if both := [field.name for field in added if field.name in names]:
        remedy = "give another --prefix" if both[0].startswith(options.prefix) and options.prefix else "rename it"
        raise JobError(f"the input already has the column {both[0]!r}: {remedy}")
    return pa.schema([*kept, *added])


def score(batches: Iterable[pa.RecordBatch], model: ModelInferer, options: ScoreOptions) -> Iterator[pa.RecordBatch]:
    """Yield each batch with the predictions for its text column, in the columns of `output_schema`.

    A row without a prediction has its reason in `error`: a null or an empty text, one that is longer than allowed, or
    the fault in the column ROW_FAULT, which is left out. A prediction does not depend on the batch that its row is in.
    """
    options = options.resolved(model)
    for batch in batches:
        texts = _texts(batch, options)
        faults = batch.column(ROW_FAULT).to_pylist() if ROW_FAULT in batch.schema.names else [None] * len(texts)
        results = _predictions(texts, faults, model, options)
        schema = output_schema(batch.schema, options)
        kept = [column for name, column in zip(batch.schema.names, batch.columns, strict=True) if name != ROW_FAULT]
        yield pa.record_batch([*kept, *_arrays(results, options)], schema=schema)


def _texts(batch: pa.RecordBatch, options: ScoreOptions) -> list[TextOrPair | None]:
    """Return the text or pair of each row; None where a text is null."""
    first, *second = (batch.column(name).to_pylist() for name in options.text_columns)
    if not second:
        return list(first)
    return [None if None in pair else pair for pair in zip(first, second[0], strict=True)]


def _predictions(
    texts: Sequence[TextOrPair | None], faults: Sequence[str | None], model: ModelInferer, options: ScoreOptions
) -> list[Prediction | str]:
    """Return the prediction, or the reason why there is none, for each text."""
    found: list[Prediction | str] = [""] * len(texts)
    places: dict[object, list[int]] = {}
    for place, (text, fault) in enumerate(zip(texts, faults, strict=True)):
        if fault is not None:
            found[place] = fault
        elif text is None:
            found[place] = "the text is null"
        elif (longest := max(map(len, sides_of(text)))) > options.max_chars:
            found[place] = f"the text has {longest} characters, at most {options.max_chars} are allowed"
        else:
            places.setdefault(text if options.dedupe else place, []).append(place)
    # Texts of similar length go together, so that runs have little padding.
    order = sorted(places.values(), key=lambda rows: characters_of(texts[rows[0]] or ""))
    for start in range(0, len(order), _AT_ONCE):
        waiting = order[start : start + _AT_ONCE]
        while waiting:
            try:
                part = [texts[rows[0]] or "" for rows in waiting]
                predicted = _predicted(part, model, options)
            except TextError as error:
                if error.index is None:
                    raise
                for row in waiting.pop(error.index):
                    found[row] = error.problem
                continue
            for rows, prediction in zip(waiting, predicted, strict=True):
                for row in rows:
                    found[row] = prediction
            break
    return found


def _predicted(texts: Sequence[TextOrPair], model: ModelInferer, options: ScoreOptions) -> list[Prediction]:
    """Return the predictions, computed or kept. Raises TextError with the index of the first faulty text."""

    def computed(new: Sequence[TextOrPair], _: int | None) -> tuple[list[Prediction], Timings]:
        return model.predict_batch(new, truncation=options.truncation, threshold=options.threshold), Timings()

    if not options.dedupe:
        return computed(texts, None)[0]
    answers = _answers.setdefault(model, AnswerCache(_ANSWER_BYTES))
    return answers.predict(texts, CallOptions(None, options.truncation, options.threshold), None, computed)[0]


def _arrays(results: Sequence[Prediction | str], options: ScoreOptions) -> list[pa.Array]:
    made: dict[str, list[object]] = {ERROR: [one if isinstance(one, str) else None for one in results]}
    for name in options.columns or DEFAULT:
        made[name] = [None if isinstance(one, str) else _value(one, name) for one in results]
    chosen = (name for name in (*CHOICES, ERROR) if name in made)
    return [pa.array(made[name], field.type) for name, field in zip(chosen, options.fields(), strict=True)]


def _value(prediction: Prediction, name: str) -> object:
    if name == SCORES:
        return list(prediction.scores.items())
    if name == LABELS:
        return list(prediction.labels)
    value: object = getattr(prediction, name)
    return value


def default_columns(model: ModelInferer) -> tuple[str, ...]:
    """Return the columns that a job adds unless told otherwise.

    A multi-label model has its labels too, and a model that may abstain says whether it did.
    """
    labels = (LABELS,) if model.problem_type == MULTI_LABEL else ()
    abstained = () if model.abstain_threshold is None else (ABSTAINED,)
    return (*DEFAULT, *labels, *abstained)
