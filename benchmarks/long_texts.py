"""Benchmark of accuracy on long texts by truncation: head, head_tail, windows with the mean or the maximum.

The long texts are made of short labelled ones: a few of one label, joined, form the telling part, in the middle or at
the end of more than 512 tokens; the rest is filler unrelated to the labels. Other texts of the same length speak of
their label throughout. The table sets each accuracy beside that of the telling parts alone. The last line is JSON;
benchmarks/results/long_texts.json has the whole.

    python -m benchmarks.long_texts --bundle models/titles --data checkpoints/titles/held_out.csv \\
      --text-column Title --label-column Conference --max-length 32
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from inferer import ModelInferer
from inferer.bundle.manifest import POOLINGS
from inferer.bundle.reader import TOKENIZER
from inferer.scoring import pool
from inferer.tokens.encoding import Encoder
from training.report.intervals import wilson

SEED = 0
LEAST_TOKENS = 520  # per long text: more than the 512 of a BERT
_NOTICES = (
    "This page was left blank on purpose.",
    "Turn the page to go on reading.",
    "The rights are those of the author.",
    "Thanks to everybody who helped.",
    "The address is on the last page.",
    "Nothing of this may be copied.",
    "The contents follow below.",
)
_WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "it",
    "for",
    "was",
    "on",
    "as",
    "with",
    "at",
    "be",
    "this",
    "or",
)
FILLERS = {"function words": _WORDS, "notices": _NOTICES}


def rows_of(path: Path, text_column: str, label_column: str) -> dict[str, list[str]]:
    """Return the texts of each label."""
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row[label_column]].append(row[text_column])
    return found


def telling(rows: dict[str, list[str]], count: int, joined: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return `count` pairs of a label, as often as it is in `rows`, and `joined` of its texts in one."""
    labels = [label for label, texts in rows.items() for _ in texts]
    chosen = rng.choices(labels, k=count)
    return [(label, ". ".join(rng.choices(rows[label], k=joined))) for label in chosen]


def surrounded(
    part: str, before: float, pieces: tuple[str, ...], rng: random.Random, length: Callable[[str], int]
) -> str:
    """Return `part` amid at least LEAST_TOKENS tokens of `pieces`, the share `before` of them before it."""

    def filled(tokens: float) -> list[str]:
        out: list[str] = []
        while tokens and length(" ".join(out)) < tokens:
            out += rng.choices(pieces, k=10)
        return out

    return " ".join([*filled(LEAST_TOKENS * before), part, *filled(LEAST_TOKENS * (1 - before))])


def accuracies(model: ModelInferer, texts: list[tuple[str, str]], what: str) -> dict[str, float]:
    """Return the accuracy of each truncation on `texts`, pairs of label and text."""
    right: dict[str, int] = defaultdict(int)
    encoder = Encoder(model.bundle.path / TOKENIZER, model.max_length, model.bundle.windows.overlap)
    for label, text in tqdm(texts, desc=what, unit="text", leave=False):
        for way in ("head", "head_tail"):
            right[way] += model.predict(text, truncation=way).label == label
        reading = encoder.encode(text, "windows")
        rows = model.batcher.run(reading).rows
        for pooling in POOLINGS:
            logits = pool(rows, [one.own_tokens for one in reading], pooling)
            right[f"windows, {pooling}"] += model.labels[int(logits.argmax())] == label
    return {way: hits / len(texts) for way, hits in right.items()}


def report(rows: Iterable[dict[str, Any]]) -> None:
    """Print the table for a person."""
    for row in rows:
        ways = row["accuracy"]
        print(f"{row['text']:<34}" + "  ".join(f"{way} {100 * share:5.1f}" for way, share in ways.items()))


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Accuracy on long texts by truncation.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="labelled texts that the model was not trained on")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--max-length", type=int, help="tokens of a window (default: the bundle's)")
    parser.add_argument("--joined", type=int, default=3, help="short texts of one label in a telling part (3)")
    parser.add_argument("--texts", type=int, default=200, help="long texts of each kind (200)")
    args = parser.parse_args()
    model = ModelInferer(args.bundle, {"max_length": args.max_length} if args.max_length else None)
    rows = rows_of(args.data, args.text_column, args.label_column)
    rng = random.Random(SEED)
    parts = telling(rows, args.texts, args.joined, rng)
    encoder = Encoder(model.bundle.path / TOKENIZER, model.max_length)

    def length(text: str) -> int:
        return encoder.encode_one(text).num_tokens if text else 0

    singles = [(label, text) for label, texts in rows.items() for text in texts]
    table = [
        {"text": "the short texts, one by one", "n": len(singles), "accuracy": accuracies(model, singles, "singles")},
        {"text": "the telling parts alone", "n": args.texts, "accuracy": accuracies(model, parts, "parts")},
    ]
    for name, pieces in FILLERS.items():
        for place, before in (("middle", 0.5), ("end", 1.0)):
            texts = [(label, surrounded(part, before, pieces, rng, length)) for label, part in parts]
            what = f"in the {place} of {name}"
            table.append({"text": what, "n": len(texts), "accuracy": accuracies(model, texts, what)})
    size = max(1, round(LEAST_TOKENS / (length(parts[0][1]) / args.joined)))
    throughout = telling(rows, args.texts, size, rng)
    what = "speaking of it throughout"
    table.append({"text": what, "n": args.texts, "accuracy": accuracies(model, throughout, what)})
    report(table)
    alone = wilson(round(table[1]["accuracy"]["head"] * args.texts), args.texts)
    record.write(
        record.new(
            "long_texts",
            data=args.data.name,
            joined=args.joined,
            max_length=model.max_length,
            overlap=model.bundle.windows.overlap,
            least_tokens=LEAST_TOKENS,
            interval_of_the_parts_alone=[alone.low, alone.high],
            rows=table,
        )
    )


if __name__ == "__main__":
    main()
