"""The errors that inferer raises, from a bundle or a text to its prediction. They know nothing of HTTP."""

from __future__ import annotations

import os
from pathlib import PurePath


def shown(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, cut to `limit` characters, for a message; a path stays whole."""
    if isinstance(value, PurePath):
        return repr(str(value))
    try:
        text = repr(value[: limit + 1] if isinstance(value, str) else value)  # all of a huge string would cost memory
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type when the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class InfererError(Exception):
    """Root of the errors that this package raises deliberately."""


class ConfigError(InfererError):
    """An argument or a configuration value is not allowed."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name}: {shown(value)} is not allowed; expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class BundleError(InfererError):
    """A model bundle is missing, damaged or inconsistent; `problem` names the fault."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"bundle {os.fspath(path)}: {problem}")
        self.path = path
        self.problem = problem

    @classmethod
    def unexpected(cls, path: str | os.PathLike[str], name: str, value: object, expected: str) -> BundleError:
        """Return the error for a value in the bundle that is not as expected."""
        return cls(path, f"{name} is {shown(value)}, expected {expected}")


class GoldenCheckError(BundleError):
    """The stored texts get other scores on this CPU than at export; `problem` says by how much, and the remedy."""


class CheckpointError(InfererError):
    """A PyTorch checkpoint cannot be turned into a bundle; `problem` gives the reason."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"checkpoint {os.fspath(path)}: {problem}")
        self.path = path
        self.problem = problem


class TextError(InfererError):
    """A text cannot be classified.

    index: its place in a batch, None for a single text. side: of a pair, 0 or 1; None where both or no pair are meant.
    """

    def __init__(self, problem: str, index: int | None = None, side: int | None = None) -> None:
        super().__init__(problem if index is None else f"text {index}: {problem}")
        self.problem = problem
        self.index = index
        self.side = side

    def at(self, index: int) -> TextError:
        """Return the same error for the text at place `index` of a batch."""
        return type(self)(self.problem, index, self.side)


class EmptyTextError(TextError):
    """The text is empty or nothing but white space."""


class PairError(TextError):
    """The model reads pairs of texts and got one text, or the reverse."""


class TextTooLongError(TextError):
    """The text has more tokens than the model allows, and the caller chose truncation "error"."""


class TooManyTokensError(TextError):
    """The texts of a call have more tokens together than the caller allows."""


class WaitError(InfererError):
    """A call with valid texts was ended before its last run, `waited_s` seconds after its arrival."""

    reason = "the call was cancelled"

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"{self.reason} after {waited_s:.3f} s of waiting, before the model's last run")
        self.waited_s = waited_s


class DeadlineError(WaitError):
    """The deadline of the call passed before its last run."""

    reason = "the deadline passed"


class CallerGoneError(WaitError):
    """The caller left before the last run of the call."""

    reason = "the caller gave up"


class RunError(InfererError):
    """The runtime failed on a valid text."""
