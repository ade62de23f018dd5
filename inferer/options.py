"""The choices of one call, and whether a model allows them; and where the time of a call went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inferer.bundle.reader import TRUNCATIONS
from inferer.config import check_thresholds, spread_thresholds
from inferer.errors import ConfigError
from inferer.scoring import ACTIVATIONS


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The choices of one call; None means the bundle's own.

    top_k: how many scores to return. truncation: "head", "tail", "head_tail", "windows" or "error". threshold: for
    multi-label, one number for every label or a mapping of labels to numbers. activation: what the logits shall become
    beside the model's own scores: "softmax", "sigmoid" or "none" (see `scoring.activated`).
    """

    top_k: int | None = None
    truncation: str | None = None
    threshold: float | Mapping[str, float] | None = None
    activation: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """The choices of an explanation: of which label, how a long text is cut, parts at most; None is the default."""

    label: str | None = None
    truncation: str | None = None
    max_parts: int | None = None


@dataclass(slots=True)
class Timings:
    """Where the time of a call went, in seconds: making tokens, waiting for runs, in runs (shared with others)."""

    tokenize_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0


def check_options(options: CallOptions, labels: tuple[str, ...], thresholds: Mapping[str, float] | None) -> CallOptions:
    """Return `options` with a threshold a label, if a model of these labels and thresholds allows them.

    thresholds: None for single-label. Raises ConfigError naming the option.
    """
    top_k, truncation = options.top_k, options.truncation
    if top_k is not None and not _is_count(top_k):
        raise ConfigError("top_k", top_k, "an integer of at least 1")
    if truncation is not None and truncation not in TRUNCATIONS:
        raise ConfigError("truncation", truncation, f"one of {', '.join(TRUNCATIONS)}")
    if options.activation is not None and options.activation not in ACTIVATIONS:
        raise ConfigError("activation", options.activation, f"one of {', '.join(ACTIVATIONS)}")
    threshold = check_thresholds("threshold", options.threshold)
    if threshold is not None:
        if thresholds is None:
            raise ConfigError("threshold", threshold, "none: thresholds are for multi-label models")
        threshold = spread_thresholds("threshold", threshold, labels, thresholds)
    return CallOptions(top_k, truncation, threshold, options.activation)


def check_explain_options(options: ExplainOptions, labels: tuple[str, ...]) -> CallOptions:
    """Return those of `options` that are any call's; raises ConfigError naming the one that is not allowed."""
    if options.max_parts is not None and not _is_count(options.max_parts):
        raise ConfigError("max_parts", options.max_parts, "an integer of at least 1")
    if options.label is not None and options.label not in labels:
        raise ConfigError("label", options.label, f"one of the labels {', '.join(labels)}")
    return check_options(CallOptions(truncation=options.truncation), labels, None)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
