"""The external weight files of an ONNX model, found by a walk over its protobuf without the onnx package.

The walk enters the messages that lead to a tensor and skips the weights themselves.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from io import BufferedReader

# For each message (onnx.proto3): the fields that lead to a tensor, and the message in each.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2  # TensorProto.external_data, and StringStringEntryProto's two fields
_FIXED = {1: 8, 5: 4}  # bytes of a field of each fixed wire type
_MOST_DEPTH = 100  # protobuf's own limit; a graph in a graph is three deep


def external_files(file: BufferedReader) -> list[str]:
    """Return the names of the other files that hold tensors of the open ONNX file; ValueError: malformed protobuf."""
    if os.fstat(file.fileno()).st_size == 0:
        raise ValueError("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return sorted(set(_walk(data, 0, len(data), "model", 0)))


def _walk(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise ValueError(f"its messages are nested more than {_MOST_DEPTH} deep")
    for field, begin, stop in _fields(data, start, end):
        if message == "tensor":
            if field == _EXTERNAL_DATA:
                entry = {number: data[a:b] for number, a, b in _fields(data, begin, stop)}
                if entry.get(_KEY) == b"location":
                    yield entry.get(_VALUE, b"").decode("utf-8", "backslashreplace")
        elif field in _INSIDE[message]:
            yield from _walk(data, begin, stop, _INSIDE[message][field], depth + 1)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, begin, end) for each length-delimited field between `start` and `end`."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise ValueError(f"it is cut short at byte {at}")
            yield tag >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(data, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"byte {at} does not begin a protobuf field")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"it is cut short at byte {at}")
