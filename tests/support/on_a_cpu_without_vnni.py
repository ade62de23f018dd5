"""Load a bundle under `qemu-x86_64 -cpu …`, for test_emulated_cpu.py, and print the outcome as JSON.

/proc/cpuinfo is the host's there, as in some containers, so it does not show the CPU that computes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from inferer import GoldenCheckError, ModelInferer, read_bundle, session
from inferer.tokens.texts import sides_of

_load = session.Session.__init__


def _never_exact(self: session.Session, *arguments: Any, **options: Any) -> None:
    _load(self, *arguments, **{**options, "exact": False})


def loaded(folder: str, *, shown: bool, exact_allowed: bool = True) -> dict[str, Any]:
    """Return the outcome of loading `folder`. shown: whether the CPU flags reveal the missing VNNI."""
    session.int8_may_saturate = lambda: shown
    session.Session.__init__ = _load if exact_allowed else _never_exact  # type: ignore[method-assign]
    try:
        model = ModelInferer(folder, intra_op_threads=1)
    except GoldenCheckError as error:
        return {"error": str(error)}
    logits = [model.logits(*sides_of(golden.text)).tolist() for golden in read_bundle(folder).golden]
    found = {"native": model.native, "exact_because": model.exact_because, "logits": logits}
    return {**model.golden_check.as_dict(), **found}


if __name__ == "__main__":
    bundle = sys.argv[1]
    found = {
        "inexact": loaded(bundle, shown=False, exact_allowed=False),
        "hidden": loaded(bundle, shown=False),
        "shown": loaded(bundle, shown=True),
    }
    print(json.dumps(found))
