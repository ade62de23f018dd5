"""The view of many texts: requests within the limits, table rows, waits, stops, and the CSV file."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import Tab, opened
from tests.support.server import Server, run_to_end

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

LINES = [
    *("good", "", 'bad "quoted", and a comma', "   ", "=SUM(A1:A9) good", "+good", "-bad", "@odd", "good\tbad"),
    *("é 😀 odd", "odd " * 9, "<b>good</b>", "'good"),
]
TEXTS = [line for line in LINES if line.strip()]


def saved(tab: Tab) -> list[dict[str, str]]:
    """Save the CSV file, check its byte order mark and CRLF line ends, and return its rows."""
    text = downloaded(tab)
    assert "\n" not in text.replace("\r\n", "")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def downloaded(tab: Tab) -> str:
    """Save the CSV file, check its byte order mark and last line end, and return its text."""
    with tab.page.expect_download() as download:
        tab.page.click("#download")
    data = Path(download.value.path()).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    text = data.decode("utf-8-sig")
    assert text.endswith("\r\n")
    return text


def record_requests(tab: Tab) -> list[dict[str, Any]]:
    """Return a list that collects the bodies of the page's requests to /predict."""
    bodies: list[dict[str, Any]] = []
    tab.page.on(
        "request", lambda sent: sent.url.endswith("/predict") and bodies.append(json.loads(sent.post_data or "{}"))
    )
    return bodies


def test_the_file_has_the_replies_of_the_api(tab: Tab) -> None:
    """Each text has a line with the label, unrounded scores and tokens that /predict returns for it alone."""
    bodies = record_requests(tab)
    tab.classify_all(LINES)
    assert all(len(body["texts"]) <= 4 for body in bodies)
    assert [text for body in bodies for text in body["texts"]] == TEXTS
    rows = saved(tab)
    assert [int(row["line"]) for row in rows] == [n for n, line in enumerate(LINES, 1) if line.strip()]
    for row, text in zip(rows, TEXTS, strict=True):
        reply = tab.server.predict({"text": text}).json()
        guarded = text if text[0] not in "=+-@" else f"'{text}"
        assert (row["text"], row["label"], row["labels"]) == (guarded, reply["label"], "|".join(reply["labels"]))
        assert {name: float(row[f"score of {name}"]) for name in reply["scores"]} == reply["scores"]
        assert float(row["score"]) == reply["score"]
        assert (row["num_tokens"], row["truncated"]) == (str(reply["num_tokens"]), str(reply["truncated"]).lower())
        assert row["error"] == ""
    assert "2 empty lines skipped" in tab.page.locator("#lines-count").inner_text()
    note = tab.page.locator("#note").inner_text()
    assert note.startswith(f"Done: {len(TEXTS)} of {len(TEXTS)} texts.")
    assert "an apostrophe before 4 texts" in note


def test_the_table_has_a_row_for_each_text(tab: Tab) -> None:
    """The table shows line, text, label, score, tokens and truncation, with counts per label above it."""
    tab.classify_all(["good", "", "odd " * 9])
    rows = [row.inner_text().split("\t") for row in tab.page.locator("#rows tbody tr").all()]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["1", "good", "pos", "78.70 %", "3", "no"],
        ["3", ("odd " * 9).strip(), "other", ">99.99 %", "11", "yes"],
    ]
    assert tab.page.locator("#tally").inner_text().split("\n") == ["1 pos", "1 other", "1 truncated"]
    assert tab.page.locator("#count").inner_text() == "2 of 2"


def test_multi_label_rows_list_their_labels(browser: Browser, multi_server: Server) -> None:
    """A multi-label row has each label at or above the chosen threshold; the file joins them with a bar."""
    with opened(browser, multi_server) as tab:
        tab.page.wait_for_selector("#model-name:has-text('multi')")
        tab.page.locator("#options summary").click()
        tab.page.fill("#threshold", "0.8")
        tab.classify_all(["good bad", "plain"])
        assert [row["labels"] for row in saved(tab)] == ["pos|neg", ""]
        rows = [row.inner_text().split("\t")[2:4] for row in tab.page.locator("#rows tbody tr").all()]
        assert rows == [["pos, neg", "88.08 %, 88.08 %"], ["none (best: pos)", "50.00 %"]]
        assert tab.page.locator("#tally").inner_text().split("\n") == ["1 pos", "1 neg", "1 without a label"]


