"""Architectures that are refused by name, because their bundles would be wrong or could not be made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from transformers import PreTrainedModel

from export.errors import ExportError
from inferer.errors import first_line
from training.unsupported import UNSUPPORTED

_BY_LENGTH = {"dynamic", "longrope"}  # kinds of rotary positions
_REMEDY = "fine-tune another base model: `inferer train --base-model FOLDER`"


def refuse_unsupported(model: PreTrainedModel, max_length: int) -> None:
    """Raise ExportError, with the reason, for an architecture that a bundle of texts up to `max_length` cannot have."""
    kind = str(model.config.model_type)
    reason = UNSUPPORTED.get(kind)
    if reason is not None:
        raise cannot_be_exported(kind, f"{reason}; {_REMEDY}")
    if by_length := _rope_types(getattr(model.config, "rope_parameters", None)) & _BY_LENGTH:
        raise cannot_be_exported(
            kind,
            f"rope_type is {min(by_length)!r}, which turns positions by the length of the longest text of a batch; "
            f"{_REMEDY}",
        )
    check = _CHECKS.get(kind)
    if check is not None and (fault := check(model.config, max_length)) is not None:
        raise cannot_be_exported(kind, fault)


def cannot_be_exported(kind: str, why: str | BaseException) -> ExportError:
    """Return the error for the architecture `kind`; of an exception, its deepest cause tells why."""
    if isinstance(why, BaseException):
        cause = why
        while cause.__cause__ is not None:
            cause = cause.__cause__
        why = first_line(cause)
    return ExportError(f"architecture '{kind}' cannot be exported: {why}")


@contextlib.contextmanager
def faults_named(kind: str) -> Iterator[None]:
    """Name the architecture `kind` where a step meets a graph that it was not made for."""
    try:
        yield
    except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise cannot_be_exported(kind, error) from error


def _rope_types(found: object) -> set[str]:
    """Return each kind of rotary positions in `found`: settings, or settings per kind of layer."""
    if not isinstance(found, dict):
        return set()
    return {str(found.get("rope_type"))}.union(*map(_rope_types, found.values()))


def _big_bird(config: Any, max_length: int) -> str | None:
    """Refuse sparse attention; of shorter texts transformers itself computes the whole, and of all texts after one."""
    whole = (5 + 2 * config.num_random_blocks) * config.block_size
    if config.attention_type == "original_full" or max_length <= whole:
        return None
    return (
        f"attention_type is {config.attention_type!r}, which reads random parts of a text of more than {whole} tokens, "
        f"and max_length is {max_length}; export with --max-length {whole}"
    )


_CHECKS: dict[str, Callable[[Any, int], str | None]] = {"big_bird": _big_bird}
