"""`python -m inferer BUNDLE "some text"`: the answer for a person, or with --json for a program."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from inferer.bundle.golden import ENFORCE, MODES
from inferer.bundle.reader import TRUNCATIONS
from inferer.command.terminal import drawn, explained
from inferer.errors import InfererError, TextError, shown
from inferer.explain import Explanation
from inferer.model import ModelInferer
from inferer.scoring import Prediction


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferer", description="Classify a text, or every line of standard input."
    )
    parser.add_argument("bundle", help="a bundle's folder, or a PyTorch checkpoint to convert first")
    parser.add_argument("text", nargs="*", help="texts; without any, the lines of standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, as POST /predict answers")
    parser.add_argument(
        "--json-lines",
        action="store_true",
        help='each line of standard input is JSON: a string, or an object with "text"; so texts may have line breaks',
    )
    parser.add_argument("--config", metavar="FILE.json", help="labels, problem_type, max_length, thresholds")
    parser.add_argument("--top-k", type=int, help="how many scores (default: all; 5 for a person)")
    parser.add_argument(
        "--truncation", metavar="HOW", help=f"of long texts: {', '.join(TRUNCATIONS)} (default: the bundle's)"
    )
    explain = parser.add_argument_group("instead of the answer, why")
    explain.add_argument("--explain", action="store_true", help="what each word contributes, by leaving words out")
    explain.add_argument("--label", help="to which label (default: the best one)")
    explain.add_argument("--max-parts", type=int, help="into how many parts a text is divided at most")
    parser.add_argument("--threshold", type=float, help="multi-label: one threshold for every label")
    parser.add_argument("--fp32", action="store_true", help="run the fp32 model instead of the int8 one")
    parser.add_argument("--golden-check", choices=MODES, default=ENFORCE, help=f"of the stored texts ({ENFORCE})")
    parser.add_argument("--threads", type=int, help="onnxruntime threads (default: the CPU quota)")
    return parser


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments; ends with code 2 and one line for options that do not go together."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)  # so that options may stand between bundle and texts
    useless = ("top_k", "threshold") if args.explain else ("label", "max_parts")
    for name in useless:
        if getattr(args, name) is not None:
            flag = "--" + name.replace("_", "-")
            parser.error(f"{flag} is not for an explanation" if args.explain else f"{flag} needs --explain")
    if args.json_lines and args.text:
        parser.error("--json-lines is for standard input, which is not read where texts are given")
    return args


class _ClosedStreamError(Exception):
    """Standard input or output is closed."""


def _lines() -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 become surrogates, refused one by one."""
    if sys.stdin is None:
        raise _ClosedStreamError("no text is given and standard input is closed")
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _check_bytes(text: str) -> None:
    """Raise TextError for a byte that `_lines` could not decode."""
    bad = next((c for c in text if "\udc80" <= c <= "\udcff"), None)
    if bad is not None:
        raise TextError(f"byte 0x{ord(bad) - 0xDC00:02x} is not UTF-8")


def _text_in(line: str) -> str:
    """Return the text in a line of JSON; raises TextError for what is no JSON or has none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise TextError(f"the line is not JSON: {why}") from None
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise TextError(f'the line is {shown(value)}, expected a string, or an object whose "text" is a string')
    return text


def _answer(model: ModelInferer, texts: Iterable[str], args: argparse.Namespace) -> int:
    """Print an answer or an error for each text as it comes; return how many failed."""
    if sys.stdout is None:
        raise _ClosedStreamError("standard output is closed; there is nowhere to write the answers")
    failed = 0
    # A bar only when neither the answers nor the typing would run through it.
    watched = sys.stderr.isatty() and not (args.text or sys.stdin.isatty() or sys.stdout.isatty())
    for number, given in enumerate(tqdm(texts, unit="text", disable=not watched), start=1):
        try:
            _check_bytes(given)
            text = _text_in(given) if args.json_lines else given
            answer = _ask(model, text, args)
        except TextError as error:
            failed += 1
            if args.json:
                print(json.dumps({"error": str(error), "line": number}), flush=True)
            else:
                print(f"line {number}: {error}", file=sys.stderr)
            continue
        if args.json:
            print(json.dumps(answer.as_dict()), flush=True)
        else:
            print(drawn(text, answer) if isinstance(answer, Prediction) else explained(text, answer), flush=True)
    return failed


def _ask(model: ModelInferer, text: str, args: argparse.Namespace) -> Prediction | Explanation:
    if args.explain:
        return model.explain(text, label=args.label, truncation=args.truncation, max_parts=args.max_parts)
    return model.predict(text, top_k=args.top_k, truncation=args.truncation, threshold=args.threshold)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 when a text failed, 2 for a wrong call or bundle."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or a file that cannot show a bar or a text's letters
            stream.reconfigure(errors="backslashreplace")
    args = _arguments(argv)
    try:
        model = ModelInferer(
            args.bundle, args.config, not args.fp32, intra_op_threads=args.threads, golden_check=args.golden_check
        )
        return 1 if _answer(model, args.text or _lines(), args) else 0
    except InfererError as error:
        print(f"inferer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except _ClosedStreamError as error:
        print(f"inferer: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"inferer: the answers cannot be written: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