def test_a_rejected_text_does_not_affect_the_others(tab: Tab) -> None:
    """A text over a limit, or rejected by the service, has an error in its row; the others get predictions."""
    tab.allowed.append("422")
    tab.page.locator("#options summary").click()
    tab.page.select_option("#truncation", "error")
    lines = ["good", "good " * 210, "bad", "odd " * 9, "odd"]
    tab.classify_all(lines)
    rows = saved(tab)
    assert [row["label"] for row in rows] == ["pos", "", "neg", "", "other"]
    assert rows[1]["error"] == "Has 1,050 characters, at most 1,000 are allowed."
    expected = tab.server.predict({"text": lines[3], "truncation": "error"}).json()["error"]
    assert rows[3]["error"].rstrip(".")[1:] == expected.removeprefix("field 'text': ")[1:]
    assert rows[3]["error"] in tab.page.locator("#rows .refused").last.inner_text()
    assert "2 rejected" in tab.page.locator("#tally").inner_text()


def test_an_invalid_option_shows_one_error(tab: Tab) -> None:
    """An option that the service rejects shows one error, after one request."""
    tab.allowed.append("422")
    bodies = record_requests(tab)
    tab.page.wait_for_selector("#model-name:has-text('tiny')")
    tab.page.evaluate("document.querySelector('#truncation').append(new Option('middle', 'middle'))")
    tab.page.locator("#options summary").click()
    tab.page.select_option("#truncation", "middle")
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "good\nbad")
    tab.page.click("#classify-all")
    tab.page.wait_for_selector("#many-problem .problem:has-text('truncation')")
    assert tab.page.locator("#note").inner_text() == "Stopped: 0 of 2 texts, 2 left."
    assert len(bodies) == 1


def test_requests_stay_below_the_bytes_allowed(tab: Tab) -> None:
    """Texts that together exceed the byte limit go in several requests below it."""
    bodies: list[bytes] = []
    tab.page.on("request", lambda sent: sent.url.endswith("/predict") and bodies.append(sent.post_data_buffer or b""))
    tab.classify_all(["\x01" * 900] * 8)  # each is six bytes of JSON
    assert sum(map(len, bodies)) > 8 * 5400
    assert 16_000 < max(map(len, bodies)) <= 20_000
    assert [row["error"] for row in saved(tab)] == [""] * 8


def test_a_busy_server(tab: Tab) -> None:
    """After 429 and 503 with Retry-After the page waits, shows the wait, and gets a prediction for each text."""
    tab.allowed += ["429", "503"]
    statuses = [503, 429]
    error = json.dumps({"error": "busy", "error_type": "Overloaded", "request_id": "x"})

    def refuse(route: Route) -> None:
        if not statuses:
            route.continue_()
            return
        status = statuses.pop()
        headers = {"retry-after": str(2 - len(statuses)), "content-type": "application/json"}
        route.fulfill(status=status, body=error, headers=headers)

    tab.page.route("**/predict", refuse)
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "\n".join(["good", "bad"] * 5))
    tab.page.click("#classify-all")
    tab.page.wait_for_selector("#note:has-text('The server is busy. Next attempt in 2 s, after 2 refusals.')")
    tab.page.wait_for_selector("#note:has-text('Done: 10 of 10 texts.')")
    assert [row["label"] for row in saved(tab)] == ["pos", "neg"] * 5


def test_stop_and_continue(tab: Tab) -> None:
    """Stop keeps the predictions, counts the rest and keeps the focus on a button; Continue sends only the rest."""
    passed: list[Route] = []

    def hold_second(route: Route) -> None:
        passed.append(route)
        if len(passed) != 2:
            route.continue_()

    tab.page.route("**/predict", hold_second)
    bodies = record_requests(tab)
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "\n".join(["good"] * 4 + ["bad"] * 6))
    tab.page.click("#classify-all")
    tab.page.wait_for_selector("#count:has-text('4 of 10')")
    assert tab.page.locator("#bar").evaluate("bar => [bar.value, bar.max]") == [4, 10]
    tab.page.locator("#stop").press("Enter")
    tab.page.wait_for_selector("#note:has-text('Stopped: 4 of 10 texts, 6 left.')")
    assert tab.page.evaluate("document.activeElement.id") == "classify-all"
    assert [row["error"] for row in saved(tab)] == [""] * 4 + ["not sent"] * 6
    tab.page.click("#continue")
    tab.page.wait_for_selector("#note:has-text('Done: 10 of 10 texts.')")
    assert [len(body["texts"]) for body in bodies] == [4, 4, 4, 2]
    assert [row["label"] for row in saved(tab)] == ["pos"] * 4 + ["neg"] * 6


def test_a_lost_connection_keeps_the_predictions(tab: Tab) -> None:
    """After a network error the predictions stay, and Try again sends the rest."""
    tab.allowed.append("ERR_FAILED")
    count = 0

    def cut_second(route: Route) -> None:
        nonlocal count
        count += 1
        route.abort() if count == 2 else route.continue_()

    tab.page.route("**/predict", cut_second)
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "\n".join(["good"] * 6))
    tab.page.click("#classify-all")
    problem = tab.page.locator("#many-problem .problem")
    assert problem.locator("strong").inner_text() == "The server does not respond."
    assert tab.page.locator("#note").inner_text() == "Stopped: 4 of 6 texts, 2 left."
    problem.get_by_role("button").click()
    tab.page.wait_for_selector("#note:has-text('Done: 6 of 6 texts.')")
    assert len(saved(tab)) == 6


