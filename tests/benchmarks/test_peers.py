"""The comparison with peers: wrk's output, results of several runs, tables, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.peers import engine, environments, growth, http, wrk
from benchmarks.peers.environments import MissingError, last_line
from benchmarks.peers.results import Results, best

OUTPUT = """Running 3s test @ http://127.0.0.1:1
  1 threads and 32 connections
Requests/sec:    500.00
result {"requests": 1500, "seconds": 3.0, "p50_ms": 60.5, "p99_ms": 90.25, "errors": 300}
"""
CELL = {"model": "MiniLM-L6", "texts": "short", "clients": 1}
FIGURES = {"p50_ms": 1.0, "p99_ms": 2.0, "errors": 0, "cpu_ms_per_request": 1.5, "pss_bytes": 1e8, "rss_bytes": 1e8}


def test_the_replies_per_second_leave_errors_out() -> None:
    """Refused requests do not count as throughput."""
    found = wrk.parse(OUTPUT)
    assert (found.p50_ms, found.p99_ms, found.errors) == (60.5, 90.25, 300)
    assert found.requests_per_second == 400


def test_output_without_a_result_is_told() -> None:
    """Output of wrk without a result is an error that quotes it."""
    with pytest.raises(MissingError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_without_wrk_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without wrk gets a line with the command that installs it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match="apt-get install wrk"):
        wrk.check()


def test_a_peer_that_cannot_be_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed installation is a MissingError of one line with pip's reason, and leaves no half environment."""
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setitem(environments.PACKAGES, "none", (str(tmp_path / "missing.whl"),))
    with pytest.raises(MissingError, match="none: the environment cannot be made: .*missing.whl") as caught:
        environments.python_of("none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_the_last_line_of_a_log_is_the_one_that_names_the_error() -> None:
    """Of a traceback followed by messages the line of the error is shown."""
    assert last_line("Traceback\n  File x\nRuntimeError: no loop\nshutting down\n") == "RuntimeError: no loop"
    assert last_line("one\ntwo\n\n") == "two"
    assert last_line("") == "it said nothing"


def results(target: Path, *, add: bool = False, run: str = "a") -> Results:
    """Return the results of a run with its name."""
    made = Results("peers-test", http.KEY, add=add, target=target)
    made.run = run
    return made


def key(peer: str, variant: str = "1 worker") -> dict[str, object]:
    """Return the key of a cell."""
    return {**CELL, "peer": peer, "variant": variant}


def test_a_later_run_replaces_its_cells_and_keeps_the_others(tmp_path: Path) -> None:
    """A run replaces what it measured; with `add` its rounds join the earlier ones."""
    target = tmp_path / "results.json"
    first = results(target)
    first.measured(key("ours"), {"requests_per_second": 100})
    first.measured(key("LitServe"), {"requests_per_second": 50})
    first.save()
    second = results(target, run="b")
    second.measured(key("ours"), {"requests_per_second": 200})
    second.measured(key("ours"), {"requests_per_second": 220})
    second.save()
    assert {row["peer"]: row["requests_per_second"] for row in second.medians()} == {"ours": 210, "LitServe": 50}
    third = results(target, add=True, run="c")
    third.measured(key("ours"), {"requests_per_second": 900})
    third.save()
    assert [len(cell["rounds"]) for cell in json.loads(target.read_text())["cells"]] == [3, 1]
    assert {row["peer"]: row["requests_per_second"] for row in third.medians()} == {"ours": 220, "LitServe": 50}


def test_the_best_variant_counts(tmp_path: Path) -> None:
    """Of the variants of a server the one with the most replies is shown, with our ratio of the same run alone."""
    made = results(tmp_path / "results.json")
    for peer, variant, rate in (("ours", "1 worker", 100), ("ours", "2 workers", 300), ("LitServe", "1 worker", 150)):
        made.measured(key(peer, variant), {"requests_per_second": rate, **FIGURES})
    rows = made.medians()
    assert [row["variant"] for row in best(rows, ("peer",), "requests_per_second")] == ["2 workers", "1 worker"]
    facts = {"MiniLM-L6": {"ours": {"disk_bytes": 2e8, "variants": {"1 worker": {"start_s": 0.8}}}}}
    shown = http.table(rows, facts)
    assert "2.00x" in shown
    assert http.ratios(rows) == {"MiniLM-L6, short texts, clients: 1": {"LitServe": 2.0}}
    assert "200 MB   1 worker 0.8 s" in shown
    rows[2]["run"] = "another"
    assert "2.00x" not in http.table(rows, facts)


def test_the_table_of_engines_has_ratios_and_fidelity() -> None:
    """A cell is the time with ours over it; the share of equal labels stands behind."""
    rows = [
        {"model": "MiniLM-L6", "engine": name, "threads": 1, "batch": 1, "tokens": 16, "ms": ms, "run": "a"}
        for name, ms in (("ours", 1.0), ("ort int8", 2.0))
    ]
    shown = engine.table(rows, {"demo": {"engines": {"ort int8": {"same_label": 0.979}}}})
    (line,) = [line for line in shown.splitlines() if line.startswith("ort int8")]
    assert line.split()[2:] == ["2.00", "0.50", "demo", "97.9", "%"]
    assert engine.ratios(rows) == {"MiniLM-L6, threads: 1, texts: 1": {"ort int8": 0.5}}


def test_a_cost_that_bends_is_marked() -> None:
    """The cost per text and per token is marked where it falls or rises by a tenth against the step before."""
    rows = [
        {"model": "MiniLM-L6", "engine": "ours", "threads": 1, "batch": batch, "tokens": tokens, "ms": ms}
        for batch, tokens, ms in ((1, 8, 0.8), (1, 16, 0.8), (1, 32, 1.65), (4, 8, 4.0))
    ]
    found = growth.curves(rows, [])
    assert found["MiniLM-L6, threads: 1, 8 tokens: ms per text, by batch"] == {"ours": {1: 0.8, 4: 1.0}}
    assert growth.marks([100.0, 50.0, 51.5, 60.0]) == ["", "<", "", ">"]
    assert "50<" in growth.table(found)
