"""schemathesis against the live service with its own OpenAPI document."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT, serving

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CASES = 2_000
# Per operation; with the examples and edge cases of schemathesis about 2,400 in all.
EXAMPLES = 60


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["tiny_bundle", "multi_bundle"])
def test_schemathesis_finds_nothing(bundle: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """In at least 2,000 cases, valid and invalid, the service behaves as its document says."""
    with serving(request.getfixturevalue(bundle), tmp_path / "log") as server:
        command = [
            *(
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file",
                str(ROOT / "tests/support/schemathesis.toml"),
            ),
            *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--seed", "20", "--no-color"),
            *("--max-examples", str(EXAMPLES)),
        ]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        (generated,) = re.findall(r"(\d+) generated", done.stdout)
        assert int(generated) >= CASES
        assert not [line for line in server.logged() if line["level"] in ("error", "critical")]
