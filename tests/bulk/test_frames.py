"""The examples of docs/tables.md for DuckDB and Polars, run as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.export.checkpoints.environments import python_with
from tests.support.server import ROOT, run_to_end

pytestmark = pytest.mark.slow

PACKAGES = ("duckdb", "polars")


@pytest.mark.parametrize("library", ["DuckDB", "Polars"])
def test_the_example_runs(
    library: str, tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The lines of the page score a CSV and show the labels."""
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    after = text[text.index("## From Python") :]
    start, example = (re.search(rf"{intro}.*?```python\n(.*?)```", after, re.DOTALL) for intro in ("", f"{library}:\n"))
    assert start is not None
    assert example is not None
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "query_type").symlink_to(tiny_bundle)
    (tmp_path / "reviews.csv").write_text("id,text\n1,good\n2,odd\n3,odd odd\n4,\n")
    code = f"import duckdb\nimport polars as pl\nimport pyarrow as pa\n{start[1]}\n{example[1]}"
    python = python_with(tmp_path_factory.getbasetemp(), *PACKAGES)
    done = run_to_end(python, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert "pos" in done.stdout
    assert "other" in done.stdout
