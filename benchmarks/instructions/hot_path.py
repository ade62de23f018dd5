"""The hot path in a process of its own, for valgrind: so many calls of `predict`, or requests through the application.

Run as `python -m benchmarks.instructions.hot_path predict|request BUNDLE NUMBER`.
"""

from __future__ import annotations

import io
import sys
from typing import Any

TEXT = "good plain odd bad good"
_BODY = b'{"text": "good plain odd bad good"}'


def predict(bundle: str, number: int) -> None:
    """Predict one text `number` times, on one thread."""
    from inferer import ModelInferer

    model = ModelInferer(bundle, intra_op_threads=1)
    for _ in range(number):
        model.predict(TEXT)


def request(bundle: str, number: int) -> None:
    """Send `number` requests through the application, each with its line in the log on stderr."""
    from gunicorn.config import Config
    from werkzeug.test import create_environ

    from service.app import create_app
    from service.settings import from_env
    from service.telemetry.logs import ServiceLogger

    ServiceLogger(Config())
    settings = {"INFERER_BUNDLE": bundle, "INFERER_INTRA_OP_THREADS": "1", "INFERER_LOG_FORMAT": "json"}
    app = create_app(from_env(settings))
    head = create_environ("/predict", method="POST", data=_BODY, content_type="application/json")
    said: list[str] = []

    def start_response(status: str, _: Any, __: Any = None) -> Any:
        said[:] = [status]

    for _ in range(number):
        body = app.wsgi_app({**head, "wsgi.input": io.BytesIO(_BODY)}, start_response)
        reply = b"".join(body)
        body.close()  # type: ignore[attr-defined]
        if said != ["200 OK"]:
            raise SystemExit(f"the application answered {said}: {reply[:200]!r}")


if __name__ == "__main__":
    {"predict": predict, "request": request}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
