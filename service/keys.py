"""API keys and their comparison, in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Sequence


class Keys:
    """The keys that open the service; without any, every request may enter."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def __bool__(self) -> bool:
        """Return whether a key is required."""
        return bool(self._keys)

    def accept(self, authorization: str, x_api_key: str) -> bool:
        """Return whether either header has a key; some clients send both, one with a token of their own."""
        scheme, _, token = authorization.partition(" ")
        given = [token.strip() if scheme.lower() == "bearer" else "", x_api_key]
        candidates = [one.encode("utf-8", "replace") for one in given]
        # No short circuit: the time of the check must not depend on the match.
        matches = [hmac.compare_digest(candidate, key) for candidate in candidates for key in self._keys]
        return any(matches) or not self._keys
