"""Benchmark of explanations: their cost in predictions of the same text, and their fidelity to word-by-word occlusion.

One thread and one text at a time, in one process, interleaved round by round; medians. A word's share of a part is the
part's contribution over its words; "found" is the share of the three most important words, each left out alone, that
are among the five highest here. The last line is JSON; benchmarks/results/explanations.json has the whole.

    python -m benchmarks.explanations --bundle models/reviews --data checkpoints/reviews/held_out.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import record
from benchmarks.timing import interleaved
from inferer import ModelInferer
from inferer.explain import MOST_WORDS, PARTS, Explanation

WORDS = (5, 10, 20, 50, 100)
WARM_UP_ROUNDS = 2


def texts_of(path: Path, column: str, words: int, count: int) -> list[str]:
    """Return `count` texts of exactly `words` words, joined and cut from the texts of the file."""
    texts: list[str] = []
    held: list[str] = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            held += row[column].split()
            if len(held) >= words:
                texts.append(" ".join(held[:words]))
                held = []
            if len(texts) == count:
                return texts
    raise SystemExit(f"{path} has too few words for {count} texts of {words} words")


def by_character(explanation: Explanation, size: int) -> np.ndarray:
    """Return each character's share of a contribution, [size]; 0 outside the parts."""
    shares = np.zeros(size)
    for part in explanation.parts:
        shares[part.start : part.end] = part.contribution / part.words
    return shares


def nearness(model: ModelInferer, text: str) -> tuple[float, float]:
    """Return the correlation of the words' shares between default parts and single words, and the share found."""
    every, few = model.explain(text, max_parts=10_000), model.explain(text)
    shares = by_character(few, len(text))
    exact = np.array([part.contribution for part in every.parts])
    found = np.array([shares[part.start] for part in every.parts])
    top = set(np.argsort(-np.abs(exact))[:3].tolist())
    return (
        float(np.corrcoef(exact, found)[0, 1]),
        len(top & set(np.argsort(-np.abs(found), kind="stable")[:5].tolist())) / len(top),
    )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="The cost of an explanation, in predictions.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    model = ModelInferer(args.bundle, intra_op_threads=args.threads)
    calls: dict[str, Callable[[str], object]] = {
        "predict": model.predict,
        "explain": model.explain,
        "every_word": lambda text: model.explain(text, max_parts=10_000),
    }
    rows = []
    for words in tqdm(WORDS, unit="length"):
        texts = texts_of(args.data, args.text_column, words, args.texts)
        times = interleaved(calls, texts, args.rounds, WARM_UP_ROUNDS)
        near = np.array([nearness(model, text) for text in texts])
        rows.append(
            {
                "words": words,
                "tokens": statistics.median(model.predict(text).num_tokens for text in texts),
                "median_ms": times,
                "explain_in_predictions": times["explain"] / times["predict"],
                "every_word_in_predictions": times["every_word"] / times["predict"],
                "correlation": float(np.nanmean(near[:, 0])),
                "found": float(near[:, 1].mean()),
            }
        )
    print(f"{args.threads} thread(s); up to {MOST_WORDS} words one at a time, more in {PARTS} parts")
    print("words  tokens  predict ms   explain, predictions   every word   correlation   found")
    for row in rows:
        print(
            f"{row['words']:5}  {row['tokens']:6.0f}  {row['median_ms']['predict']:10.2f}  "
            f"{row['explain_in_predictions']:20.1f}  {row['every_word_in_predictions']:11.1f}  "
            f"{row['correlation']:12.2f}  {row['found']:6.2f}"
        )
    record.write(
        record.new(
            "explanations", data=args.data.name, threads=args.threads, parts=PARTS, texts=args.texts,
            rounds=args.rounds, rows=rows,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
