"""schemathesis against the live service with its own OpenAPI document."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferer.bundle.manifest import MULTI_LABEL
from tests.support import tiny
from tests.support.server import ROOT, serving

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CASES = 2_000
# Per operation; with the examples and edge cases of schemathesis about 2,400 in all.
EXAMPLES = 60
# Pairs of the examples have more tokens than the tiny models of pairs take by default.
BUNDLES: dict[str, Callable[[Path], Path]] = {
    "labels": tiny.write_bundle,
    "several labels": functools.partial(tiny.write_bundle, problem_type=MULTI_LABEL),
    "inference": functools.partial(tiny.write_inference_bundle, max_length=16),
    "ranking": functools.partial(tiny.write_rank_bundle, max_length=16),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUNDLES)
def test_schemathesis_finds_nothing(kind: str, tmp_path: Path) -> None:
    """In at least 2,000 cases, valid and invalid, the service behaves as its document says."""
    bundle, pairs = BUNDLES[kind](tmp_path / "bundle"), kind in ("inference", "ranking")
    with serving(bundle, tmp_path / "log") as server:
        command = [
            *(
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file",
                str(ROOT / "tests/support/schemathesis.toml"),
            ),
            *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--seed", "20", "--no-color"),
            *("--max-examples", str(EXAMPLES)),
        ]
        env = {
            **os.environ,
            **({"SCHEMATHESIS_PAIRS": "1"} if pairs else {}),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        (generated,) = re.findall(r"(\d+) generated", done.stdout)
        assert int(generated) >= CASES
        assert not [line for line in server.logged() if line["level"] in ("error", "critical")]
