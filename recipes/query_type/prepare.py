"""Prepare query_type's training data: `python -m recipes.query_type.prepare --output FOLDER`.

Test rows are held out first. Everything added later (names, synonyms, repeated rows) goes to the training rows alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recipes.query_type.balance import balanced
from recipes.query_type.name_lists import read_name_list, read_name_lists
from recipes.query_type.raw_names import NamesReport, read_raw_names
from recipes.query_type.synonyms import enriched
from recipes.query_type.wordnet import DEBIAN
from training.data.csv_file import write_csv
from training.data.dataset import Dataset, check_class_sizes
from training.errors import TrainingError
from training.run.output import OutputError, check_target, fresh_folder, interrupt_on_signals
from training.splits.stratify import stratified_split

TRAIN, TEST, RECORD = "train.csv", "test.csv", "prepare.json"
_HERE = Path(__file__).parent
LISTS = {"retailer": _HERE / "retailers.txt", "brand": _HERE / "brands.txt", "category": _HERE / "categories.txt"}
# Names that are added to the training rows of the raw files.
EXTRA_NAMES = {"retailer": _HERE / "retailers.txt", "category": _HERE / "retail_product_nouns.txt"}
_WITH_SYNONYMS = "category"
ROWS_EACH = 4500
_MOST_ROWS = 10_000_000
_MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Prepared:
    """The rows, and a report of the preparation. names: of the raw files."""

    train: Dataset
    test: Dataset
    notes: tuple[str, ...]
    names: NamesReport | None = None


def from_lists(lists: Mapping[str, Path] = LISTS, *, test_share: float = 0.2, seed: int = 0) -> Prepared:
    """Return the names in `lists`, label -> file, split in two. Raises DataError for faults of the files."""
    names = read_name_lists(lists)
    check_class_sizes(names, {"test": test_share}, next(iter(lists.values())).parent)
    return Prepared(*stratified_split(names, test_share, seed), ())


def from_raw_files(
    folder: Path,
    *,
    wordnet: Path | None = DEBIAN,
    rows_each: int = ROWS_EACH,
    test_share: float = 0.2,
    seed: int = 0,
) -> Prepared:
    """Return the names in the raw files, cleaned and split, with training rows that are enriched and balanced.

    wordnet: the folder of its database; None adds no synonyms. rows_each: training rows per class; 0 does not balance.
    Raises DataError for faults of the files, TrainingError for a folder that is not WordNet's.
    """
    names, report = read_raw_names(folder)
    check_class_sizes(names, {"test": test_share}, folder)
    train, test = stratified_split(names, test_share, seed)
    notes = report.as_text().splitlines()
    for label, path in EXTRA_NAMES.items():
        folder_of_synonyms = wordnet if label == _WITH_SYNONYMS else None
        train, added = enriched(train, test, label, read_name_list(path), folder_of_synonyms)
        notes.append(f"added to {label}: {added['names']} names, {added['synonyms']} synonyms")
    if rows_each:
        sizes = ", ".join(f"{label} {n}" for label, n in train.counts().items())
        train = balanced(train, seed, rows_each)
        notes.append(f"balanced to {rows_each} training rows per class; before: {sizes}")
    return Prepared(train, test, tuple(notes), report)


def write_prepared(prepared: Prepared, folder: Path, options: Mapping[str, object]) -> None:
    """Write train.csv, test.csv and prepare.json into `folder`, which takes its place when all are written."""
    record = {
        "options": options,
        "train": prepared.train.counts(),
        "test": prepared.test.counts(),
        "notes": prepared.notes,
    }
    with fresh_folder(folder) as fresh:
        write_csv(fresh / TRAIN, prepared.train)
        write_csv(fresh / TEST, prepared.test)
        (fresh / RECORD).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.data is None and (args.wordnet or args.no_synonyms or args.rows_each is not None):
        parser.error("--wordnet, --no-synonyms and --rows-each are for the raw files: give --data FOLDER")
    if args.data is not None and args.list:
        parser.error("give either --data or --list")
    labels = [label for label, _ in args.list or ()]
    if len(set(labels)) < len(labels):
        parser.error(f"--list names a label twice: {', '.join(labels)}")
    if not 0 <= (args.rows_each or 0) <= _MOST_ROWS or not 0.01 <= args.test_share <= 0.9:
        parser.error(f"expected --rows-each from 0 to {_MOST_ROWS} and --test-share from 0.01 to 0.9")
    if not 0 <= args.seed <= _MOST_SEED:
        parser.error(f"expected --seed from 0 to {_MOST_SEED}")
    interrupt_on_signals()
    try:
        check_target(args.output, RECORD, overwrite=args.overwrite)
        if args.data is None:
            lists = dict(args.list) if args.list else LISTS
            prepared = from_lists(lists, test_share=args.test_share, seed=args.seed)
        else:
            prepared = from_raw_files(
                args.data,
                wordnet=None if args.no_synonyms else args.wordnet or DEBIAN,
                rows_each=ROWS_EACH if args.rows_each is None else args.rows_each,
                test_share=args.test_share,
                seed=args.seed,
            )
        write_prepared(prepared, args.output, {**vars(args), "list": dict(args.list or ())})
    except (TrainingError, OutputError) as error:
        _say(f"prepare: {error}")
        return 2
    except OSError as error:
        _say(f"prepare: {error.filename or args.output}: {error.strerror or error}; nothing was written")
        return 2
    except KeyboardInterrupt:
        _say("prepare: interrupted; nothing was written")
        return 130
    _say("\n".join((*prepared.notes, f"wrote {len(prepared.train)} rows to {args.output / TRAIN}")))
    _say(f"wrote {len(prepared.test)} rows to {args.output / TEST}")
    _say(f"labels, in this order: {', '.join(prepared.train.labels)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.query_type.prepare",
        description="Write train.csv and test.csv for recipes/query_type.toml.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="the raw files: offer_retailer.csv, brand_category.csv, categories.csv (default: the project's own lists)",
    )
    parser.add_argument(
        "--list",
        type=_label_and_file,
        action="append",
        metavar="LABEL=FILE",
        help="your own list, one name per line, in place of the project's; once per label",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder of this command")
    parser.add_argument("--test-share", type=float, default=0.2, metavar="SHARE", help="share of rows held out (0.2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split and of balancing (0)")
    raw = parser.add_argument_group("with --data")
    raw.add_argument("--rows-each", type=int, metavar="N", help=f"training rows per class; 0: all ({ROWS_EACH})")
    raw.add_argument("--wordnet", type=Path, metavar="FOLDER", help=f"WordNet's database ({DEBIAN})")
    raw.add_argument("--no-synonyms", action="store_true", help="add no synonyms of product categories")
    return parser


def _label_and_file(value: str) -> tuple[str, Path]:
    label, found, file = value.partition("=")
    if not (label and found and file):
        raise argparse.ArgumentTypeError(f"{value!r}, expected LABEL=FILE")
    return label, Path(file).expanduser()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
