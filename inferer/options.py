"""The options of one call, checked against the model, and the timings of a call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inferer.batching import ModelRun
from inferer.bundle.manifest import ACTIVATIONS, SOFTMAX, is_int
from inferer.bundle.reader import TRUNCATIONS
from inferer.config import Threshold, check_thresholds, spread_thresholds
from inferer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The options of one prediction; None means the bundle's own.

    top_k: how many scores to return. truncation: "head", "tail", "head_tail", "windows" or "error"; of pairs also
    "longest_first", "only_first" and "only_second", without "head". threshold: for
    multi-label, one number for every label or a mapping of labels to numbers. activation: a second set of scores
    beside the model's own: "softmax", "sigmoid" or "none" (see `scoring.activated`).
    """

    top_k: int | None = None
    truncation: str | None = None
    threshold: Threshold | None = None
    activation: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """The options of one explanation: the label, the truncation, the most parts; None is the default."""

    label: str | None = None
    truncation: str | None = None
    max_parts: int | None = None


@dataclass(slots=True)
class Timings:
    """Seconds that a call spent on tokens, in the queue, and in runs (shared with other callers).

    tokenized_from: time.monotonic(); 0 before the first text.
    """

    tokenized_from: float = 0.0
    tokenize_s: float = 0.0
    runs: list[ModelRun] = field(default_factory=list)

    @property
    def queue_s(self) -> float:
        """Return the seconds before the runs, without those in which another run of the call was in progress."""
        return _covered((run.queued, run.started + run.infer_s) for run in self.runs) - self.infer_s

    @property
    def infer_s(self) -> float:
        """Return the seconds in runs; those in several side by side count once."""
        return _covered((run.started, run.started + run.infer_s) for run in self.runs)


def check_options(
    options: CallOptions,
    labels: tuple[str, ...],
    thresholds: Mapping[str, float] | None,
    truncations: tuple[str, ...] = TRUNCATIONS,
) -> CallOptions:
    """Return `options` with one threshold per label, checked against the model's labels and thresholds.

    thresholds: None unless multi-label. truncations: those of the bundle. Raises ConfigError, naming the option.
    """
    top_k, truncation = options.top_k, options.truncation
    if top_k is not None and not is_int(top_k, 1):
        raise ConfigError("top_k", top_k, "an integer of at least 1")
    if truncation is not None and truncation not in truncations:
        raise ConfigError("truncation", truncation, f"one of {', '.join(truncations)}")
    if options.activation is not None and options.activation not in ACTIVATIONS:
        raise ConfigError("activation", options.activation, f"one of {', '.join(ACTIVATIONS)}")
    if options.activation == SOFTMAX and len(labels) == 1:
        raise ConfigError("activation", SOFTMAX, "sigmoid or none: softmax over one logit is always 1")
    threshold = check_thresholds("threshold", options.threshold)
    if threshold is not None:
        if thresholds is None:
            raise ConfigError("threshold", threshold, "none: thresholds are for multi-label models")
        threshold = spread_thresholds("threshold", threshold, labels, thresholds)
    return CallOptions(top_k, truncation, threshold, options.activation)


def check_explain_options(
    options: ExplainOptions, labels: tuple[str, ...], truncations: tuple[str, ...] = TRUNCATIONS
) -> CallOptions:
    """Check `options` and return their part that every call has; raises ConfigError, naming the option."""
    if options.max_parts is not None and not is_int(options.max_parts, 1):
        raise ConfigError("max_parts", options.max_parts, "an integer of at least 1")
    if options.label is not None and options.label not in labels:
        raise ConfigError("label", options.label, f"one of the labels {', '.join(labels)}")
    return check_options(CallOptions(truncation=options.truncation), labels, None, truncations)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of `spans`, each from a start to an end."""
    total, last = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total
