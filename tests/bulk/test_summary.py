"""The summary: the counts of the output, also of a job that was stopped; drift by hand; the page in a browser."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bulk.job import Job
from bulk.scoring import ScoreOptions, output_schema, score
from bulk.summary.drift import drift
from bulk.summary.page import page
from bulk.summary.tally import BINS, Tally, tally_of
from bulk.tables.inputs import read_input
from export.reference import BINS as EXPORTED_BINS
from inferer import ModelInferer
from tests.bulk.conftest import Predict
from tests.bulk.test_jobs import table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REFERENCE = {
    "training": {"pos": 900, "neg": 50, "other": 50},
    "evaluated": {
        "file": "held_out.csv",
        "labels": {"pos": 30, "neg": 30, "other": 40},
        "scores": [0] * 10 + [10] * 10,
    },
}


def test_the_bins_are_those_of_the_export() -> None:
    """Bundle and summary count scores in the same bins."""
    assert BINS == EXPORTED_BINS


def test_the_summary_counts_what_the_output_has(predict: Predict, tmp_path: Path) -> None:
    """Rows, errors, truncated rows and labels of the page are those of the scored rows."""
    rows = table(tmp_path / "rows.csv", 3_000)
    done = predict(rows, tmp_path / "scored.csv", "--summary", str(tmp_path / "report.html"))
    assert done.returncode == 1, done.stderr
    with (tmp_path / "scored.csv").open(newline="") as file:
        scored = list(csv.DictReader(file))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    good = [row for row in scored if not row["error"]]
    cut = sum(row["truncated"] == "true" for row in good)
    for name, value in (("Rows", len(scored)), ("Scored", len(good)), ("Truncated", cut)):
        assert re.search(rf"<dt>{name}</dt><dd>{value:,}\b", text), name
    for label, count in Counter(row["predicted_label"] for row in good).items():
        assert f"<tr><td>{label}<td class=number>{count:,}<td" in text
    assert f"<td>the text is empty<td class=number>{len(scored) - len(good):,}" in text
    assert "The bundle remembers no labels and scores" in text
    best = max((float(row["predicted_score"]), row["text"]) for row in good if row["predicted_label"] == "pos")
    assert f"{best[0]:.3f}" in text


def test_a_job_in_two_runs_has_the_summary_of_one(tiny_bundle: Path, tmp_path: Path) -> None:
    """The tallies of the parts before a stop count; the whole is the tally of all rows."""
    given = read_input(str(table(tmp_path / "rows.csv", 5_000)), ["text"])
    model = ModelInferer(tiny_bundle)
    options = ScoreOptions("text").resolved(model)
    schema = output_schema(given.schema, options)
    whole = Tally()
    for batch in score(given.batches(), model, options):
        whole.add(tally_of(batch, options))

    def job() -> Job:
        return Job(tmp_path / "scored.csv", "csv", schema, {}, lambda batch: tally_of(batch, options))

    with (first := job()).opened():
        run = first.run(given.batches(), lambda batches: score(batches, model, options), stop_on_error=False)
        next(run)
        next(run)
    with (second := job()).opened():
        assert second.tally.rows == 2 * 1024
        for _ in second.run(given.batches(), lambda batches: score(batches, model, options), stop_on_error=False):
            pass
        second.finish()
    assert second.tally == whole
    assert whole.rows == 5_000
    assert sum(whole.scores) + sum(whole.errors.values()) == 5_000
    for examples in (whole.most, whole.least):
        assert all(len(one) == 3 == len({text for _, text in one}) for one in examples.values())


def test_drift_by_hand() -> None:
    """The index is the sum over the classes; the same shares have none, and few rows may be chance."""
    found = drift([900, 100], [500, 500])
    assert found is not None
    p, q = 900.5 / 1001, 0.5
    assert found.index == pytest.approx((p - q) * math.log(p / q) + (q - p) * math.log((1 - p) / (1 - q)))
    assert found.meaning.startswith("much")
    same = drift([500, 500], [50, 50])
    assert same is not None
    assert same.index == pytest.approx(0, abs=1e-6)
    assert same.meaning.startswith("within chance")
    assert same.chance == pytest.approx((1 / 1000 + 1 / 100) * 3.84, rel=0.03)  # chi-squared, one degree of freedom
    few = drift([7, 3], [50, 50])
    assert few is not None
    assert few.meaning.startswith("within chance")
    assert drift([0, 0], [1, 1]) is None


def test_the_page_shows_drift_and_never_markup_of_a_text() -> None:
    """The reference of the bundle gives three comparisons; a text's markup is text."""
    tally = Tally(
        rows=101,
        labels={"pos": 90, "neg": 10},
        scores=[0] * 10 + [10] * 10,
        errors={"line N has <b> cells": 1},
        most={"pos": [[0.9, "<script>alert(1)</script> & more"]]},
    )
    text = page(tally, {"input": "<reviews>.csv", "model": "tiny"}, REFERENCE)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert "<title>&lt;reviews&gt;.csv" in text
    rows = re.findall(r"<tr><td>(Labels, against[^<]*|Scores, against[^<]*)<td class=number>([0-9.]+)<td>([^<]*)", text)
    told = {unescape(name): (float(index), meaning) for name, index, meaning in rows}
    assert told["Labels, against those of the training rows"][0] < 0.25
    labels = told["Labels, against the predictions on held_out.csv at export"]
    assert labels[0] > 0.25
    assert labels[1].startswith("much")
    assert told["Scores, against the predictions on held_out.csv at export"][1].startswith("within chance")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--summary", "no/report.html"), "--summary no/report.html: is a folder, or in none"),
        (("--summary", "rows.csv", "--overwrite"), "--summary rows.csv: is a file of the input"),
        (("--summary", "report.html", "--columns", "label"), "--summary needs the column score"),
    ],
)
def test_a_summary_that_cannot_be(predict: Predict, tmp_path: Path, flags: tuple[str, ...], told: str) -> None:
    """A summary without a place or without its columns is refused before the work."""
    (tmp_path / "rows.csv").write_text("text\ngood\n")
    done = predict(tmp_path / "rows.csv", tmp_path / "scored.csv", *flags)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "scored.csv").exists()


def test_a_summary_that_exists_is_kept(predict: Predict, tmp_path: Path) -> None:
    """A file under the summary's name stays, unless --overwrite is given."""
    (tmp_path / "rows.csv").write_text("text\ngood\n")
    (tmp_path / "report.html").write_text("mine")
    given = (tmp_path / "rows.csv", tmp_path / "scored.csv", "--summary", str(tmp_path / "report.html"))
    assert "exists; --overwrite replaces it" in predict(*given).stderr
    assert (tmp_path / "report.html").read_text() == "mine"
    assert predict(*given, "--overwrite").returncode == 0
    assert "<h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_window(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """In either colour scheme the page is as wide as its window, and text stands out from its ground."""
    tally = Tally(rows=100, labels={"a" * 60: 60, "b": 40}, scores=[5] * BINS, most={"b": [[0.9, "x" * 300]]})
    file = tmp_path / "report.html"
    file.write_text(page(tally, {"input": "reviews.csv"}, REFERENCE), encoding="utf-8")
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    try:
        tab = context.new_page()
        tab.goto(file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        bars = tab.locator(".bars i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().height)")
        assert len(bars) == BINS
        assert min(bars) > 50
        colours = tab.evaluate(
            "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        )
        light, dark = ([int(part) for part in re.findall(r"\d+", one)][:3] for one in colours)
        assert abs(sum(light) - sum(dark)) > 500
    finally:
        context.close()
