"""Security headers and CORS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import Server, serving

pytestmark = pytest.mark.slow

PAGE = "https://page.example"
PREFLIGHT = {"access_control_request_method": "POST", "access_control_request_headers": "content-type,x-api-key"}


@pytest.mark.parametrize("call", ["GET /info", "GET /nowhere", "PUT /predict", "GET /metrics"])
def test_every_reply_has_the_security_headers(server: Server, call: str) -> None:
    """Successes and errors alike forbid sniffing, framing, running and caching, and have a request id."""
    headers = server.request(*call.split()).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"]


def test_no_other_origin_unless_set(server: Server) -> None:
    """Without INFERER_CORS_ORIGINS no reply has an Access-Control header, and a preflight is refused."""
    for reply in (
        server.predict({"text": "good"}, origin=PAGE),
        server.request("OPTIONS", "/predict", origin=PAGE, **PREFLIGHT),
    ):
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_origins_that_are_set_may_ask(tiny_bundle: Path, tmp_path: Path) -> None:
    """Pages of a configured origin may send requests with a key and read errors too; other pages may not."""
    settings = {"INFERER_CORS_ORIGINS": f"{PAGE}, http://localhost:3000/", "INFERER_API_KEYS": "key"}
    with serving(tiny_bundle, tmp_path / "log", **settings) as server:
        asked = server.request("OPTIONS", "/predict", origin=PAGE, **PREFLIGHT)
        assert asked.status == 204
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "POST" in asked.headers["access-control-allow-methods"]
        allowed = asked.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "x-api-key", "x-request-timeout-ms"))
        for headers, status in (({"x_api_key": "key"}, 200), ({}, 401)):
            reply = server.predict({"text": "good"}, origin="http://localhost:3000", **headers)
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, "http://localhost:3000")
            assert reply.headers["vary"] == "Origin"
            assert "X-Request-Id" in reply.headers["access-control-expose-headers"]
        other = server.predict({"text": "good"}, origin="https://evil.example", x_api_key="key")
        assert other.status == 200
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["vary"] == "Origin"
        assert server.request("OPTIONS", "/predict", origin="https://evil.example", **PREFLIGHT).status == 401


def test_a_star_allows_every_origin(tiny_bundle: Path, tmp_path: Path) -> None:
    """With INFERER_CORS_ORIGINS=* pages of every origin may read replies."""
    with serving(tiny_bundle, tmp_path / "log", INFERER_CORS_ORIGINS="*") as server:
        assert server.predict({"text": "good"}, origin=PAGE).headers["access-control-allow-origin"] == "*"
        assert server.request("OPTIONS", "/predict", origin=PAGE, **PREFLIGHT).status == 204


def test_an_invalid_host_is_named(server: Server) -> None:
    """A malformed Host header gets 400 BadRequest with its value."""
    reply = server.request("GET", "/info", host="..")
    assert reply.status == 400
    assert reply.json()["error_type"] == "BadRequest"
    assert reply.json()["error"] == "invalid Host header '..'"
