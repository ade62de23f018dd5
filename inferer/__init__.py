"""Predictions from a model bundle with numpy, onnxruntime and tokenizers alone.

Names that need numpy or onnxruntime are imported on first use: the server imports inferer.cpu before the fork.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inferer.bundle.reader import Bundle, read_bundle
from inferer.errors import (
    BundleError,
    CallerGoneError,
    CheckpointError,
    ConfigError,
    DeadlineError,
    EmptyTextError,
    GoldenCheckError,
    InfererError,
    PairError,
    RunError,
    TextError,
    TextTooLongError,
    TooManyTokensError,
    WaitError,
)
from inferer.version import __version__ as __version__

if TYPE_CHECKING:
    from inferer.explain import Explanation
    from inferer.model import ModelInferer
    from inferer.scoring import Prediction

__all__ = [
    "Bundle",
    "BundleError",
    "CallerGoneError",
    "CheckpointError",
    "ConfigError",
    "DeadlineError",
    "EmptyTextError",
    "Explanation",
    "GoldenCheckError",
    "InfererError",
    "ModelInferer",
    "PairError",
    "Prediction",
    "RunError",
    "TextError",
    "TextTooLongError",
    "TooManyTokensError",
    "WaitError",
    "read_bundle",
]

_LAZY = {"Explanation": "inferer.explain", "ModelInferer": "inferer.model", "Prediction": "inferer.scoring"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
