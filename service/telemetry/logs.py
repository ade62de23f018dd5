"""Log lines, as JSON objects or as text on a terminal, for gunicorn's messages and the service's own.

A logging call adds fields with `extra=fields(...)`. gunicorn's configuration imports this module before the fork.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from gunicorn.glogging import Logger

from service.process import log_stream

LOG_FORMAT = "INFERER_LOG_FORMAT"
JSON, TEXT = FORMATS = ("json", "text")

_FIELDS = "inferer_fields"
_TEXT_LINE, _TEXT_TIME = "%(asctime)s [%(process)d] %(levelname)s %(message)s", "%H:%M:%S"
_LOST = "{} lines of the log were dropped: they came faster than they were read"
_encode = msgspec.json.Encoder(enc_hook=str).encode


def fields(**values: Any) -> dict[str, Any]:
    """Return `extra` for a logging call: fields beside the message."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, pid, message, fields, and the exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        values = getattr(record, _FIELDS, {})
        if record.exc_info:
            values = {**values, "exception": self.formatException(record.exc_info)}
        return _json(record.created, record.levelname.lower(), record.name, record.process, record.getMessage(), values)


def _json(created: float, level: str, logger: str, pid: int | None, message: str, values: Mapping[str, Any]) -> str:
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "logger": logger,
        "pid": pid,
        "message": message,
        **values,
    }
    try:
        return _encode(line).decode()
    except UnicodeEncodeError:  # a lone surrogate, from a path that is not UTF-8
        return _encode({name: _cleaned(value) for name, value in line.items()}).decode()


class RequestLog:
    """The lines about requests, of the logger `inferer.request`.

    Where the log is JSON on stderr they skip logging's record, handlers and locks, which take four times as long as the
    line itself, and leave the order of the lines as it is.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger("inferer.request")
        self._pid = os.getpid()
        self._stream: log_stream.LogStream | None = None
        match logging.getLogger("inferer").handlers:
            case [logging.StreamHandler(formatter=JsonFormatter(), stream=log_stream.LogStream() as stream)]:
                self._stream = stream

    def write(self, message: str, values: Mapping[str, Any]) -> None:
        """Write one line: a message, and fields beside it."""
        if self._stream is None:
            self._log.info("%s", message, extra=fields(**values))
        else:
            self._stream.write(_json(time.time(), "info", self._log.name, self._pid, message, values) + "\n")


def formatter(environ: Mapping[str, str]) -> logging.Formatter:
    """Return the formatter of INFERER_LOG_FORMAT if it is valid, else text on a terminal and JSON otherwise."""
    name = environ.get(LOG_FORMAT, "").strip()
    if name not in FORMATS:
        name = TEXT if sys.stderr is not None and sys.stderr.isatty() else JSON
    return JsonFormatter() if name == JSON else logging.Formatter(_TEXT_LINE, _TEXT_TIME)


def one_line(level: int, message: str) -> str:
    """Return a message as a line of the log, without the logger, which may not be set up or not be heard."""
    return formatter(os.environ).format(logging.LogRecord("inferer", level, "", 0, message, None, None))


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with the service's format; it sets up those of `inferer` and OpenTelemetry too."""

    def setup(self, cfg: Any) -> None:
        """Set the format of every handler, after stderr has become a stream that never blocks."""
        log_stream.install(lambda lost: one_line(logging.WARNING, _LOST.format(lost)))
        super().setup(cfg)
        ours = formatter(os.environ)
        for handler in self.error_log.handlers:
            handler.setFormatter(ours)
        for name in ("inferer", "opentelemetry"):
            log = logging.getLogger(name)
            log.handlers = list(self.error_log.handlers)
            log.setLevel(logging.INFO)
            log.propagate = False
        # Neither format shows these; to find them takes longer than the rest of a line (Python's logging HOWTO).
        logging._srcfile = None
        logging.logThreads = logging.logMultiprocessing = False


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
