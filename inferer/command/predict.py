"""The command `inferer predict`: predictions and explanations for a person, or with --json for a program."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from inferer.bundle.golden import ENFORCE, MODES
from inferer.bundle.manifest import NONE
from inferer.command.tables import refuse_binary, refuse_files, refuse_table
from inferer.command.terminal import draw_explanation, draw_prediction
from inferer.errors import InfererError, TextError, shown
from inferer.model import ModelInferer
from inferer.tokens.texts import TextOrPair, sides_of


def _arguments(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """Return the arguments; exits with code 2 and one line for options that do not go together."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Classify texts, or every line of standard input.",
        epilog="The rows of a table: inferer predict TABLE --model BUNDLE --text-column NAME --output FILE (and -h).",
    )
    add = parser.add_argument
    add("bundle", help="a bundle's folder, or a PyTorch checkpoint to convert first")
    add(
        "text",
        nargs="*",
        help="texts, by twos for a model of pairs; without any, the lines of standard input, a tab in each pair",
    )
    add("--json", action="store_true", help="print one JSON object per line, as POST /predict does")
    add(
        "--json-lines",
        action="store_true",
        help='read each line of standard input as JSON: a string, or an object with "text" (and "text_pair")',
    )
    add("--config", metavar="FILE.json", help="labels, problem_type, max_length, thresholds")
    add("--top-k", type=int, help="the number of scores (default: all; 5 at a terminal)")
    add("--truncation", metavar="HOW", help="reading of long texts (default: the bundle's)")
    add("--threshold", type=float, help="multi-label: one threshold for every label")
    add("--fp32", action="store_true", help="run the fp32 model instead of the int8 one")
    add("--golden-check", choices=MODES, default=ENFORCE, help=f"the check of the stored texts (default: {ENFORCE})")
    add("--threads", type=int, help="onnxruntime threads (default: the CPU quota)")
    explain = parser.add_argument_group("explanations")
    explain.add_argument("--explain", action="store_true", help="show each word's contribution, by leaving words out")
    explain.add_argument("--label", help="the label to explain (default: the best one)")
    explain.add_argument("--max-parts", type=int, help="the most parts to divide a text into")
    args = parser.parse_intermixed_args(argv)  # options may stand between the bundle and the texts
    for name in ("top_k", "threshold") if args.explain else ("label", "max_parts"):
        if getattr(args, name) is not None:
            flag = "--" + name.replace("_", "-")
            parser.error(f"{flag} does not go with --explain" if args.explain else f"{flag} needs --explain")
    if args.json_lines and args.text:
        parser.error("--json-lines reads standard input, and the command line gives texts")
    return args


def _lines(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 become surrogates, refused line by line."""
    for number, line in enumerate(sys.stdin.buffer):
        if number == 0:
            refuse_binary(args.bundle, line)
        yield line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _pairs(texts: Sequence[str]) -> list[TextOrPair]:
    """Return the texts of the command line by twos; raises InfererError for an odd number."""
    if len(texts) % 2:
        raise InfererError(f"the model reads pairs: give texts by twos, not {len(texts)}")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _text_of(given: TextOrPair, *, is_json: bool, pair: bool) -> TextOrPair:
    """Return the text or pair of a line; raises TextError for one that has none.

    given: a line, or a pair of the command line.
    """
    if not isinstance(given, str):
        return given
    line = given
    bad = next((c for c in line if "\udc80" <= c <= "\udcff"), None)
    if bad is not None:
        raise TextError(f"byte 0x{ord(bad) - 0xDC00:02x} is not UTF-8")
    if not is_json:
        if not pair:
            return line
        if line.count("\t") != 1:
            raise TextError(f"the line has {line.count(chr(9))} tabs, expected one, between the texts of a pair")
        first, _, second = line.partition("\t")
        return first, second
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise TextError(f"the line is not JSON: {reason}") from None
    text = value.get("text") if isinstance(value, dict) else value
    if isinstance(value, dict) and isinstance(text, str) and isinstance(value.get("text_pair"), str):
        return text, value["text_pair"]
    if not isinstance(text, str):
        raise TextError(f'the line is {shown(value)}, expected a string, or an object whose "text" is a string')
    return text


def _predict_all(model: ModelInferer, texts: Iterable[TextOrPair], args: argparse.Namespace) -> int:
    """Print a prediction or an error for each text as it arrives; return the number of errors."""
    if sys.stdout is None:
        raise InfererError("standard output is closed; the predictions have nowhere to go")
    failed = 0
    # A bar only when neither the predictions nor the typing would run through it.
    show_bar = sys.stderr.isatty() and not (args.text or sys.stdin.isatty() or sys.stdout.isatty())
    for number, given in enumerate(tqdm(texts, unit="text", disable=not show_bar), start=1):
        try:
            print(_result(model, _text_of(given, is_json=args.json_lines, pair=model.text_pair), args), flush=True)
        except TextError as error:
            failed += 1
            if args.json:
                print(json.dumps({"error": str(error), "line": number}), flush=True)
            else:
                print(f"line {number}: {error}", file=sys.stderr)
    return failed


def _result(model: ModelInferer, text: TextOrPair, args: argparse.Namespace) -> str:
    sides = sides_of(text)
    title, is_number = " | ".join(sides), model.activation == NONE
    if args.explain:
        explanation = model.explain(*sides, label=args.label, truncation=args.truncation, max_parts=args.max_parts)
        if args.json:
            return json.dumps(explanation.as_dict())
        return draw_explanation(title, explanation, is_number=is_number)
    prediction = model.predict(*sides, top_k=args.top_k, truncation=args.truncation, threshold=args.threshold)
    return json.dumps(prediction.as_dict()) if args.json else draw_prediction(title, prediction, is_number=is_number)


def main(argv: Sequence[str] | None = None, *, prog: str) -> int:
    """Run the command; return its exit code: 0, 1 when a text failed, 2 for a wrong call or bundle."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the encoding may lack the characters of a bar or of a text
            stream.reconfigure(errors="backslashreplace")
    args = _arguments(argv, prog)
    try:
        refuse_files(args.bundle, args.text)
        if not args.text:
            refuse_table(args.bundle, json_lines=args.json_lines)
        model = ModelInferer(
            args.bundle, args.config, not args.fp32, intra_op_threads=args.threads, golden_check=args.golden_check
        )
        given = _pairs(args.text) if model.text_pair else args.text
        return 1 if _predict_all(model, given or _lines(args), args) else 0
    except InfererError as error:
        print(f"inferer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has read enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"inferer: the predictions cannot be written: {error.strerror}", file=sys.stderr)
        return 2
