"""The comparison of API keys, and the warning about keys that can be guessed."""

from __future__ import annotations

import logging

import pytest

from service.keys import Keys
from service.process.startup import warn_of_short_keys


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "accepted"),
    [
        ("Bearer first", "", True),
        ("bearer  second ", "", True),
        ("", "second", True),
        ("Bearer another-service", "first", True),
        ("Bearer first", "wrong", True),
        ("", "", False),
        ("first", "", False),
        ("Basic first", "", False),
        ("Bearer", "", False),
        ("Bearer second2", "2first", False),
        ("Bearer FIRST", "first,second", False),
        ("Bearer \xff\ud800", "\u0663", False),
    ],
)
def test_a_key_counts_in_either_header(authorization: str, x_api_key: str, accepted: bool) -> None:
    """One whole key in one of the headers is enough; parts, other schemes and odd characters are not."""
    assert Keys(["first", "second"]).accept(authorization, x_api_key) is accepted


def test_without_keys_everybody_may_enter() -> None:
    """Without keys every request is accepted."""
    assert Keys([]).accept("", "")
    assert not Keys([])


def test_short_keys_are_counted_but_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The warning counts short keys and shows none."""
    log = logging.getLogger("test")
    warn_of_short_keys(log, ["x" * 16])
    assert not caplog.records
    warn_of_short_keys(log, ["secret-1", "x" * 16])
    assert "1 of 2 keys have fewer than 16 characters" in caplog.text
    assert "secret-1" not in caplog.text
