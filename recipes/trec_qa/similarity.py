"""Write pairs of texts with their similarity: `python -m recipes.trec_qa.similarity --data train.csv --output FILE`.

An encoder of sentences knows which texts are alike, but only from two embeddings; with both texts in one input it
starts from little. Trained first on its own similarity, which needs no labels, it ranks better (docs/pairs.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModel
from transformers.utils import logging

from inferer.bundle.manifest import REGRESSION
from inferer.tokens.texts import sides_of
from training.data.csv_file import write_csv
from training.data.dataset import Columns, Dataset
from training.data.reader import read_dataset
from training.errors import TrainingError
from training.model.base_model import EMBEDDED, base_model_path
from training.model.load import max_positions_of
from training.model.tokenizer_file import read_tokenizer
from training.run.output import interrupt_on_signals

COLUMNS = Columns("text", "similarity", text_pair_column="other", numeric=True)
_LONGEST = 128
_BATCH = 64
# Of a text's nearest ones, some are paired with it: far ones alone would teach that nothing is alike.
_NEAR, _NEAR_EACH, _FAR_EACH = 40, 1, 1
_QUERY_NEAR_EACH, _QUERY_FAR_EACH = 30, 60  # queries are few


def embeddings(texts: list[str], base_model: str = EMBEDDED) -> NDArray[np.float32]:
    """Return the mean of each text's last hidden states, of length 1: float32 [texts, width]."""
    source = base_model_path(base_model)
    tokenizer, model = read_tokenizer(source), AutoModel.from_pretrained(source, trust_remote_code=False).eval()
    longest = min(_LONGEST, max_positions_of(model))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for start in tqdm(range(0, len(order), _BATCH), desc="embedding", leave=False):
        rows = order[start : start + _BATCH]
        given = tokenizer(
            [texts[i] for i in rows], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            own = given["attention_mask"].unsqueeze(-1)
            mean = (model(**given)[0] * own).sum(dim=1) / own.sum(dim=1)
            found[rows] = torch.nn.functional.normalize(mean).numpy()
    return found


def similar_pairs(dataset: Dataset, vectors: NDArray[np.float32], texts: list[str], seed: int = 0) -> Dataset:
    """Return pairs of `texts` with the cosine of their `vectors`, float32 [texts, width].

    The pairs of `dataset`, and each text with its nearest, with one of the 40 nearest, and with a random one; queries,
    which are the first texts of the pairs, with more of them.
    """
    place = {text: i for i, text in enumerate(texts)}
    pairs = {(place[a], place[b]) for a, b in map(sides_of, dataset.texts)}
    queries = {place[sides_of(pair)[0]] for pair in dataset.texts}
    rng = np.random.default_rng(seed)
    for i in range(len(texts)):
        cosines = vectors @ vectors[i]
        cosines[i] = -np.inf
        near = np.argsort(-cosines, kind="stable")[: min(_NEAR, len(texts) - 1)]
        near_each, far_each = (_QUERY_NEAR_EACH, _QUERY_FAR_EACH) if i in queries else (_NEAR_EACH, _FAR_EACH)
        drawn = [
            near[:1],
            rng.choice(near, min(near_each, len(near)), replace=False),
            rng.integers(0, len(texts), far_each),
        ]
        pairs |= {(i, int(j)) for j in np.concatenate(drawn) if i != j}
    ordered = [(a, b) for a, b in sorted(pairs) if a < b or (b, a) not in pairs]
    rng.shuffle(ordered)
    return Dataset(
        tuple((texts[a], texts[b]) for a, b in ordered),
        ((),) * len(ordered),
        (COLUMNS.label_column or "",),
        REGRESSION,
        COLUMNS,
        numbers=tuple(round(float(vectors[a] @ vectors[b]), 5) for a, b in ordered),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.trec_qa.similarity",
        description="Write the pairs for recipes/trec_qa/similarity.toml.",
    )
    parser.add_argument(
        "--data", metavar="FILE", required=True, help="queries with documents, as for recipes/trec_qa.toml"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", required=True, help="the CSV to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--text-column", default="question", metavar="NAME", help="column of the queries (question)")
    parser.add_argument("--text-pair-column", default="answer", metavar="NAME", help="column of the documents (answer)")
    parser.add_argument("--label-column", default="relevant", metavar="NAME", help="column of the numbers (relevant)")
    parser.add_argument("--base-model", default=EMBEDDED, metavar="NAME", help=f"encoder of sentences ({EMBEDDED})")
    args = parser.parse_args(argv)
    interrupt_on_signals()
    logging.set_verbosity_error()
    try:
        columns = Columns(args.text_column, args.label_column, text_pair_column=args.text_pair_column, numeric=True)
        _write(args.data, columns, args.base_model, args.output, overwrite=args.overwrite)
    except TrainingError as error:
        _say(f"similarity: {error}")
        return 2
    except OSError as error:
        _say(f"similarity: {error.filename or args.output}: {error.strerror or error}; nothing was written")
        return 2
    except KeyboardInterrupt:
        _say("similarity: interrupted; nothing was written")
        return 130
    return 0


def _write(source: str, columns: Columns, base_model: str, output: Path, *, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise TrainingError(f"{output}: is there already; --overwrite replaces it")
    dataset = read_dataset(source, columns)
    texts = list(dict.fromkeys(side for pair in dataset.texts for side in sides_of(pair)))
    found = similar_pairs(dataset, embeddings(texts, base_model), texts)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.partial")
    write_csv(partial, found)
    partial.rename(output)
    _say(f"wrote {len(found)} pairs of {len(texts)} texts to {output}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
