"""Text in, prediction out: reads a model bundle and answers with numpy, onnxruntime and tokenizers alone.

Names are handed on lazily, so that `import inferer.cpu` (which gunicorn's configuration does before it
forks) does not bring in onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        RunError,
        TextError,
        TextTooLongError,
        WaitError,
    )
    from inferer.explain import Explanation
    from inferer.model import ModelInferer
    from inferer.scoring import Prediction

__version__ = "0.1.0"

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
    "Prediction",
    "RunError",
    "TextError",
    "TextTooLongError",
    "WaitError",
    "read_bundle",
]

_HOMES = {
    "Bundle": "inferer.bundle.reader",
    "read_bundle": "inferer.bundle.reader",
    "Explanation": "inferer.explain",
    "ModelInferer": "inferer.model",
    "Prediction": "inferer.scoring",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home the first time it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "inferer.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
