"""`python -m inferer`: for a person, for a program, from standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inferer import ModelInferer
from tests.support import tiny
from tests.support.server import ROOT, environment, run_to_end

pytestmark = pytest.mark.slow


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `python -m inferer` with `arguments`."""
    command = [sys.executable, "-m", "inferer", *arguments]
    return subprocess.run(
        command, input=stdin, cwd=ROOT, env=environment(PYTHONIOENCODING="utf-8"), capture_output=True, check=False
    )


def test_a_person_sees_labels_with_bars(tiny_bundle: Path) -> None:
    """The answer for a person has the text, the best label marked, with score and bar, and the other labels."""
    done = run(str(tiny_bundle), "good")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "good"
    assert lines[1].split()[:3] == ["*", "pos", "78.70%"]
    assert "█" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["neg", "other"]


def test_a_command_in_place_of_the_bundle(tiny_bundle: Path) -> None:
    """`python -m inferer predict` and `serve` are the console command's."""
    assert run("predict", str(tiny_bundle), "good").stdout == run(str(tiny_bundle), "good").stdout
    refused = run("serve")
    assert (refused.returncode, b"inferer serve: error: give a bundle's folder" in refused.stderr) == (2, True)


def test_a_person_is_told_of_a_cut_and_of_no_label(tiny_bundle: Path, multi_bundle: Path) -> None:
    """A person is told when a text was cut, and when no label reaches its threshold."""
    assert "10 tokens, more than the model reads; it was cut" in run(str(tiny_bundle), "good " * 8).stdout.decode()
    assert "no label reaches its threshold" in run(str(multi_bundle), "good", "--threshold", "0.99").stdout.decode()


def test_a_person_is_told_of_windows_and_of_abstaining(tiny_bundle: Path, tmp_path: Path) -> None:
    """A person is told in how many windows a long text was read, and when the model gives no answer."""
    done = run(str(tiny_bundle), "good " * 8, "--truncation", "windows")
    assert "10 tokens; it was read in 2 windows" in done.stdout.decode()
    unsure = run(str(tiny.write_bundle(tmp_path / "b", abstain_threshold=0.6)), "good bad").stdout.decode()
    assert "no label: the best score is below the threshold" in unsure
    assert "*" not in unsure


def test_a_program_gets_what_the_api_answers(tiny_bundle: Path, model: ModelInferer) -> None:
    """--json gives the prediction as the service sends it."""
    done = run(str(tiny_bundle), "good bad", "--json", "--top-k", "2")
    assert json.loads(done.stdout) == model.predict("good bad", top_k=2).as_dict()


def test_lines_of_standard_input_are_answered_one_by_one(tiny_bundle: Path) -> None:
    """Each line of standard input is answered, and a bad one is named by its number without stopping the rest."""
    done = run(str(tiny_bundle), "--json", stdin="good\r\n\n\xff\nbad é".encode("latin-1") + b"\nodd")
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("label") for answer in answers] == ["pos", None, None, None, "other"]
    assert [answer.get("line") for answer in answers] == [None, 2, 3, 4, None]
    assert "byte 0xff is not UTF-8" in answers[2]["error"]


