"""CORS headers for the origins of INFERER_CORS_ORIGINS; without it no page of another origin can read replies."""

from __future__ import annotations

from typing import Any

_REQUESTED_METHOD = "HTTP_ACCESS_CONTROL_REQUEST_METHOD"
_REQUEST_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-Id, X-Request-Timeout-Ms"
EXPOSED_HEADERS = "Retry-After, Server-Timing, X-Abstained-Texts, X-Request-Id, X-Truncated-Texts"


class Cors:
    """The CORS protocol of the Fetch standard for `origins`; ("*",) allows every origin."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._any = origins == ("*",)

    def _allowed(self, environ: dict[str, Any]) -> str | None:
        origin = environ.get("HTTP_ORIGIN")
        if self._any:
            return "*"
        return origin if origin in self._origins else None

    def headers(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the headers for every reply."""
        if not self._origins:
            return []
        vary = [] if self._any else [("Vary", "Origin")]
        origin = self._allowed(environ)
        if origin is None:
            return vary
        return [*vary, ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED_HEADERS)]

    def is_preflight(self, environ: dict[str, Any]) -> bool:
        """Return whether the request is a preflight from an allowed origin; it comes without a key."""
        return bool(environ["REQUEST_METHOD"] == "OPTIONS" and self._allowed(environ) and _REQUESTED_METHOD in environ)

    def preflight(self) -> list[tuple[str, str]]:
        """Return the headers for the reply to a preflight, beside those of `headers`."""
        return [
            ("Access-Control-Allow-Methods", "GET, POST"),
            ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
            ("Access-Control-Max-Age", "600"),
        ]
