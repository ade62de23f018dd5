"""The page for models of pairs: the second box, lines with a tab, explanations of both texts, and the ranking."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inferer import ModelInferer
from tests.support import tiny
from tests.support.browser import opened, run_by_shell, serious
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def ranker(rank_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that ranks."""
    with serving(rank_bundle, tmp_path_factory.mktemp("ranker") / "log") as running:
        yield running


def test_a_pair_has_two_boxes(browser: Browser, inference_bundle: Path, tmp_path: Path) -> None:
    """The prediction follows both texts, the explanation shades both, and the curl command gives the same reply."""
    model = ModelInferer(inference_bundle, intra_op_threads=1)
    with serving(inference_bundle, tmp_path / "log") as server, opened(browser, server) as tab:
        tab.page.wait_for_selector("#model-line:has-text('one of 3 labels per pair of texts')")
        tab.page.fill("#text", "good plain")
        tab.page.press("#text", "Control+Enter")
        assert tab.prediction.inner_text() == "The second text is missing."
        with tab.page.expect_response("**/predict"):
            tab.page.fill("#text-pair", "odd")
            tab.page.press("#text-pair", "Control+Enter")
        tab.page.wait_for_selector(".verdict:has-text('neutral')")
        assert tab.bars() == pytest.approx(dict(model.predict("good plain", "odd").scores))
        assert run_by_shell(tab.command()) == model.predict("good plain", "odd").as_dict()
        tab.page.click("#explain")
        tab.page.wait_for_selector("#parts")
        shaded = [one.inner_text() for one in tab.page.locator(".shaded").all()]
        assert [one.split()[0].rstrip("0123456789+−.") for one in shaded] == ["good", "odd"]
        assert tab.page.locator("#tab-rank").is_hidden()
        options = [one.get_attribute("value") for one in tab.page.locator("#truncation option").all()]
        assert options == ["", *model.bundle.truncations]
        assert serious(tab.page) == []
        tab.allowed.append("422")  # of the line without a tab
        tab.classify_all(["good\todd", "good", "bad\tbad"])
        texts = tab.page.locator("#rows").inner_text()
        assert "neutral" in texts
        assert "contradiction" in texts
        assert "the second text is missing" in texts


def test_documents_are_ranked(browser: Browser, ranker: Server, rank_bundle: Path) -> None:
    """Documents stand best first with bars, the file has the unrounded scores, and a wrong request says why."""
    documents = ["bad", "good good", "=odd", "odd"]
    model = ModelInferer(rank_bundle, intra_op_threads=1)
    scores = [model.predict("good", text).score for text in documents]
    with opened(browser, ranker) as tab:
        tab.page.wait_for_selector("#model-line:has-text('Gives a pair of texts a number.')")
        tab.page.get_by_role("tab", name="Ranking").click()
        tab.page.click("#rank-all")
        assert "Give a query" in tab.page.locator("#ranking").inner_text()
        tab.page.fill("#query", "good")
        tab.page.fill("#documents", "\n".join(["bad", "", *documents[1:]]))
        with tab.page.expect_response("**/rerank"):
            tab.page.click("#rank-all")
        tab.page.wait_for_selector(".ranking li")
        found = [float(one.get_attribute("data-score") or "nan") for one in tab.page.locator(".ranking li").all()]
        assert found == sorted(scores, reverse=True)
        assert tab.page.locator(".ranking li .label").first.inner_text() == "good good"
        assert serious(tab.page) == []
        assert tab.overflow() == 0
        with tab.page.expect_download() as download:
            tab.page.click("#rank-download")
        text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        best = [(row["rank"], row["line"], row["document"]) for row in rows[:2]]
        assert best == [("1", "2", "good good"), ("2", "4", "odd")]
        assert "'=odd" in text
        reply = run_by_shell(tab.command("#rank-curl"))
        assert [one["relevance_score"] for one in reply["results"]] == found
        tab.allowed.append("422")
        tab.page.fill("#documents", "good " * 40_000)
        tab.page.click("#rank-all")
        tab.page.wait_for_selector("#rank-problem .problem")


def test_a_number_has_no_bar(browser: Browser, tmp_path: Path) -> None:
    """A regression's number is shown as it is, without a percentage, also in the explanation."""
    bundle = tiny.write_rank_bundle(tmp_path / "bundle", activation="none")
    with serving(bundle, tmp_path / "log") as server, opened(browser, server) as tab:
        tab.page.wait_for_selector("#model-line:has-text('a number')")
        tab.page.fill("#text", "good")
        with tab.page.expect_response("**/predict"):
            tab.page.fill("#text-pair", "good odd")
            tab.page.press("#text-pair", "Control+Enter")
        tab.page.wait_for_selector(".verdict:has-text('relevance, 4')")
        assert tab.bars() == {}
        assert "%" not in tab.prediction.inner_text()
        tab.page.click("#explain")
        tab.page.wait_for_selector("#parts")
        assert "Score of relevance: 4." in tab.page.locator("#explanation").inner_text()
