"""Everything that can go wrong between a text and its prediction. No word of HTTP here.

InfererError
├── ConfigError            an argument or a config value that is not allowed
├── BundleError            the bundle is missing, damaged or inconsistent
│   └── GoldenCheckError     its stored texts get other answers on this CPU
├── CheckpointError        a PyTorch checkpoint could not be turned into a bundle
├── TextError              this text cannot be classified
│   ├── EmptyTextError       nothing but white space
│   └── TextTooLongError     more tokens than allowed, and truncation is "error"
├── WaitError              a valid text was not run, because its caller waits no more
│   ├── DeadlineError        its deadline passed
│   └── CallerGoneError      its caller gave up
└── RunError               the runtime failed on a valid text

predict(text) ── encode ─▶ TextError      ModelInferer(...) ─▶ ConfigError, CheckpointError, BundleError
├─ wait   ─▶ WaitError
└─ run    ─▶ RunError
"""

from __future__ import annotations

import os


def shown(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, cut to `limit` characters, for a message."""
    # A prefix of a huge string says as much, and repr() of all of it would cost memory.
    try:
        text = repr(value[: limit + 1] if isinstance(value, str) else value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def first_line(error: BaseException) -> str:
    """Return the first line of what a foreign library's error says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class InfererError(Exception):
    """Root of the errors that this package raises on purpose."""


class ConfigError(InfererError):
    """An argument or a configuration value is not allowed."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name}: {shown(value)} is not allowed; expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class BundleError(InfererError):
    """A model bundle is missing, damaged or inconsistent; `problem` says how."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"bundle {os.fspath(path)}: {problem}")
        self.path = path
        self.problem = problem


class GoldenCheckError(BundleError):
    """The stored texts get other answers on this CPU than at export; `problem` says how far off, and what to do."""


class CheckpointError(InfererError):
    """A PyTorch checkpoint cannot be turned into a bundle; `problem` says why."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"checkpoint {os.fspath(path)}: {problem}")
        self.path = path
        self.problem = problem


class TextError(InfererError):
    """A text cannot be classified. `index` is its place in a batch, None when it came alone."""

    def __init__(self, problem: str, index: int | None = None) -> None:
        super().__init__(problem if index is None else f"text {index}: {problem}")
        self.problem = problem
        self.index = index

    def at(self, index: int) -> TextError:
        """Return the same error for the text at place `index` of a batch."""
        return type(self)(self.problem, index)


class EmptyTextError(TextError):
    """The text is empty or only white space."""

    def __init__(self, problem: str = "the text is empty", index: int | None = None) -> None:
        super().__init__(problem, index)


class TextTooLongError(TextError):
    """The text has more tokens than the model reads, and the caller asked for an error then."""

    @classmethod
    def of(cls, num_tokens: int, max_length: int) -> TextTooLongError:
        """Return the error for a text of `num_tokens` tokens where `max_length` are allowed."""
        return cls(f"the text has {num_tokens} tokens, at most {max_length} are allowed with truncation 'error'")


class WaitError(InfererError):
    """A valid text was dropped before it was run; `waited_s` says how long it had waited, in seconds."""

    def __init__(self, why: str, waited_s: float) -> None:
        super().__init__(f"{why} after {waited_s:.3f} s of waiting, before the model was run")
        self.waited_s = waited_s


class DeadlineError(WaitError):
    """The deadline of the call passed while a text waited for its run."""

    def __init__(self, waited_s: float) -> None:
        super().__init__("the deadline passed", waited_s)


class CallerGoneError(WaitError):
    """Whoever asked gave up while a text waited for its run."""

    def __init__(self, waited_s: float) -> None:
        super().__init__("the caller gave up", waited_s)


class RunError(InfererError):
    """The runtime failed on a valid text."""
