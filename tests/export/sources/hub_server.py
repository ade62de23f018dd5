"""A server on this machine that speaks the part of the hub's API which downloads of a model need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A hub with one folder of models, ORG/NAME below it. asked: the method and path of each request."""

    daemon_threads = True

    def __init__(self, models: Path, *, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.token, self.asked = models, token, list[str]()

    @property
    def address(self) -> str:
        """Return the address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def hub_of(models: Path, *, token: str | None = None) -> Iterator[Hub]:
    """Serve the folder `models`, with a `token` only to its holder."""
    with Hub(models, token=token) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Write nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(f"{self.command} /{path}")
        is_api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        folder = self.server.models / "/".join(parts[:2])
        allowed = self.server.token is None or self.headers.get("Authorization") == f"Bearer {self.server.token}"
        if not folder.is_dir() or not allowed:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif not is_api:
            self._send_file(folder / "/".join(parts[4:]))  # ORG/NAME/resolve/COMMIT/FILE
        elif "tree" in parts[2:]:
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _hash(f)} for f in _files(folder)]
            self._send(200, json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": file.name} for file in _files(folder)]
            facts = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(facts).encode())

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._send(200, file.read_bytes(), {"ETag": f'"{_hash(file)}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


def _hash(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
