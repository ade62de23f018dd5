"""Synonyms of product names from WordNet, and a training part enriched by them and by lists of names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nltk.stem import PorterStemmer

from recipes.query_type.raw_names import clean_name, same_name
from recipes.query_type.wordnet import open_wordnet
from training.data.dataset import Dataset

# Kinds of things that are sold. A plant is passed over: its sense stands before that of the food (eggplant, corn), and
# its synonyms name the living thing (apricot tree).
KINDS = ("noun.food", "noun.artifact", "noun.substance")
_PASSED_OVER = "noun.plant"
_MOST = 3  # per name; WordNet lists the usual words of a sense first
_PLAIN_WORDS = re.compile(r"[a-z][a-z'\- ]*")  # no proper names or Latin (Biro, Zea mays), no formulas (h2o)
_STEMMER = PorterStemmer()


def synonyms(names: Iterable[str], folder: Path) -> dict[str, list[str]]:
    """Return up to three synonyms for each of `names` that has any: lower case, spaces between words.

    A name is looked up whole, as a noun, in its first sense that is not a plant, and only if that sense is of KINDS. A
    word is taken only if the sense is its own first sense as well: a diaper is a napkin too, but a shopper who types
    "napkin" means another thing. Raises TrainingError where `folder` is not WordNet's database.
    """
    found = {}
    with open_wordnet(folder) as wordnet:
        for name in names:
            others = _others(wordnet, name)
            if others:
                found[name] = others[:_MOST]
    return found


def enriched(
    train: Dataset, held_out: Dataset, label: str, extra: Sequence[str] = (), wordnet: Path | None = None
) -> tuple[Dataset, dict[str, int]]:
    """Return single-label `train` with more rows of `label` at its end, and their counts by origin.

    The names in `extra` come first; with WordNet's folder, synonyms of those and of the label's own names follow, in
    lower case. Held-out rows are read only to keep their texts out: nothing is looked up for them, and no near copy of
    a held-out text, of a training text or of an added word is added.

    The counts are "names", "synonyms", "already_there" (near copies of training rows) and "held_out" (of test rows).
    """
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
    if wordnet is not None:
        own = [str(text) for text, row in zip(train.texts, train.targets, strict=True) if row == target]
        words = synonyms([*own, *added], wordnet)
        add((word for name in words.values() for word in name), "synonyms")
    texts = (*train.texts, *added)
    targets = (*train.targets, *[target] * len(added))
    return Dataset(texts, targets, train.labels, train.problem_type, train.columns), counts


@lru_cache(maxsize=100_000)
def near_copy(text: str) -> str:
    """Return a key that is equal for two texts of nearly the same words.

    The key joins the stems of the words (Porter, Program 14, 1980) as `same_name` spells them, without "and", in
    alphabetical order: Nuts & Seeds equals "seed and nut"; Yo-Yo's equals yoyo.
    """
    words = re.split(r"[\s,/&+]+", clean_name(text).casefold())
    stems = (_STEMMER.stem(same_name(word)) for word in words if word != "and")
    return "".join(sorted(stems)) or same_name(text)


def _others(wordnet: Any, name: str) -> list[str]:
    """Return the words of the name's first sense that have it as their own first sense, without near copies."""
    sense = _first_sense(wordnet, "_".join(clean_name(name).lower().split()))
    if sense is None or sense.lexname() not in KINDS:
        return []
    own = near_copy(name)
    words = [lemma.name() for lemma in sense.lemmas() if _first_sense(wordnet, lemma.name()) == sense]
    texts = [word.replace("_", " ") for word in words]
    return [text for text in texts if _PLAIN_WORDS.fullmatch(text) and near_copy(text) != own]


def _first_sense(wordnet: Any, key: str) -> Any:
    """Return the first sense of a noun that is not a plant, or None."""
    senses = wordnet.synsets(key, "n")
    return next((sense for sense in senses if sense.lexname() != _PASSED_OVER), None)
