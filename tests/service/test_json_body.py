"""The messages about bodies that cannot be decoded."""

from __future__ import annotations

import pytest

from service.errors import ServiceError
from service.json_body import decode

TOO_LARGE = "a number is too large"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (rb'{"text": "\ud800"}', r"the lone surrogate \ud800 at byte 10 is half of a character"),
        (rb'{"texts": ["\ud83d\ude00 \\ud800", "a \ud83d b"]}', r"the lone surrogate \ud83d at byte 38 is"),
        (rb'{"key \uDC00": 1}', r"the lone surrogate \uDC00 at byte 6 is"),
        (b'{"text": "good', "it is cut off after 14 bytes"),
        (b" ", "it is empty"),
        (b'\xef\xbb\xbf{"text": "good"}', "it begins with a byte order mark"),
        ('{"text": "good"}'.encode("utf-16"), "it is UTF-16 or UTF-32"),
        ('{"text": "good"}'.encode("utf-32-be"), "it is UTF-16 or UTF-32"),
        (b'{"text": "gr\xfcn"}', "invalid start byte at byte 12, 0xfc"),
        (b'{"text": "good", "threshold": NaN}', "NaN and Infinity are not JSON (byte 30)"),
        (b'{"text": "good", "top_k": 1e400}', TOO_LARGE),
        (b'{"text": "good", "top_k": ' + b"9" * 5000 + b"}", TOO_LARGE),
        (b'{"text": "a\nb"}', "the control character 0x0a at byte 11 must be escaped"),
        (b"[" * 5000, "nested too deep"),
        (b'{"text": "good"} {}', "trailing characters"),
        (b'{"text": "\\x41"}', "invalid escape character in string (byte 12)"),
    ],
)
def test_a_body_that_is_not_json_is_told_why_and_where(body: bytes, problem: str) -> None:
    """The message names the fault and its byte in the body."""
    with pytest.raises(ServiceError) as caught:
        decode(body)
    assert caught.value.error_type == "InvalidJson"
    assert problem in str(caught.value.message)
    assert "codec" not in caught.value.message
