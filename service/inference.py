"""The way of a request from its body to its reply, and the model calls with their deadline, counts and log values."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flask import Request, Response, request

from inferer.batching import Cancellation
from inferer.errors import CallerGoneError, ConfigError, InfererError, RunError, TextError, WaitError, shown
from inferer.explain import Explanation
from inferer.options import ExplainOptions, Timings
from inferer.scoring import Prediction
from inferer.tokens.texts import SIDES, TextOrPair, sides_of
from service.capacity import RETRY_AFTER_S
from service.contracts.base import Contract, ErrorTypes, Field, PredictCall
from service.errors import INTERNAL, ServiceError, wrong_field
from service.json_body import check_length, decode, json_response, read_body, validate
from service.request import RequestRecord, record_of
from service.settings import Settings
from service.state import State, current_state

_TIMEOUT = "X-Request-Timeout-Ms"
_EXPECTED_MS = "a whole number from 1 to 999999999"


def handle(contracts: Sequence[Contract], aliases: Mapping[str, str] | None = None) -> Response:
    """Reply to the current request by the contract that fits its body; aliases: see `read_body`."""
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of the proxy costs time
    data, content_type = read_body(current, dict.fromkeys(one.content_type for one in contracts), aliases)
    state = current_state()
    with state.capacity.memory(len(data)) as lease:
        decoded = decode(data, content_type)
        contract = _choose([one for one in contracts if one.content_type == content_type], decoded)
        body = validate(contract.body, decoded)
        call = contract.read(body)
        if contract.may_be_empty and not call.texts:
            return json_response(contract.render(body, [], state))
        _check_limits(call, state.settings)
        lease.add_scores(len(call.texts), len(state.inferer.labels))
        with _running(state, current, call, contract.errors) as cancellation:
            predictions, timings = _predict(state, current, call, cancellation)
        _note(state, current, predictions, timings)
        state.metrics.count_predictions(predictions)
        return json_response(contract.render(body, predictions, state))


def _predict(
    state: State, current: Request, call: PredictCall, cancellation: Cancellation
) -> tuple[list[Prediction], Timings]:
    most = state.settings.max_tokens_per_request
    if state.answer_cache is None:
        return state.inferer.predict_timed(call.texts, call.options, cancellation, most)

    def computed(texts: Sequence[TextOrPair], most: int | None) -> tuple[list[Prediction], Timings]:
        return state.inferer.predict_timed(texts, call.options, cancellation, most)

    predictions, timings, known = state.answer_cache.predict(call.texts, call.options, most, computed)
    record_of(current.environ).cached = known
    state.metrics.count_cached(known, len(predictions))
    return predictions, timings


def _choose(contracts: Sequence[Contract], body: object) -> Contract:
    """Return the first of `contracts` with a key in `body`, else the first."""
    return next((one for one in contracts if any(_has(body, key) for key in one.keys)), contracts[0])


def _has(body: object, key: str) -> bool:
    first, _, rest = key.partition(".")
    return isinstance(body, dict) and first in body and (not rest or _has(body[first], rest))


def _check_limits(call: PredictCall, limits: Settings) -> None:
    if not 1 <= len(call.texts) <= limits.max_texts:
        raise wrong_field(call.texts_field, f"has {len(call.texts)} texts, allowed are 1 to {limits.max_texts}")
    for text, field in zip(call.texts, call.fields, strict=True):
        for side, one in enumerate(sides_of(text)):
            check_length(one, _name(field, side), limits.max_text_chars)


def _name(field: Field, side: int | None) -> str:
    """Return the name of a text's field, or of the field of one text of a pair; side None: both, or their number."""
    return field if isinstance(field, str) else field[1 if side is None else side]


def explain(state: State, current: Request, text: TextOrPair, options: ExplainOptions) -> Explanation:
    """Return the contribution of each word of a text or pair to a label; raises ServiceError."""
    field: Field = "text" if isinstance(text, str) else SIDES
    with _running(state, current, PredictCall([text], [field]), {}) as cancellation:
        most = state.settings.max_tokens_per_request
        explanation, timings = state.inferer.explain_timed(text, options, cancellation, most)
    _note(state, current, [explanation.prediction], timings)
    return explanation


@contextmanager
def _running(state: State, current: Request, call: PredictCall, types: ErrorTypes) -> Iterator[Cancellation]:
    """Note the outcome of the model runs in the block; turn the inferer's errors into ServiceError.

    types: see `Contract.errors`. Raises ServiceError also for a wrong timeout header.
    """
    record = record_of(current.environ)
    record.texts = call.texts
    try:
        yield _cancellation(state, current, record)
    except (TextError, ConfigError, WaitError, RunError) as error:
        if isinstance(error, RunError):
            state.last_run_failed = True
        elif isinstance(error, WaitError):
            record.rejected = "caller_gone" if isinstance(error, CallerGoneError) else "deadline"
        raise _service_error(error, call, types) from error
    state.last_run_failed = False


def _service_error(error: InfererError, call: PredictCall, types: ErrorTypes) -> ServiceError:
    error_type = next((name for kind, name in types.items() if isinstance(error, kind)), None)
    if isinstance(error, TextError):
        return ServiceError(
            error_type or "Validation", f"field '{_name(call.fields[error.index or 0], error.side)}': {error.problem}"
        )
    if isinstance(error, ConfigError):
        wrong = f"field '{call.options_prefix}{error.name}': {shown(error.value)}"
        return ServiceError(error_type or "Validation", f"{wrong} is not allowed; expected {error.expected}")
    if isinstance(error, WaitError):
        why = "the client closed its side" if isinstance(error, CallerGoneError) else "the deadline passed"
        message = f"{why} before the last run for this request, {error.waited_s * 1000:.0f} ms after its arrival"
        return ServiceError("DeadlineExceeded", message, {"Retry-After": str(RETRY_AFTER_S)})
    return ServiceError(error_type or "Internal", INTERNAL)


def _note(state: State, current: Request, predictions: Sequence[Prediction], timings: Timings) -> None:
    """Keep the values that the request's headers and log line show."""
    record = record_of(current.environ)
    record.timings = timings
    record.num_tokens = [prediction.num_tokens for prediction in predictions]
    record.truncated = sum(prediction.truncated for prediction in predictions)
    record.abstained = sum(prediction.abstained or False for prediction in predictions)
    if record.trace is not None:
        record.labels = list(dict.fromkeys(label for prediction in predictions for label in prediction.labels))
    if record.cached != len(predictions):
        state.metrics.count_timings(timings)


def _cancellation(state: State, current: Request, record: RequestRecord) -> Cancellation:
    """Return the request's deadline, and the check for a client that is gone."""
    limit_ms = state.settings.deadline_ms
    given = current.headers.get(_TIMEOUT)
    if given is not None:
        if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) < 1:
            raise ServiceError("Validation", f"header {_TIMEOUT}: {shown(given)}: expected {_EXPECTED_MS}")
        limit_ms = min(limit_ms, int(given))
    connection = current.environ.get("gunicorn.socket")
    is_gone = None if connection is None else lambda: _is_closed(connection)
    return Cancellation(record.arrived + limit_ms / 1000, is_gone, record.arrived)


def _is_closed(connection: Any) -> bool:
    """Return whether the client has closed its side; reads nothing from the connection."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, ValueError):  # ValueError: a TLS connection cannot be peeked at
        return False
    except OSError:
        return True
