"""The page with one text: its answer as it is typed, as bars, in sentences, and as the curl that asks the same."""

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

LONG = "good bad odd plain plain plain good bad odd"  # 11 tokens; the model reads 8
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> &lt; ${x} `id`"


@pytest.fixture(scope="module")
def demo(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on the demo's bundle."""
    with serving(demo_bundle, tmp_path_factory.mktemp("demo") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real gunicorn on a bundle that abstains and that has a report of a calibration."""
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


def test_the_bars_are_what_predict_answers(browser: Browser, demo: Server) -> None:
    """The demo's bars have the scores of /predict to the last digit, best first, as wide as they say, in per cent."""
    with opened(browser, demo) as tab:
        tab.ask("huggies")
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
        assert "4 tokens, all read." in tab.answer.inner_text()
        assert "queue" in tab.page.locator("#took").inner_text()
        assert tab.page.title().startswith("query_type")


def test_the_page_needs_no_more_than_its_own_files(tab: Tab, server: Server) -> None:
    """Every file that the page asks for comes from this server, and its Content-Security-Policy allows them all."""
    names = tab.page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith(f"http://127.0.0.1:{server.port}/") for name in names)
    assert {name.rsplit("/", 1)[1] for name in names} >= {"page.css", "parts.css", "page.js", "one.js", "info"}
    assert tab.page.evaluate("getComputedStyle(document.querySelector('.tabs')).display") == "flex"


def test_a_proxy_may_put_it_under_a_path(tab: Tab) -> None:
    """Behind a proxy that serves it under a path of its own, both pages find their files and the service."""
    root = f"http://127.0.0.1:{tab.server.port}/"
    asked = "performance.getEntriesByType('resource').map(entry => entry.name)"
    tab.page.route(f"{root}under/**", lambda route: route.continue_(url=route.request.url.replace("under/", "")))
    tab.page.goto(f"{root}under/")
    tab.ask("good")
    assert f"'{root}under/predict'" in tab.command()
    assert all(name.startswith(f"{root}under/") for name in tab.page.evaluate(asked))
    tab.page.get_by_role("link", name="The API").click()
    tab.page.wait_for_selector(".opblock")
    assert tab.page.locator(".servers select").input_value() == f"{root}under"
    assert all(name.startswith(f"{root}under/") for name in tab.page.evaluate(asked))
    tab.page.get_by_role("link", name="Try the model").click()
    tab.page.wait_for_selector("#model-name:has-text('tiny')")


def test_an_older_answer_never_comes_last(tab: Tab) -> None:
    """While the first text's answer is held back, a second text stops that request and its own answer stays."""
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
    tab.ask("odd")
    assert tab.page.locator(".verdict").inner_text().startswith("other")
    assert [json.loads(body) for body in stopped] == [{"text": "bad"}]
    held[0].abort()
    tab.ask("odd odd")
    assert next(iter(tab.bars())) == "other"


def test_typing_asks_once_there_is_a_pause(tab: Tab) -> None:
    """A text typed in a run of keys is asked for once."""
    asked: list[str] = []
    tab.page.on("request", lambda request: request.url.endswith("/predict") and asked.append(request.post_data or ""))
    with tab.page.expect_response("**/predict"):
        tab.page.locator("#text").press_sequentially("good bad")
    assert [json.loads(body) for body in asked] == [{"text": "good bad"}]


def test_user_text_stays_text(tab: Tab) -> None:
    """HTML in a text stands on the page as it was typed: in the explanation, in the table, in the command."""
    tab.ask(HOSTILE)
    tab.page.click("#explain")
    tab.page.wait_for_selector("#parts")
    assert HOSTILE.split()[0] in tab.page.locator("#parts").inner_text()
    assert "<script>" in tab.command()
    tab.ask_all([HOSTILE])
    assert tab.page.locator("#rows td.text").inner_text() == HOSTILE
    assert tab.page.locator("main img, main script").count() == 0
    assert tab.page.title() == "tiny – text classifier"


def test_what_was_read_is_said(tab: Tab) -> None:
    """A text longer than the model reads has a sentence that says which part of it was read."""
    tab.page.locator("#options summary").click()
    tab.ask(LONG)
    for truncation, sentence in {
        "head_tail": "11 tokens; the model reads 8, of the beginning and of the end: the middle went unread.",
        "windows": "11 tokens, all read, in 2 parts of up to 8.",
        "head": "11 tokens; the model reads 8: what follows went unread.",
        "": "11 tokens; the model reads 8: what follows went unread.",
    }.items():
        with tab.page.expect_response("**/predict"):
            tab.page.select_option("#truncation", truncation)
        tab.page.wait_for_selector("#answer[aria-busy=false]")
        assert tab.page.locator(".read").inner_text() == sentence
        asked = {"text": LONG} | ({"truncation": truncation} if truncation else {})
        assert tab.bars() == tab.server.predict(asked).json()["scores"]


def test_what_tail_read_is_said(tab: Tab) -> None:
    """Of a text of which the end was read, the sentence says that what comes before went unread."""
    answer = {"label": "pos", "score": 1, "labels": ["pos"], "scores": {"pos": 1}, "num_tokens": 9, "truncated": True}
    tab.page.route("**/predict", lambda route: route.fulfill(json=answer))
    tab.page.locator("#options summary").click()
    tab.page.select_option("#truncation", "tail")
    tab.ask("good")
    read = tab.page.locator(".read").inner_text()
    assert read == "9 tokens; the model reads 8, of the end: what comes before went unread."


def test_a_refused_text_has_the_servers_sentence(tab: Tab) -> None:
    """With truncation error a long text brings the server's sentence and its request id; the text stays."""
    tab.allowed.append("422")
    tab.page.locator("#options summary").click()
    tab.page.select_option("#truncation", "error")
    with tab.page.expect_response("**/predict") as response:
        tab.page.fill("#text", LONG)
    problem = tab.page.locator("#answer .problem")
    reply = response.value.json()
    assert reply["request_id"] in problem.inner_text()
    assert reply["error"].removeprefix("field 'text': ")[1:] in problem.inner_text()
    assert tab.page.input_value("#text") == LONG
    tab.page.select_option("#truncation", "head")
    tab.page.wait_for_selector(".verdict")


def test_top_k_and_its_command(tab: Tab) -> None:
    """With top_k 2 there are two bars, a sentence that says so, and a command that answers the same two."""
    tab.page.locator("#options summary").click()
    tab.page.fill("#top-k", "2")
    tab.ask("good bad bad")
    assert list(tab.bars()) == ["neg", "pos"]
    assert "The best 2 of 3 labels are shown." in tab.answer.inner_text()
    assert run_by_shell(tab.command())["scores"] == tab.bars()


def test_multi_label_has_its_thresholds(multi_tab: Tab) -> None:
    """Each label's bar has its threshold as a mark and in words; labels at or above it are the chosen ones."""
    multi_tab.ask("good bad bad")
    chosen = multi_tab.page.locator(".bars .chosen .label").all_inner_texts()
    assert [name.split("\n")[0].removesuffix(" (chosen)") for name in chosen] == ["neg", "pos", "other"]
    multi_tab.ask("good bad")
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


def test_a_score_too_low_names_no_label(browser: Browser, scored: Server) -> None:
    """A model that abstains says which score was too low and from which it names a label; no bar is marked."""
    with opened(browser, scored) as tab:
        tab.ask("good bad")
        verdict = tab.page.locator(".verdict").inner_text()
        assert verdict.startswith("No label is named: the best score, 46.83 % for pos, is below 70 %")
        assert tab.page.locator(".bars .chosen").count() == 0
        tab.ask("good")
        assert tab.page.locator(".verdict").inner_text() == "pos, 78.70 %"


def test_an_explanation(tab: Tab) -> None:
    """Each word has its signed figure of /explain, in a table and on the text; another label can be asked for."""
    text = "good 😀 bad plain"
    tab.ask(text)
    tab.page.click("#explain")
    tab.page.wait_for_selector("#parts")
    reply = tab.server.request("POST", "/explain", json.dumps({"text": text}), content_type="application/json").json()
    rows = tab.page.locator("#parts tbody tr")
    assert [float(row.get_attribute("data-contribution") or "nan") for row in rows.all()] == [
        part["contribution"] for part in reply["parts"]
    ]
    assert rows.locator("th").all_inner_texts() == [part["text"] for part in reply["parts"]]
    assert rows.first.inner_text().split("\t")[1:] == [f"+{100 * reply['parts'][0]['contribution']:.2f}", "for it"]
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
    tab.page.wait_for_selector("#parts[aria-label='What each part contributes to neg']")
    tab.ask("odd")
    assert tab.page.locator("#parts").count() == 0


def test_an_empty_text_is_no_request(tab: Tab) -> None:
    """Classify without a text says so, and puts the focus into the field."""
    tab.page.click("#classify")
    assert tab.answer.inner_text() == "There is no text yet. Type one first."
    assert tab.page.evaluate("document.activeElement.id") == "text"


def test_a_server_that_is_gone(browser: Browser, tiny_bundle: Path, tmp_path: Path) -> None:
    """When the server has stopped the page says so in a sentence, keeps the text, and offers to try again."""
    with serving(tiny_bundle, tmp_path / "log") as server, opened(browser, server) as tab:
        tab.allowed.append("ERR_CONNECTION_REFUSED")
        tab.ask("good")
        server.stop()
        tab.page.fill("#text", "good bad")
        problem = tab.page.locator("#answer .problem")
        problem.wait_for()
        assert problem.inner_text().startswith("The server does not answer.")
        assert problem.get_by_role("button", name="Try again").is_visible()
        assert tab.page.input_value("#text") == "good bad"


def test_a_reply_that_is_no_json(tab: Tab) -> None:
    """A proxy's page of HTML is told by its status, without its markup."""
    tab.allowed.append("502")
    tab.page.route("**/predict", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    tab.ask("good")
    assert tab.page.locator("#answer .problem").inner_text().startswith("The server answered 502 and did not say why.")


def test_the_models_card(browser: Browser, demo: Server) -> None:
    """The card has the demo's facts and each figure of its guard with value, interval and n."""
    with opened(browser, demo, path="/#model") as tab:
        info = demo.request("GET", "/info").json()
        tab.page.wait_for_selector("#card-about")
        rows = {row.get_attribute("data-figure"): row.inner_text() for row in tab.page.locator("#guard tbody tr").all()}
        assert set(rows) == set(info["guard"]["figures"])
        # The demo is trained on this machine, and each kind of CPU rounds otherwise.
        same = info["guard"]["figures"]["agreement"]
        interval = f"{100 * same['low']:.2f} to {100 * same['high']:.2f} %"
        assert rows["agreement"].split("\t") == ["Same label as fp32", f"{100 * same['value']:.2f} %", interval, "373"]
        card = tab.page.locator("#card").inner_text()
        for words in (
            "query_type",
            "64 tokens",
            "int8-token",
            "not calibrated",
            "Never: the best label",
            "at most 256",
        ):
            assert words in card
        assert f"Passed: the {info['golden_check']['texts']} texts" in card


def test_the_card_of_a_calibrated_model(browser: Browser, scored: Server) -> None:
    """The card has ECE before and after with n, and says what was not measured."""
    with opened(browser, scored, path="/#model") as tab:
        tab.page.wait_for_selector("#calibration")
        row = tab.page.locator("#calibration tr[data-figure=ece_after]").inner_text().split("\t")
        assert row == ["ECE after", "0.0274", "0.0500 to 0.0700", "2,133"]
        card = tab.page.locator("#card").inner_text()
        assert "Temperature 1.430, fitted on 1,067 rows of calibration.csv" in card
        assert "Where the best score is below 70 %." in card
        assert "How near int8 is to fp32 on the owner's own texts was not measured" in card
        assert "Off: whether stored texts" in card
