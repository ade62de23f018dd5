"""Which pages of other origins may read answers in a browser: none unless INFERER_CORS_ORIGINS names them."""

from __future__ import annotations

from typing import Any

_ASK = "HTTP_ACCESS_CONTROL_REQUEST_METHOD"
_MAY_SEND = "Authorization, Content-Type, X-API-Key, X-Request-Id, X-Request-Timeout-Ms"
MAY_READ = "Retry-After, Server-Timing, X-Abstained-Texts, X-Request-Id, X-Truncated-Texts"


class Cors:
    """The headers of the Fetch standard's CORS protocol for `origins`; ("*",) is every origin."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._any = origins == ("*",)

    def _allowed(self, environ: dict[str, Any]) -> str | None:
        origin = environ.get("HTTP_ORIGIN")
        if self._any:
            return "*"
        return origin if origin in self._origins else None

    def headers(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        """Return what every reply carries."""
        if not self._origins:
            return []
        vary = [] if self._any else [("Vary", "Origin")]
        origin = self._allowed(environ)
        if origin is None:
            return vary
        return [*vary, ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", MAY_READ)]

    def is_preflight(self, environ: dict[str, Any]) -> bool:
        """Return whether a browser asks here if it may ask; it sends no key with that."""
        return bool(environ["REQUEST_METHOD"] == "OPTIONS" and self._allowed(environ) and _ASK in environ)

    def preflight(self) -> list[tuple[str, str]]:
        """Return the headers of the answer to that, beside those of `headers`."""
        return [
            ("Access-Control-Allow-Methods", "GET, POST"),
            ("Access-Control-Allow-Headers", _MAY_SEND),
            ("Access-Control-Max-Age", "600"),
        ]
