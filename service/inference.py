"""From texts to predictions for any contract: until when the caller waits, and what is kept of the answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask import Request

from inferer.batching import Cancellation
from inferer.errors import CallerGoneError, DeadlineError, RunError, shown
from inferer.explain import Explanation
from inferer.options import CallOptions, ExplainOptions, Timings
from inferer.scoring import Prediction
from service.errors import ServiceError
from service.request import RequestRecord, record_of
from service.settings import RETRY_AFTER_S
from service.state import State

_TIMEOUT = "X-Request-Timeout-Ms"


def answer(state: State, request: Request, texts: Sequence[str], options: CallOptions) -> list[Prediction]:
    """Return the predictions for `texts`, in order.

    Raises ServiceError (Validation for a wrong timeout header, DeadlineExceeded), and what the inferer raises.
    """
    record = record_of(request.environ)
    record.texts = texts
    with _running(state, record):
        predictions, timings = state.inferer.predict_timed(texts, options, _cancellation(state, request, record))
    _keep(state, record, predictions, timings)
    state.metrics.count_predictions(predictions)
    return predictions


def explanation(state: State, request: Request, text: str, options: ExplainOptions) -> Explanation:
    """Return what each word of `text` contributes to a label. Errors as `answer`."""
    record = record_of(request.environ)
    record.texts = [text]
    with _running(state, record):
        explained, timings = state.inferer.explain_timed(text, options, _cancellation(state, request, record))
    _keep(state, record, [explained.prediction], timings)
    return explained


@contextmanager
def _running(state: State, record: RequestRecord) -> Iterator[None]:
    """Note how the runs in the block end, and turn a wait that was too long into its answer."""
    try:
        yield
    except (DeadlineError, CallerGoneError) as error:
        gone = isinstance(error, CallerGoneError)
        record.rejected = "caller_gone" if gone else "deadline"
        raise ServiceError(
            "DeadlineExceeded",
            f"{'the client closed its side' if gone else 'the deadline passed'} before the text was run; "
            f"it had waited {error.waited_s * 1000:.0f} ms",
            {"Retry-After": str(RETRY_AFTER_S)},
        ) from error
    except RunError:
        state.last_run_failed = True
        raise
    state.last_run_failed = False


def _keep(state: State, record: RequestRecord, predictions: Sequence[Prediction], timings: Timings) -> None:
    record.timings = timings
    record.num_tokens = [prediction.num_tokens for prediction in predictions]
    record.truncated = sum(prediction.truncated for prediction in predictions)
    record.abstained = sum(prediction.abstained or False for prediction in predictions)
    state.metrics.count_timings(timings)


def _cancellation(state: State, request: Request, record: RequestRecord) -> Cancellation:
    limit_ms = state.settings.deadline_ms
    given = request.headers.get(_TIMEOUT)
    if given is not None:
        if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) < 1:
            raise ServiceError("Validation", f"header {_TIMEOUT}: {shown(given)}: expected a whole number from 1")
        limit_ms = min(limit_ms, int(given))
    connection = request.environ.get("gunicorn.socket")
    return Cancellation(
        record.arrived + limit_ms / 1000, None if connection is None else lambda: _is_closed(connection)
    )


def _is_closed(connection: Any) -> bool:
    """Return whether the client has closed its side; nothing is taken from the connection."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ValueError:  # TLS: cannot be asked so
        return False
    except OSError:
        return True
