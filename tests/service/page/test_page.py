"""The view of one text: its prediction, its explanation, and the model card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import tiny
from tests.support.browser import Tab, opened, run_by_shell
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

LONG = "good bad odd plain plain plain good bad odd"  # 11 tokens; the model uses 8
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> &lt; ${x} `id`"


@pytest.fixture(scope="module")
def demo(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the demo's bundle."""
    with serving(demo_bundle, tmp_path_factory.mktemp("demo") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on a calibrated bundle that abstains."""
    folder = tmp_path_factory.mktemp("scored")
    figure = {"value": 0.0612, "low": 0.05, "high": 0.07, "n": 2133}
    report = {
        "figures": {"ece_before": figure, "ece_after": {**figure, "value": 0.0274}},
        "method": "temperature",
        "temperature": 1.43,
        "file": "calibration.csv",
        "fitted_rows": 1067,
        "reported_file": "held_out.csv",
        "reported_rows": 2133,
        "held_back": False,
        "intervals": "95 % intervals",
        "labels": None,
        "notes": [],
    }
    bundle = tiny.write_bundle(folder / "scored", abstain_threshold=0.7, calibration=report)
    with serving(bundle, folder / "log", INFERER_GOLDEN_CHECK="off") as server:
        yield server


@pytest.fixture
def multi_tab(browser: Browser, multi_server: Server) -> Iterator[Tab]:
    """The page of the multi-label bundle."""
    with opened(browser, multi_server) as tab:
        yield tab


def test_the_bars_show_the_scores_of_predict(browser: Browser, demo: Server) -> None:
    """The bars have the unrounded scores of /predict, best first, and matching widths."""
    with opened(browser, demo) as tab:
        tab.classify("huggies")
        expected = demo.predict({"text": "huggies"}).json()
        assert list(tab.bars().items()) == sorted(expected["scores"].items(), key=lambda pair: -pair[1])
        first = tab.page.locator(".bars li").first
        assert first.locator(".score").inner_text() == f"{100 * expected['score']:.2f} %"
        assert float(first.locator(".fill").evaluate("bar => parseFloat(bar.style.width)")) == pytest.approx(
            100 * expected["score"], rel=1e-4
        )
        assert "✓" in first.inner_text()
        assert tab.page.locator(".bars .chosen").count() == 1
        assert tab.page.locator(".verdict").inner_text() == f"brand, {100 * expected['score']:.2f} %"
        assert "4 tokens, all used." in tab.prediction.inner_text()
        assert "queue" in tab.page.locator("#took").inner_text()
        assert tab.page.title().startswith("query_type")


def test_a_proxy_may_serve_the_pages_under_a_path(tab: Tab) -> None:
    """Behind a proxy that adds a path, both pages find their files and the service."""
    root = f"http://127.0.0.1:{tab.server.port}/"
    urls = "performance.getEntriesByType('resource').map(entry => entry.name)"
    tab.page.route(f"{root}under/**", lambda route: route.continue_(url=route.request.url.replace("under/", "")))
    tab.page.goto(f"{root}under/")
    tab.classify("good")
    assert f"'{root}under/predict'" in tab.command()
    assert all(name.startswith(f"{root}under/") for name in tab.page.evaluate(urls))
    tab.page.get_by_role("link", name="The API").click()
    tab.page.wait_for_selector(".opblock")
    assert tab.page.locator(".servers select").input_value() == f"{root}under"
    assert all(name.startswith(f"{root}under/") for name in tab.page.evaluate(urls))
    tab.page.get_by_role("link", name="Try the model").click()
    tab.page.wait_for_selector("#model-name:has-text('tiny')")


def test_an_older_prediction_never_replaces_a_newer_one(tab: Tab) -> None:
    """A second text cancels the pending request of the first, and its own prediction stays."""
    held: list[Route] = []
    stopped: list[str] = []
    tab.page.on("requestfailed", lambda request: stopped.append(request.post_data or ""))

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    tab.page.route("**/predict", hold_first)
    with tab.page.expect_request("**/predict"):
        tab.page.fill("#text", "bad")
    tab.classify("odd")
    assert tab.page.locator(".verdict").inner_text().startswith("other")
    assert [json.loads(body) for body in stopped] == [{"text": "bad"}]
    held[0].abort()
    tab.classify("odd odd")
    assert next(iter(tab.bars())) == "other"


def test_a_pause_in_typing_sends_one_request(tab: Tab) -> None:
    """A text typed without a pause makes one request."""
    bodies: list[str] = []
    tab.page.on("request", lambda request: request.url.endswith("/predict") and bodies.append(request.post_data or ""))
    with tab.page.expect_response("**/predict"):
        tab.page.locator("#text").press_sequentially("good bad")
    assert [json.loads(body) for body in bodies] == [{"text": "good bad"}]


def test_user_text_stays_text(tab: Tab) -> None:
    """HTML in a text stays text in the explanation, the table and the command."""
    tab.classify(HOSTILE)
    tab.page.click("#explain")
    tab.page.wait_for_selector("#parts")
    assert HOSTILE.split()[0] in tab.page.locator("#parts").inner_text()
    assert "<script>" in tab.command()
    tab.classify_all([HOSTILE])
    assert tab.page.locator("#rows td.text").inner_text() == HOSTILE
    assert tab.page.locator("main img, main script").count() == 0
    assert tab.page.title() == "tiny – text classifier"


def test_the_tokens_used(tab: Tab) -> None:
    """For a long text a sentence names the part that the model used."""
    tab.page.locator("#options summary").click()
    tab.classify(LONG)
    for truncation, sentence in {
        "head_tail": "11 tokens; the model uses 8 from the beginning and the end and ignores the middle.",
        "tail": "11 tokens; the model uses 8 from the end and ignores the beginning.",
        "windows": "11 tokens, all used, in 2 windows of up to 8.",
        "head": "11 tokens; the model uses 8 from the beginning and ignores the rest.",
        "": "11 tokens; the model uses 8 from the beginning and ignores the rest.",
    }.items():
        with tab.page.expect_response("**/predict"):
            tab.page.select_option("#truncation", truncation)
        tab.page.wait_for_selector("#prediction[aria-busy=false]")
        assert tab.page.locator(".usage").inner_text() == sentence
        body = {"text": LONG} | ({"truncation": truncation} if truncation else {})
        assert tab.bars() == tab.server.predict(body).json()["scores"]


def test_a_rejected_text_shows_the_error_of_the_server(tab: Tab) -> None:
    """With truncation error a long text shows the server's sentence and request id, and stays in the field."""
    tab.allowed.append("422")
    tab.page.locator("#options summary").click()
    tab.page.select_option("#truncation", "error")
    with tab.page.expect_response("**/predict") as response:
        tab.page.fill("#text", LONG)
    problem = tab.page.locator("#prediction .problem")
    reply = response.value.json()
    assert reply["request_id"] in problem.inner_text()
    assert reply["error"].removeprefix("field 'text': ")[1:] in problem.inner_text()
    assert tab.page.input_value("#text") == LONG
    tab.page.select_option("#truncation", "head")
    tab.page.wait_for_selector(".verdict")


def test_top_k_and_its_command(tab: Tab) -> None:
    """With top_k 2 the page shows two bars and a note, and the command returns the same two scores."""
    tab.page.locator("#options summary").click()
    tab.page.fill("#top-k", "2")
    tab.classify("good bad bad")
    assert list(tab.bars()) == ["neg", "pos"]
    assert "Only the best 2 of 3 labels." in tab.prediction.inner_text()
    assert run_by_shell(tab.command())["scores"] == tab.bars()


def test_multi_label_has_its_thresholds(multi_tab: Tab) -> None:
    """Each bar shows the threshold of its label; the labels at or above it are chosen."""
    multi_tab.classify("good bad bad")
    chosen = multi_tab.page.locator(".bars .chosen .label").all_inner_texts()
    assert [name.split("\n")[0].removesuffix(" (chosen)") for name in chosen] == ["neg", "pos", "other"]
    multi_tab.classify("good bad")
    row = multi_tab.page.locator(".bars li[data-label=neg]")
    assert "from 90 %" in row.inner_text()
    assert row.locator(".threshold").evaluate("mark => mark.style.left") == "90%"
    assert "chosen" not in (row.get_attribute("class") or "")
    multi_tab.page.locator("#options summary").click()
    multi_tab.page.fill("#threshold", "0.7")
    multi_tab.page.wait_for_selector(".least:has-text('from 70 %')")
    assert multi_tab.page.locator(".verdict").inner_text() == "2 labels: pos, neg"
    expected = multi_tab.server.predict({"text": "good bad", "threshold": 0.7}).json()
    assert run_by_shell(multi_tab.command()) == expected
    multi_tab.page.fill("#threshold", "0.99")
    multi_tab.page.wait_for_selector(".verdict:has-text('No label reaches its threshold')")


def test_abstention(browser: Browser, scored: Server) -> None:
    """Below the minimum score the page shows no label, the score and the minimum; no bar is marked."""
    with opened(browser, scored) as tab:
        tab.classify("good bad")
        verdict = tab.page.locator(".verdict").inner_text()
        assert verdict.startswith("No label: the best score, 46.83 % for pos, is below the minimum of 70 %")
        assert tab.page.locator(".bars .chosen").count() == 0
        tab.classify("good")
        assert tab.page.locator(".verdict").inner_text() == "pos, 78.70 %"


def test_an_explanation(tab: Tab) -> None:
    """Each word has its signed contribution from /explain, in a table and in the text; the label can change."""
    text = "good 😀 bad plain"
    tab.classify(text)
    tab.page.click("#explain")
    tab.page.wait_for_selector("#parts")
    reply = tab.server.request("POST", "/explain", json.dumps({"text": text}), content_type="application/json").json()
    rows = tab.page.locator("#parts tbody tr")
    assert [float(row.get_attribute("data-contribution") or "nan") for row in rows.all()] == [
        part["contribution"] for part in reply["parts"]
    ]
    assert rows.locator("th").all_inner_texts() == [part["text"] for part in reply["parts"]]
    assert rows.first.inner_text().split("\t")[1:] == [f"+{100 * reply['parts'][0]['contribution']:.2f}", "for"]
    assert [part.split("\n")[0][:3] for part in tab.page.locator(".shaded .part").all_inner_texts()][::2] == [
        "goo",
        "bad",
    ]
    figures = tab.page.locator(".shaded .points").all_inner_texts()
    shaded = tab.page.locator(".shaded").inner_text()
    for figure in figures:
        shaded = shaded.replace(figure, "", 1)
    assert (shaded, len(figures)) == (text, 4)
    tab.page.select_option("#explained-label", "neg")
    tab.page.wait_for_selector("#parts[aria-label='Contributions to neg']")
    tab.classify("odd")
    assert tab.page.locator("#parts").count() == 0


def test_an_empty_text_is_no_request(tab: Tab) -> None:
    """Classify without a text shows a sentence and moves the focus to the field."""
    tab.page.click("#classify")
    assert tab.prediction.inner_text() == "No text yet. Type one first."
    assert tab.page.evaluate("document.activeElement.id") == "text"


def test_a_stopped_server(browser: Browser, tiny_bundle: Path, tmp_path: Path) -> None:
    """After a stop of the server the page shows a sentence and Try again, and keeps the text."""
    with serving(tiny_bundle, tmp_path / "log") as server, opened(browser, server) as tab:
        tab.allowed.append("ERR_CONNECTION_REFUSED")
        tab.classify("good")
        server.stop()
        tab.page.fill("#text", "good bad")
        problem = tab.page.locator("#prediction .problem")
        problem.wait_for()
        assert problem.inner_text().startswith("The server does not respond.")
        assert problem.get_by_role("button", name="Try again").is_visible()
        assert tab.page.input_value("#text") == "good bad"


def test_a_reply_other_than_json(tab: Tab) -> None:
    """An HTML page of a proxy shows as its status, without the markup."""
    tab.allowed.append("502")
    tab.page.route("**/predict", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    tab.classify("good")
    assert tab.page.locator("#prediction .problem").inner_text().startswith("The server returned status 502")


def test_the_model_card(browser: Browser, demo: Server) -> None:
    """The card has facts of the model and each figure of its guard with value, interval and n."""
    with opened(browser, demo, path="/#model") as tab:
        info = demo.request("GET", "/info").json()
        tab.page.wait_for_selector("#card-overview")
        rows = {row.get_attribute("data-figure"): row.inner_text() for row in tab.page.locator("#guard tbody tr").all()}
        assert set(rows) == set(info["guard"]["figures"])
        # The digits depend on the CPU that trained the demo.
        same = info["guard"]["figures"]["agreement"]
        interval = f"{100 * same['low']:.2f} to {100 * same['high']:.2f} %"
        assert rows["agreement"].split("\t") == ["Same label as fp32", f"{100 * same['value']:.2f} %", interval, "373"]
        card = tab.page.locator("#card").inner_text()
        for words in (
            "query_type",
            "64 tokens",
            "int8-token",
            "not calibrated",
            "None: the best label",
            "at most 256",
        ):
            assert words in card
        assert f"Passed: the {info['golden_check']['texts']} texts" in card


def test_the_card_of_a_calibrated_model(browser: Browser, scored: Server) -> None:
    """The card has the ECE with its interval and n, and names missing measurements."""
    with opened(browser, scored, path="/#model") as tab:
        tab.page.wait_for_selector("#calibration")
        row = tab.page.locator("#calibration tr[data-figure=ece_after]").inner_text().split("\t")
        assert row == ["ECE after", "0.0274", "0.0500 to 0.0700", "2,133"]
        card = tab.page.locator("#card").inner_text()
        assert "Temperature 1.430, fitted on 1,067 rows of calibration.csv" in card
        assert "A text gets no label if its best score is below 70 %." in card
        assert "This export did not compare int8 with fp32" in card
        assert "Off: the texts stored" in card
