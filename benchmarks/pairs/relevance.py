"""Benchmark of a ranker: its MRR@10 and nDCG@10 beside BM25 and the cosine of an encoder, on the same rows.

BM25 is `rank-bm25` (`pip install rank-bm25`) with its defaults over all documents of the table, words in lower case cut
at blanks; the cosine is that of the embedded encoder. Rows with equal scores count in the worst order. Intervals: the
bootstrap over queries. The last line is JSON.

    python -m benchmarks.pairs.relevance --bundle models/trec_qa --data dev.csv --text-column question \
        --text-pair-column answer --label-column relevant
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import record
from inferer import ModelInferer
from inferer.tokens.texts import sides_of
from recipes.trec_qa.similarity import embeddings
from training.data.dataset import Columns, Dataset
from training.data.reader import read_dataset
from training.report.numbers import measure_numbers

_FIGURES = ("mrr_at_10", "ndcg_at_10")


def bm25(pairs: Sequence[tuple[str, ...]]) -> NDArray[np.float64]:
    """Return BM25 of each pair's document for its query."""
    try:
        from rank_bm25 import BM25Okapi  # type: ignore[import-not-found]
    except ImportError as error:
        raise SystemExit("BM25 needs the package rank-bm25: pip install rank-bm25") from error
    documents = list(dict.fromkeys(document for _, document in pairs))
    places = {document: place for place, document in enumerate(documents)}
    ranker = BM25Okapi([document.lower().split() for document in documents])
    scores = {query: ranker.get_scores(query.lower().split()) for query, _ in pairs}
    return np.array([scores[query][places[document]] for query, document in pairs])


def cosine(pairs: Sequence[tuple[str, ...]]) -> NDArray[np.float64]:
    """Return the cosine of the embeddings of each pair."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = dict(zip(texts, embeddings(texts), strict=True))
    return np.array([vectors[a] @ vectors[b] for a, b in pairs], dtype=np.float64)


def measure(dataset: Dataset, bundles: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the figures of BM25, of the encoder, and of each bundle."""
    pairs = [sides_of(pair) for pair in dataset.texts]
    found = {"BM25": bm25(pairs), "cosine of the embedded encoder": cosine(pairs)}
    for bundle in tqdm(bundles, unit="bundle"):
        scores = ModelInferer(bundle).predict_batch([(a, b) for a, b in pairs])
        found[bundle] = np.array([one.score for one in scores], dtype=np.float64)
    return {name: measure_numbers(dataset, scores) for name, scores in found.items()}


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description="A ranker beside BM25 and the cosine of an encoder.")
    parser.add_argument("--bundle", action="append", default=[], metavar="FOLDER", help="may be given several times")
    parser.add_argument("--data", required=True, metavar="FILE")
    for name in ("text", "text-pair", "label"):
        parser.add_argument(f"--{name}-column", required=True, metavar="NAME")
    parser.add_argument("--group-column", metavar="NAME", help="by default the text column")
    args = parser.parse_args()
    columns = Columns(
        args.text_column,
        args.label_column,
        text_pair_column=args.text_pair_column,
        numeric=True,
        group_column=args.group_column or args.text_column,
    )
    found = measure(read_dataset(args.data, columns), args.bundle)
    for name, figures in found.items():
        print(f"{name}: {figures['queries']} queries")
        for figure in _FIGURES:
            low, high = figures["intervals"][figure]
            print(f"  {figure:<12} {figures[figure]:.4f} ({low:.3f} to {high:.3f})")
    kept = {name: {figure: figures[figure] for figure in _FIGURES} for name, figures in found.items()}
    print(json.dumps(record.new("relevance", figures=kept)))


if __name__ == "__main__":
    main()
