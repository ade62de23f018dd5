"""Addresses: fsspec reads them like files, and an address that cannot be opened is one line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from training.data.dataset import Columns
from training.data.location import file_name, is_address, parse_location, redacted
from training.data.reader import read_dataset, split_files
from training.data.remote import read_bytes
from training.errors import DataError

SINGLE = Columns("text", "label")
CSV = b"text,label\na,x\nb,y\n"


def fault(source: Path | str) -> str:
    """Return the error for an address that cannot be read."""
    with pytest.raises(DataError) as caught:
        read_dataset(source, SINGLE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def memory() -> Iterator[Callable[[str, bytes], str]]:
    """A function that stores content under a memory:// address."""
    files = fsspec.filesystem("memory")

    def put(name: str, content: bytes) -> str:
        files.pipe_file(f"/{name}", content)
        return f"memory://{name}"

    yield put
    files.store.clear()


class Forbidding(BaseHTTPRequestHandler):
    """A web server that refuses everything."""

    def do_GET(self) -> None:
        """Refuse."""
        self.send_error(403, "Forbidden")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Proxy(BaseHTTPRequestHandler):
    """A web server that replies with one CSV for every host."""

    def do_GET(self) -> None:
        """Reply with the CSV."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CSV)))
        self.end_headers()
        self.wfile.write(CSV)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Quiet(SimpleHTTPRequestHandler):
    """A web server of a folder."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., BaseHTTPRequestHandler]], str]]:
    """A function that starts a web server on this machine and returns its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(handler: Callable[..., BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_is_an_address() -> None:
    """A str with :// is an address; any other str is a path."""
    assert is_address("s3://bucket/a.csv")
    assert not is_address("folder/a.csv")
    assert parse_location("s3://bucket/a.csv") == "s3://bucket/a.csv"
    assert parse_location("folder/a.csv") == Path("folder/a.csv")


@pytest.mark.parametrize(
    ("source", "as_shown", "name"),
    [
        (Path("folder/a.csv"), "folder/a.csv", "a.csv"),
        ("s3://bucket/folder/a.csv", "s3://bucket/folder/a.csv", "a.csv"),
        ("s3://bucket/what?.csv", "s3://bucket/what?.csv", "what?.csv"),
        ("https://me:secret@host/a.csv?signature=secret#x", "https://host/a.csv", "a.csv"),
        ("sftp://me:secret@host/a.csv", "sftp://host/a.csv", "a.csv"),
        ("ftp://me:se@cret@host/a.csv", "ftp://host/a.csv", "a.csv"),
        ("ftp://me:sec/ret@host/a.csv", "ftp://host/a.csv", "a.csv"),
        ("simplecache::https://host/a.csv?sig=secret", "simplecache::https://host/a.csv", "a.csv"),
        ("abfs://container@account.host/a.csv", "abfs://container@account.host/a.csv", "a.csv"),
        ("s3://bucket/mail/a@b.csv", "s3://bucket/mail/a@b.csv", "a@b.csv"),
    ],
)
def test_secrets_of_an_address_are_not_shown(source: Path | str, as_shown: str, name: str) -> None:
    """An address is redacted without user, password and query, and its file's name has no query either."""
    assert (redacted(source), file_name(source)) == (as_shown, name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", CSV), ("A.TSV", CSV.replace(b",", b"\t")), ("a.jsonl", b'{"text":"a","label":"x"}\n' * 2)],
)
def test_an_address_is_read_by_its_ending(memory: Callable[[str, bytes], str], name: str, content: bytes) -> None:
    """A file at an address is read by its ending, like a file on disk."""
    assert read_dataset(memory(name, content), SINGLE).texts[0] == "a"


def test_faults_name_the_address(memory: Callable[[str, bytes], str]) -> None:
    """A fault in data at an address names the address with both slashes."""
    assert fault(memory("a.csv", b"text,label\n,x\n")) == "memory://a.csv: row 1 (line 2), column 'text': empty text"
    assert fault(memory("a.doc", b"")).startswith("memory://a.doc: has the ending .doc, expected .csv, ")


def test_a_file_address_is_read(tmp_path: Path) -> None:
    """file:// and a path give the same bytes."""
    (tmp_path / "a.csv").write_bytes(CSV)
    assert read_bytes(f"file://{tmp_path}/a.csv") == read_bytes(tmp_path / "a.csv") == CSV


def test_a_web_address_is_read(tmp_path: Path, web: Callable[..., str]) -> None:
    """An http address with a query is read; a missing file is reported without the query."""
    (tmp_path / "a.csv").write_bytes(CSV)
    address = web(partial(Quiet, directory=str(tmp_path)))
    assert read_dataset(f"{address}/a.csv?download=1", SINGLE).texts == ("a", "b")
    assert fault(f"{address}/none.csv?token=secret") == f"{address}/none.csv: cannot be read: the file does not exist"


def test_a_web_server_that_refuses_is_told(web: Callable[..., str]) -> None:
    """A web server's refusal is reported with its status and without the query."""
    said = fault(f"{web(Forbidding)}/a.csv?token=a%2Fb%3D&X-Amz-Signature=secret")
    assert "cannot be read: 403" in said
    assert "secret" not in said


def test_a_web_server_that_is_not_there_is_told(web: Callable[..., str]) -> None:
    """A refused connection is reported as such, not as a missing file."""
    assert "cannot be read: Cannot connect to host 127.0.0.1:1" in fault("http://127.0.0.1:1/a.csv")


def test_the_proxy_of_the_environment_is_used(web: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A web address is read through the proxy that the environment names."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web(Proxy))
    assert read_dataset("http://nowhere.invalid/a.csv", SINGLE).texts == ("a", "b")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a protocol without its package names the package."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    said = fault("s3://bucket/a.csv")
    assert said == "s3://bucket/a.csv: cannot be read: Install s3fs to access S3: pip install s3fs"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://none.csv", "memory://none.csv: cannot be read: the file does not exist"),
        ("nothing://a.csv", "nothing://a.csv: cannot be read: Protocol not known: nothing"),
        ("file:///", "file:///: cannot be read: Is a directory"),
    ],
)
def test_an_address_that_cannot_be_read_is_told(address: str, said: str) -> None:
    """An unknown protocol, a missing file and a folder are reported in one line."""
    assert fault(address) == said


def test_an_address_has_no_parts() -> None:
    """An address is one file, never a folder of two parts."""
    assert split_files("memory://folder") is None
