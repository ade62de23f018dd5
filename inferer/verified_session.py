"""A session that has reproduced the bundle's golden set on this CPU.

The checks use the bundle's own facts and ignore a caller's config.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inferer.batching import MAX_BATCH_TOKENS, Batcher
from inferer.bundle.golden import ENFORCE, FAILED, OFF, PASSED, GoldenCheck, compare, unit_of
from inferer.bundle.manifest import REGRESSION
from inferer.bundle.reader import CONFIG, FP32, INT8_TENSOR, INT8_TOKEN, TOKENIZER, Bundle
from inferer.cpu import instruction_flags, is_x86_64
from inferer.errors import BundleError, GoldenCheckError, RunError, TextError, shown
from inferer.scoring import activate
from inferer.session import Session
from inferer.tokens.encoding import Encoder, Encoding

log = logging.getLogger("inferer")

_ONE_SCALE = f"{INT8_TENSOR} takes one scale for a whole batch"
_UNCHECKED = "the golden check, which compares texts alone and in a batch, is off"
_OTHER_BITS = "on this CPU this model's logits depend on the batch"


class Loaded(NamedTuple):
    """A session that may serve.

    exact_because: why it computes int8 products exactly; None where it need not. golden_check: the result.
    alone_because: why texts may not share a run; None where they may.
    """

    session: Session
    exact_because: str | None
    golden_check: GoldenCheck
    alone_because: str | None


class Make(Protocol):
    """The maker of a session: exact or as the CPU seems to need, with the native operators or without."""

    def __call__(self, exact: bool, *, native: bool = True) -> Session:
        """Return a new session."""


class _GoldenRun(NamedTuple):
    """A run of the golden set: the check, and the texts' encodings with the logits of each text alone."""

    check: GoldenCheck
    encodings: list[Encoding]
    rows: list[NDArray[np.float32]]


def load(bundle: Bundle, scheme: str, mode: str, make: Make, max_batch_tokens: int = MAX_BATCH_TOKENS) -> Loaded:
    """Return a session that passed the golden check; `mode` "warn" logs a failure instead, "off" skips the check.

    scheme: the model to run. A model that fails with the native operators runs without them. /proc/cpuinfo may show
    another CPU than the one that computes (an emulator, some containers), so an int8 model that fails on x86-64 is
    tried once more with exact products. Raises GoldenCheckError, or BundleError for a golden text that cannot be run.
    """
    encoder = Encoder(
        bundle.path / TOKENIZER,
        bundle.max_length,
        pair=bundle.text_pair,
        token_types=bundle.token_types,
        sha256=bundle.sha256(TOKENIZER),
    )
    _check_vocabulary(bundle, encoder)
    session = make(False)
    exact_because = "this CPU shows no VNNI instructions" if session.exact and scheme != FP32 else None
    if mode == OFF:
        alone_because = {INT8_TOKEN: None, INT8_TENSOR: _ONE_SCALE}.get(scheme, _UNCHECKED)
        return Loaded(session, exact_because, GoldenCheck(OFF), alone_because)
    golden = _golden_check(bundle, scheme, encoder, session)
    if golden.check.outcome == FAILED and session.native:
        plain = make(False, native=False)
        without = _golden_check(bundle, scheme, encoder, plain)
        if without.check.outcome == PASSED:
            log.warning("%s with the native operators; the model runs without them, slower", golden.check)
            session, golden = plain, without
    found, tried = golden.check, ""
    if found.outcome == FAILED and scheme != FP32 and not session.exact and is_x86_64():
        exact = make(True)
        again = _golden_check(bundle, scheme, encoder, exact) if exact.exact else None
        if again is not None and again.check.outcome == PASSED:
            alone_because = _alone_because(scheme, exact, again, max_batch_tokens)
            return Loaded(exact, "the golden check failed without", again.check, alone_because)
        tried = "exact int8 arithmetic did not help; " if again else "this model allows no exact int8 arithmetic; "
    if found.outcome == FAILED:
        error = GoldenCheckError(bundle.path, f"{found}; {tried}{_remedy(bundle)}")
        if mode == ENFORCE:
            raise error
        log.warning("%s", error)
    return Loaded(session, exact_because, found, _alone_because(scheme, session, golden, max_batch_tokens))


def check_shape(bundle: Bundle, logits: NDArray[np.float32]) -> None:
    """Raise BundleError unless there is one logit per label."""
    if logits.shape != (len(bundle.labels),):
        problem = f"the model gives {logits.size} logits per text, {CONFIG} names {len(bundle.labels)} labels"
        raise BundleError(bundle.path, problem)


def _check_vocabulary(bundle: Bundle, encoder: Encoder) -> None:
    """Raise BundleError when the tokenizer may produce an id without an embedding in the model."""
    highest, token = encoder.highest_id()
    if highest >= bundle.vocab_size:
        embedded = f"the model has embeddings for 0 to {bundle.vocab_size - 1} (vocab_size in {CONFIG})"
        raise BundleError(bundle.path, f"{TOKENIZER} has the id {highest} ({shown(token)}), {embedded}")


def _alone_because(scheme: str, session: Session, golden: _GoldenRun, max_batch_tokens: int) -> str | None:
    """Return why texts may not share a run: the scheme, or a CPU on which logits depend on the batch. None: they may.

    The golden texts run again, each twice, in batches as in serving, and must keep every bit.
    """
    if scheme == INT8_TENSOR:
        return _ONE_SCALE
    batched = Batcher(session.run_batch, max_tokens=max_batch_tokens).run(golden.encodings * 2).rows
    if all(np.array_equal(one, other) for one, other in zip(batched, golden.rows * 2, strict=True)):
        return None
    log.warning("%s; every text runs alone", _OTHER_BITS)
    return _OTHER_BITS


def _golden_check(bundle: Bundle, scheme: str, encoder: Encoder, session: Session) -> _GoldenRun:
    stored = [one.fp32 if scheme == FP32 or one.int8 is None else one.int8 for one in bundle.golden]
    encodings, rows = [], []
    for golden in bundle.golden:
        try:
            encoding = encoder.encode_one(golden.text)
            logits = session.run(encoding)
        except (TextError, RunError) as error:
            raise BundleError(bundle.path, f"the golden text {shown(golden.text)} cannot be run: {error}") from error
        check_shape(bundle, logits)
        encodings.append(encoding)
        rows.append(logits)
    if bundle.problem_type == REGRESSION:  # of the numbers themselves: a sigmoid would hide a change of large ones
        check = compare(zip(stored, [row.tolist() for row in rows], strict=True), unit_of(stored))
    else:
        expected, found = (
            [activate(np.array(row), bundle.activation).tolist() for row in part] for part in (stored, rows)
        )
        check = compare(zip(expected, found, strict=True))
    return _GoldenRun(check, encodings, rows)


def _remedy(bundle: Bundle) -> str:
    machine = bundle.manifest.get("machine")
    there = machine.get("cpu_flags") if isinstance(machine, Mapping) else None
    return (
        f"CPU flags here: {' '.join(instruction_flags()) or 'none known'}; where it was exported: "
        f"{' '.join(map(str, there)) if isinstance(there, list) and there else 'none known'}; export it on this "
        "kind of CPU, serve fp32 (export with --scheme fp32), or set INFERER_GOLDEN_CHECK=warn (golden_check='warn')"
    )
