"""Files of tables: their format by the ending, their bytes without compression, and folders and globs of them."""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow as pa

from bulk.errors import JobError
from bulk.tables.addresses import RemoteFile, find_remote
from training.data.location import is_address, redacted

File = Path | RemoteFile

CSV, TSV, JSON_LINES, PARQUET = "csv", "tsv", "jsonl", "parquet"
FORMATS = (CSV, TSV, JSON_LINES, PARQUET)
_ENDINGS = {
    ".csv": CSV, ".txt": CSV, ".tsv": TSV, ".tab": TSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES,
    ".parquet": PARQUET, ".pq": PARQUET,
}  # fmt: skip
COMPRESSED = (".gz", ".bz2", ".zst")
_BUFFER = 1 << 20
_GZIP_LEVEL = 6  # of the program gzip


def format_of(path: File | PurePosixPath, given: str | None = None) -> str:
    """Return the format of `path`: `given`, else by its ending. Raises JobError where the ending says nothing."""
    if given is not None:
        return given
    name = PurePosixPath(path.stem if path.suffix.lower() in COMPRESSED else path.name)
    found = _ENDINGS.get(name.suffix.lower())
    if found is None:
        endings = ", ".join(_ENDINGS)
        raise JobError(f"{path}: the ending tells no format; expected {endings} (and .gz, .bz2, .zst), or --format")
    return found


def find(given: str) -> Sequence[File]:
    """Return the files of `given`, a file, a folder or a glob, by name. Raises JobError where there are none."""
    if is_address(given):
        files, folder = find_remote(given)
        return (
            files
            if folder is None
            else _tables(files, [PurePosixPath(one.path) for one in files], folder, redacted(given))
        )
    path = Path(given)
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file())
        return _tables(inside, inside, path, given)
    if path.is_file():
        return [path]
    if glob.has_magic(given):
        matches = glob.iglob(given, recursive=True)  # noqa: PTH207 - pathlib's takes no absolute pattern
        found = sorted(path for path in map(Path, matches) if path.is_file())
        if found:
            return found
        raise JobError(f"{given}: no file matches")
    if path.exists():
        raise JobError(f"{given}: is neither a file nor a folder; write its content to a file first")
    raise JobError(f"{given}: does not exist")


def _tables(
    files: Sequence[File], paths: Sequence[PurePosixPath | Path], folder: Path | str, given: str
) -> Sequence[File]:
    """Return those of `files` that are tables, by their `paths` in `folder`."""
    found = []
    for file, path in zip(files, paths, strict=True):
        if any(part.startswith((".", "_")) for part in path.relative_to(folder).parts):  # marks of Spark and editors
            continue
        with contextlib.suppress(JobError):
            format_of(file)
            found.append(file)
    if not found:
        raise JobError(f"{given}: the folder has no tables; expected files that end in {', '.join(_ENDINGS)}")
    return found


def one_format(paths: Sequence[File], given: str | None) -> str:
    """Return the one format of `paths`. Raises JobError where they differ."""
    formats = {format_of(path, given): path for path in reversed(paths)}
    if len(formats) > 1:
        told = " and ".join(f"{path} ({name})" for name, path in sorted(formats.items()))
        raise JobError(f"the input has files of several formats: {told}; score one format at a time")
    return next(iter(formats))


class _Stream(io.RawIOBase):
    """A stream of pyarrow as a stream of Python's io module."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def open_bytes(path: File) -> Iterator[IO[bytes]]:
    """Open the bytes of `path`, decompressed by its ending; errors of reading in the block become JobError."""
    try:
        with path.open("rb") as raw, _decompressed(raw, path.suffix.lower()) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise JobError(f"{path}: cannot be read: {reason}") from error


def _decompressed(raw: IO[bytes], ending: str) -> IO[bytes]:
    if ending == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)
    if ending == ".bz2":
        return io.BufferedReader(bz2.BZ2File(raw), _BUFFER)
    if ending == ".zst":
        return io.BufferedReader(_Stream(pa.CompressedInputStream(pa.PythonFile(raw), "zstd")), _BUFFER)
    return raw


@contextmanager
def compressed(target: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    """Give a stream that compresses into `target` by an ending of COMPRESSED, else `target`.

    Equal content gives equal bytes: no name and no time are written.
    """
    if ending == ".gz":
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, target, mtime=0) as file:
            yield cast("IO[bytes]", file)
    elif ending == ".bz2":
        with bz2.BZ2File(target, "wb") as packed:
            yield packed
    elif ending == ".zst":
        with pa.CompressedOutputStream(pa.PythonFile(_Kept(target), "w"), "zstd") as stream:
            yield stream
    else:
        yield target


class _Kept:
    """A file that stays open when pyarrow closes it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.write, self.flush = file.write, file.flush

    def close(self) -> None:
        """Do nothing."""