def test_a_text_file_is_opened(tab: Tab, tmp_path: Path) -> None:
    """The lines of a text file fill the field, without the byte order mark."""
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeffgood\r\nbad é\r\n".encode())
    tab.page.click("#tab-many")
    tab.page.set_input_files("#file", file)
    tab.page.wait_for_selector("#lines-count:has-text('2 texts.')")
    assert tab.page.input_value("#lines") == "good\nbad é"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("reviews.csv.gz", b"\x1f\x8b", "a table"),
        ("reviews.parquet", b"PAR1", "a table"),
        ("reviews.txt", b"good\0\n", "not a text file"),
    ],
)
def test_a_table_is_never_read_as_lines(tab: Tab, tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    """The lines of a table and bytes that are not text stay out of the field; the note names the ways to score it."""
    (tmp_path / name).write_bytes(content)
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "kept")
    tab.page.set_input_files("#file", tmp_path / name)
    tab.page.wait_for_selector(f"#note:has-text('{name} is {kind}, not lines of texts. Paste its column')")
    assert tab.page.input_value("#lines") == "kept"


# Cells with each fault and each quoting that the command reads.
TABLE = (
    'id;review;note\n1;good film;\n2;"bad; ""odd""\nfilm";-3\n3;;x\n\n4;good\n5;good;a;b\n6;=SUM(A1);"  y"\n'
    "7;é 😀 odd;\n8;" + "odd " * 9 + ";z\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_is_scored_as_the_command_scores_it(tab: Tab, tiny_bundle: Path, tmp_path: Path, encoding: str) -> None:
    """The person chooses the column and sees the first rows; the file has the command's columns and values."""
    file = tmp_path / "reviews.csv"
    file.write_bytes(TABLE.encode(encoding))
    line = (sys.executable, "-m", "bulk", str(file), "--model", str(tiny_bundle), "--text-column", "review")
    assert run_to_end(*line, "--output", str(tmp_path / "scored.csv")).returncode == 1
    with (tmp_path / "scored.csv").open(encoding="utf-8", newline="") as scored:
        expected = list(csv.DictReader(scored))
    tab.page.click("#tab-many")
    tab.page.set_input_files("#file", file)
    tab.page.wait_for_selector("#table h2:has-text('reviews.csv')")
    assert tab.page.locator("#text-column").evaluate("one => one.value") == "review"  # guessed by its name
    assert "8 rows in 3 columns" in tab.page.locator("#table").inner_text()
    assert tab.page.locator("#table tbody tr").count() == 5
    assert not tab.page.locator("#lines").is_visible()
    tab.page.select_option("#text-column", "note")
    tab.page.select_option("#text-column", "review")
    tab.page.click("#classify-all")
    tab.page.wait_for_selector("#note:has-text('Done: 8 of 8 texts.')")
    found = list(csv.DictReader(io.StringIO(downloaded(tab), newline=""), strict=True))
    assert list(found[0]) == list(expected[0])
    for ours, theirs in zip(found, expected, strict=True):
        assert float(ours.pop("predicted_score") or -1) == float(theirs.pop("predicted_score") or -1)
        assert ours == theirs
    tab.page.click("text=Close the table")
    assert tab.page.locator("#lines").is_visible()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "reviews.csv has no line with column names."),
        (b"text,text\n1,2\n", "reviews.csv has the column “text” twice; rename one."),
        (b"text,error\n1,2\n", "reviews.csv already has the column “error”; rename it."),
        (b'text\n"good" film\n', "reviews.csv has a stray quote in line 2."),
        (b'text\n"good film\n', "reviews.csv has a quote in line 2 that is never closed."),
        (b"text\n\xe9\n", "reviews.csv cannot be read as UTF-8; save it as UTF-8."),
    ],
)
def test_a_faulty_csv_is_a_sentence(tab: Tab, tmp_path: Path, content: bytes, told: str) -> None:
    """A CSV that cannot be read as a table has its fault below the field, which keeps its lines."""
    (tmp_path / "reviews.csv").write_bytes(content)
    tab.page.wait_for_selector("#model-name:has-text('tiny')")
    tab.page.click("#tab-many")
    tab.page.fill("#lines", "kept")
    tab.page.set_input_files("#file", tmp_path / "reviews.csv")
    tab.page.wait_for_selector(f"#note:text-is('{told}')")
    assert tab.page.input_value("#lines") == "kept"