def test_lines_of_json_are_texts_with_line_breaks(tiny_bundle: Path, model: ModelInferer) -> None:
    """With --json-lines each line is JSON, a string or an object with "text", whose text may have line breaks."""
    texts = ["bad\nbad good", "odd", 'good "é"\r\n']
    lines = [json.dumps(texts[0]), json.dumps({"id": 7, "text": texts[1]}), json.dumps(texts[2], ensure_ascii=False)]
    done = run(str(tiny_bundle), "--json", "--json-lines", stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [model.predict(t).as_dict() for t in texts]


def test_a_bad_line_of_json_is_named(tiny_bundle: Path) -> None:
    """An error names a line of broken JSON, without text or with an unreadable text, and the rest goes on."""
    lines = [b"good", b"", b'"\xff"', b"7", b'{"txt": "good"}', b'{"text": null}', b'"\\ud800"', b'""', b"[" * 10**5]
    done = run(str(tiny_bundle), "--json", "--json-lines", stdin=b"\n".join([*lines, b'"bad"']))
    assert done.returncode == 1
    *errors, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last["label"] == "neg"
    assert [error["line"] for error in errors] == list(range(1, 10))
    words = ["is not JSON", "is not JSON", "byte 0xff is not UTF-8", "the line is 7, expected a string", "expected a"]
    words += ["expected a", "lone surrogate (U+D800)", "the text is empty", "nested too deeply"]
    for error, said in zip(errors, words, strict=True):
        assert said in error["error"]


def test_a_bad_line_for_a_person_goes_to_stderr(tiny_bundle: Path) -> None:
    """The error of a bad line names the line, and goes to stderr, apart from the answers."""
    done = run(str(tiny_bundle), stdin=b"good\n\nbad\n")
    assert done.returncode == 1
    assert done.stderr.decode() == "line 2: the text is empty\n"
    assert done.stdout.decode().count("\n") == 8


def test_options_may_stand_anywhere(tiny_bundle: Path) -> None:
    """An option is taken before the bundle and the text, between them, and after them."""
    for arguments in (("BUNDLE", "--json", "good"), ("--json", "BUNDLE", "good"), ("BUNDLE", "good", "--json")):
        done = run(*(str(tiny_bundle) if a == "BUNDLE" else a for a in arguments))
        assert json.loads(done.stdout)["label"] == "pos", done.stderr


@pytest.mark.parametrize(
    ("redirection", "words"),
    [(">&-", "standard output is closed"), (">/dev/full", "cannot be written"), ("<&-", "standard input is closed")],
)
def test_a_stream_that_cannot_be_used_is_told_in_a_line(tiny_bundle: Path, redirection: str, words: str) -> None:
    """With standard output closed or full, or standard input closed, the command says so and exits 2."""
    text = "" if "<" in redirection else "good"
    done = run_to_end("bash", "-c", f"{sys.executable} -m inferer {tiny_bundle} {text} {redirection}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_plain_ascii_whatever_the_terminal(tmp_path: Path) -> None:
    """--json stays valid JSON where the terminal's encoding lacks a label's letters."""
    folder = tiny.write_bundle(tmp_path / "b", labels=("größe", "neg", "other"))
    done = run_to_end(sys.executable, "-m", "inferer", str(folder), "good", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["label"] == "größe"


def test_a_terminal_without_unicode_still_gets_an_answer(tiny_bundle: Path) -> None:
    """A bar or a letter that the terminal's encoding lacks does not end in a traceback."""
    done = run_to_end(sys.executable, "-m", "inferer", str(tiny_bundle), "good é", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "pos" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nowhere", "good"), "inferer: bundle nowhere: does not exist"),
        (("BUNDLE", "good", "--top-k", "0"), "top_k: 0 is not allowed"),
        (("BUNDLE", "good", "--fp32"), "--keep-fp32"),
        (
            ("BUNDLE", "good", "--truncation", "middle"),
            "'middle' is not allowed; expected one of head, tail, head_tail",
        ),
        (("BUNDLE", "good", "--config", "none.json"), "none.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tiny_bundle: Path, arguments: tuple[str, ...], problem: str) -> None:
    """A user's mistake ends in one line on stderr, exit code 2 and no answer."""
    done = run(*(str(tiny_bundle) if a == "BUNDLE" else a for a in arguments))
    assert done.returncode == 2
    assert done.stdout == b""
    assert problem in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(tiny_bundle: Path) -> None:
    """`| head` gets its line, and no traceback follows."""
    script = f"yes good | head -n 3000 | {sys.executable} -m inferer {tiny_bundle} --json | head -n 1"
    done = run_to_end("bash", "-c", script)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["label"] == "pos"


def test_a_failed_golden_check_is_told_and_may_be_accepted(tmp_path: Path) -> None:
    """A failed golden check ends the command with 2 and one line; with --golden-check warn the text is answered."""
    folder = tiny.write_bundle(tmp_path / "b", golden=[{**tiny.GOLDEN[0], "int8": [0.0, 2.0, 0.0]}])
    done = run(str(folder), "good")
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith("inferer: bundle ")
    assert "golden check failed on 1 of 1 texts" in line
    warned = run(str(folder), "good", "--golden-check", "warn")
    assert warned.returncode == 0
    assert warned.stdout.startswith(b"good\n * pos")
    assert b"golden check failed" in warned.stderr
    assert run(str(folder), "good", "--golden-check", "off").stderr == b""


def test_pairs_come_by_twos_and_with_a_tab(inference_bundle: Path, rank_bundle: Path, tmp_path: Path) -> None:
    """A model of pairs takes texts by twos, lines with one tab, and JSON; a number has no bar."""
    done = run(str(inference_bundle), "good", "odd", "bad", "bad")
    assert [line for line in done.stdout.decode().splitlines() if "|" in line] == ["good | odd", "bad | bad"]
    odd = run(str(inference_bundle), "good", "odd", "bad")
    assert (odd.returncode, "give texts by twos, not 3" in odd.stderr.decode()) == (2, True)
    lines = run(str(inference_bundle), stdin=b"good\todd\ngood\n")
    assert b"good | odd" in lines.stdout
    assert (lines.returncode, "line 2: the line has 0 tabs, expected one" in lines.stderr.decode()) == (1, True)
    given = b'{"text": "good", "text_pair": "odd"}\n'
    found = json.loads(run(str(rank_bundle), "--json", "--json-lines", stdin=given).stdout)
    assert found == ModelInferer(rank_bundle).predict("good", "odd").as_dict()
    number = tiny.write_rank_bundle(tmp_path / "bundle", activation="none")
    assert run(str(number), "good", "good").stdout.decode().splitlines() == ["good | good", "   relevance  3.0000"]
    explained = run(str(number), "good", "good odd", "--explain").stdout.decode()
    assert "relevance 4.0000; how much it loses without these words" in explained
