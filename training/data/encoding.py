"""CSV and TSV in an encoding other than UTF-8, as the user names it."""

from __future__ import annotations

import codecs
from pathlib import Path

from training.data.table import BYTE_ORDER_MARK
from training.errors import DataError, TrainingError

ENDINGS = ("", ".csv", ".tsv")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def codec_of(encoding: str) -> str:
    """Return Python's name of an encoding of text. Raises TrainingError for an unknown one."""
    try:
        found = codecs.lookup(encoding)
        "".encode(encoding)  # base64 and others of bytes are refused here
    except (LookupError, ValueError) as error:
        some = "latin-1, cp1252 or shift_jis"
        raise TrainingError(f"--encoding is {encoding!r}, expected the name of an encoding, such as {some}") from error
    return found.name


def in_utf8(source: Path | str, content: bytes, encoding: str) -> bytes:
    """Return `content`, the bytes of a CSV or TSV in `encoding`, in UTF-8.

    Raises DataError for bytes that are not of the encoding, with the line of the first, and for a file with a byte
    order mark of another one or with text beyond ASCII that is UTF-8.
    """
    codec = codec_of(encoding)
    if (own := encoding_told(content)) and not codec.startswith(own):
        raise DataError(source, [f"is {own.upper()}, but --encoding is {encoding}: leave it out"])
    try:
        return content.decode(codec).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = f"line {line}: byte 0x{content[error.start]:02x} is not {encoding}; give another --encoding"
        raise DataError(source, [fault]) from error
    except UnicodeEncodeError as error:
        raise DataError(source, [f"holds half of a surrogate pair in {encoding}"]) from error


def encoding_told(content: bytes) -> str:
    """Return the encoding that a mark or text beyond ASCII tells by itself, or an empty string."""
    if content.startswith(_UTF16):
        return "utf-16"
    if content.isascii():
        return ""
    try:
        content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        return "utf-8" if content.startswith(BYTE_ORDER_MARK) else ""
    return "utf-8"
