"""Other words for product names out of WordNet, and a training part enriched by them and by lists of names.

Owns which senses and which words of WordNet are taken, and that nothing comes in which is held out. Reads no file but
WordNet's, by wordnet.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nltk.stem import PorterStemmer

from inferer.bundle.manifest import SINGLE_LABEL
from recipes.query_type.raw_names import clean_name, same_name
from recipes.query_type.wordnet import open_wordnet
from training.data.dataset import Dataset
from training.errors import TrainingError

# Kinds of things that are sold. A plant is passed over: it stands before what is eaten of it (eggplant, corn), and
# its other words are of the living thing (apricot tree).
KINDS = ("noun.food", "noun.artifact", "noun.substance")
_PASSED_OVER = "noun.plant"
_MOST = 3  # of a name; WordNet has the usual words of a sense first
_PLAIN_WORDS = re.compile(r"[a-z][a-z'\- ]*")  # no names and Latin (Biro, Zea mays), no formulas (h2o)
_STEMMER = PorterStemmer()


def synonyms(names: Iterable[str], folder: Path | None = None, most: int = _MOST) -> dict[str, list[str]]:
    """Return up to `most` other words for each of `names` that has some: lower case, blanks between words.

    A name is looked up whole, as a noun, in its first sense that is no plant, and only where that is of KINDS
    (chips: french fries; mixed nuts: not there). A word is taken only where the sense is its own first as well:
    a diaper is a napkin too, but who says napkin means another thing. folder: where WordNet's database lies, by
    default where Debian's package wordnet-base puts it. Raises TrainingError where it is not there.
    """
    found = {}
    with open_wordnet(folder) as wordnet:
        for name in names:
            others = _others(wordnet, name)
            if others:
                found[name] = others[:most]
    return found


def enriched(
    train: Dataset, held_out: Dataset, label: str, extra: Sequence[str] = (), wordnet: Path | bool = True
) -> tuple[Dataset, dict[str, int]]:
    """Return the training part with more rows of `label` behind its own, and how many of which origin.

    First the names in `extra`, then the synonyms of those and of the label's names in `train`, in lower case.
    Held-out rows are read only to be kept out: nothing is looked up for them, and no text comes in that is a near copy
    of one (`near_copy`), of a name that `train` has already, or of a word that came before. wordnet: a folder with the
    database, True for Debian's, False for no synonyms.

    The counts are of "names", "synonyms", "already_there" (a near copy is in the training part) and "held_out" (a
    near copy is held out). Raises TrainingError for a label that is not there, and as `synonyms`.
    """
    if train.problem_type != SINGLE_LABEL:
        raise TrainingError("rows can be added to single-label data only: other labels of theirs are not known")
    if label not in train.labels:
        raise TrainingError(f"label '{label}' is not one of {', '.join(train.labels)}")
    target = (train.labels.index(label),)
    there = {near_copy(text) for text in train.texts}
    kept_out = {near_copy(text) for text in held_out.texts}
    counts = {"names": 0, "synonyms": 0, "already_there": 0, "held_out": 0}
    added: list[str] = []

    def add(texts: Iterable[str], origin: str) -> None:
        for text in texts:
            key = near_copy(text)
            if key in kept_out:
                counts["held_out"] += 1
            elif key in there:
                counts["already_there"] += 1
            else:
                there.add(key)
                added.append(text)
                counts[origin] += 1

    add((clean_name(name).lower() for name in extra), "names")
    if wordnet is not False:
        own = [text for text, row in zip(train.texts, train.targets, strict=True) if row == target]
        words = synonyms([*own, *added], None if wordnet is True else wordnet)
        add((word for name in words.values() for word in name), "synonyms")
    texts = (*train.texts, *added)
    targets = (*train.targets, *[target] * len(added))
    return Dataset(texts, targets, train.labels, train.problem_type, train.columns), counts


@lru_cache(maxsize=100_000)
def near_copy(text: str) -> str:
    """Return what two texts have in common of which one is hardly new beside the other.

    The words' stems (Porter, Program 14, 1980) as `same_name` spells them, without "and" and in alphabetical order:
    Nuts & Seeds, "seed and nut"; Yo-Yo's, yoyo.
    """
    words = re.split(r"[\s,/&+]+", clean_name(text).casefold())
    stems = (_STEMMER.stem(same_name(word)) for word in words if word != "and")
    return "".join(sorted(stems)) or same_name(text)


def _others(wordnet: Any, name: str) -> list[str]:
    """Return the words of the name's first sense that are no near copies of it, and whose own first sense it is."""
    sense = _first_sense(wordnet, "_".join(clean_name(name).lower().split()))
    if sense is None or sense.lexname() not in KINDS:
        return []
    own = near_copy(name)
    words = [lemma.name() for lemma in sense.lemmas() if _first_sense(wordnet, lemma.name()) == sense]
    texts = [word.replace("_", " ") for word in words]
    return [text for text in texts if _PLAIN_WORDS.fullmatch(text) and near_copy(text) != own]


def _first_sense(wordnet: Any, key: str) -> Any:
    """Return the first sense of a noun that is no plant, or None."""
    senses = wordnet.synsets(key, "n")
    return next((sense for sense in senses if sense.lexname() != _PASSED_OVER), None)
