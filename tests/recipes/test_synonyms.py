"""Synonyms from WordNet, and a training part that is enriched without near copies of held-out names."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import nltk.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferer.bundle.manifest import SINGLE_LABEL
from recipes.query_type.balance import balanced
from recipes.query_type.name_lists import read_name_lists
from recipes.query_type.raw_names import read_raw_names, same_name
from recipes.query_type.synonyms import enriched, near_copy, synonyms
from recipes.query_type.wordnet import DEBIAN, LEXNAMES, open_wordnet
from tests.support.server import ROOT
from tests.support.wordnet_folder import Sense, write_wordnet
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.splits.stratify import stratified_split

SENSES: tuple[Sense, ...] = (
    ("noun.artifact", ("table_napkin", "napkin")),
    ("noun.artifact", ("diaper", "nappy", "napkin")),
    ("noun.plant", ("eggplant", "brinjal", "Solanum_melongena")),
    ("noun.food", ("eggplant", "aubergine", "mad_apple")),
    ("noun.object", ("chip", "fleck")),
    ("noun.food", ("chip", "crisp")),
    ("noun.food", ("soda", "pop", "soda_water", "tonic", "fizz")),
    ("noun.artifact", ("ballpoint", "Biro", "pen2")),
    ("noun.food", ("cookie", "cooky", "biscuit")),
    ("noun.food", ("yogurt", "yoghurt")),
    ("noun.food", ("milk", "moo_juice")),
    ("noun.body", ("hair", "tress")),
    ("noun.artifact", ("sofa", "couch")),
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordNet of a few nouns."""
    return write_wordnet(tmp_path_factory.mktemp("wordnet"), SENSES)


@pytest.fixture
def real() -> None:
    """Skip where Debian's WordNet is not installed."""
    if not (DEBIAN / "data.noun").is_file():
        pytest.skip("WordNet is not installed: apt-get install wordnet-base")


def single(**classes: list[str]) -> Dataset:
    """Return a single-label data set with these texts."""
    rows = [(text, (i,)) for i, texts in enumerate(classes.values()) for text in texts]
    texts, targets = tuple(text for text, _ in rows), tuple(row for _, row in rows)
    return Dataset(texts, targets, tuple(classes), SINGLE_LABEL, Columns("text", "label"))


def added(before: Dataset, after: Dataset) -> list[str]:
    """Return the texts of `after` that follow those of `before`."""
    assert after.texts[: len(before)] == before.texts
    assert after.targets[: len(before)] == before.targets
    return list(after.texts[len(before) :])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Yogurt", ["yoghurt"]),
        ("diapers", ["nappy"]),
        ("napkins", ["table napkin"]),
        ("eggplant", ["aubergine", "mad apple"]),
        ("table  napkin", ["napkin"]),
        ("soda", ["pop", "soda water", "tonic"]),
    ],
)
def test_synonyms_are_other_words_of_the_first_sense(words: Path, name: str, found: list[str]) -> None:
    """At most three words of a name's first sense are taken, if it is their own first sense; plants are passed over."""
    assert synonyms([name], words) == {name: found}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("chips", "the first sense names no goods, the second does"),
        ("hair", "the only sense names no goods"),
        ("ballpoint", "its other words are a maker's name and one with a digit"),
        ("frozen pizza", "it is not there"),
        ("Milk & Yogurt", "it is not there as a whole"),
        ("", "it is nothing"),
    ],
)
def test_a_name_without_a_safe_synonym_has_none(words: Path, name: str, why: str) -> None:
    """A name without goods as its first sense, or without plain synonyms, gets no word."""
    assert synonyms([name], words) == {}, why


def test_enriching_adds_nouns_and_synonyms_to_one_class(words: Path) -> None:
    """Nouns follow the training rows, then synonyms of names and nouns, all of one class, and counted."""
    train = single(brand=["Moo Juice", "acme"], category=["Diapers", "milk"])
    held_out = single(brand=["zest"], category=["biscuits", "Yogurt"])
    after, counts = enriched(train, held_out, "category", ["Sofa", "cookies", "acme", "rice"], words)
    assert added(train, after) == ["sofa", "cookies", "rice", "nappy", "couch"]
    assert set(after.targets[4:]) == {(1,)}
    # Not in: acme and moo juice, brands of the training part; biscuit, held out; cooky, a near copy of its own name.
    assert counts == {"names": 3, "synonyms": 2, "already_there": 2, "held_out": 1}
    assert (after.labels, after.problem_type, after.columns) == (train.labels, SINGLE_LABEL, train.columns)


def test_nothing_is_looked_up_for_held_out_names(words: Path) -> None:
    """A held-out name adds neither itself nor its synonyms."""
    train, held_out = single(brand=["acme"], category=["sofa"]), single(brand=["zest"], category=["yogurt", "soda"])
    after, _ = enriched(train, held_out, "category", (), words)
    assert added(train, after) == ["couch"]


def test_enriching_without_wordnet_opens_none(tmp_path: Path) -> None:
    """Without a folder only the nouns are added; a folder without WordNet is refused."""
    train, held_out = single(brand=["acme"], category=["sofa"]), single(brand=["zest"], category=["soda"])
    after, counts = enriched(train, held_out, "category", ["milk", "Sodas", "MILK "], wordnet=None)
    assert added(train, after) == ["milk"]
    assert counts == {"names": 1, "synonyms": 0, "already_there": 1, "held_out": 1}
    with pytest.raises(TrainingError, match="missing"):
        enriched(train, held_out, "category", ["milk"], tmp_path)


VOCABULARY = sorted({word.replace("_", " ") for _, words in SENSES for word in words} | {"Sodas", "COUCHES", "nut"})


@given(split=st.lists(st.sampled_from(["train", "held out", "nouns", "no"]), min_size=40, max_size=40))
def test_no_held_out_name_comes_in_by_enriching(words: Path, split: list[str]) -> None:
    """No added text is a near copy of a held-out or a training text."""
    parts: dict[str, list[str]] = {"train": ["milk"], "held out": ["rice"], "nouns": [], "no": []}
    for word, part in zip(VOCABULARY, split, strict=False):
        parts[part].append(word)
    train, held_out = single(other=["x"], goods=parts["train"]), single(other=["y"], goods=parts["held out"])
    after, counts = enriched(train, held_out, "goods", parts["nouns"], words)
    new = [near_copy(text) for text in added(train, after)]
    assert len(new) == counts["names"] + counts["synonyms"] == len(set(new))
    assert not set(new) & {near_copy(text) for text in (*train.texts, *held_out.texts)}


def test_near_copies_are_texts_of_the_same_stems() -> None:
    """Endings, case, accents, signs, the word "and" and the order of words make a near copy; another word does not."""
    for one, other in [("Nuts & Seeds", "seed and nut"), ("Yo-Yo's", "yoyo"), ("Cookies", "COOKIE"), ("rosé", "Rose")]:
        assert near_copy(one) == near_copy(other)
    assert near_copy("frozen pizza") != near_copy("pizza")
    assert near_copy("nail polish") != near_copy("nail polish remover")
    assert near_copy("and") == "and"


def test_wordnet_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    """A folder that lacks files of WordNet is named with them and with the package to install."""
    write_wordnet(tmp_path / "half", SENSES)
    (tmp_path / "half" / "data.noun").unlink()
    (tmp_path / "half" / "adj.exc").unlink()
    with pytest.raises(TrainingError, match="half: data.noun, adj.exc missing; .*wordnet-base.*--no-synonyms"):
        synonyms(["milk"], tmp_path / "half")


def test_a_broken_wordnet_is_named(tmp_path: Path) -> None:
    """An index that is not WordNet's is an error in one line."""
    (write_wordnet(tmp_path, SENSES) / "index.noun").write_text("milk n many\n", encoding="ascii")
    with pytest.raises(TrainingError, match=f"^wordnet {tmp_path}: cannot be read: file index.noun, line 1"):
        synonyms(["milk"], tmp_path)


def test_a_broken_entry_is_named(tmp_path: Path) -> None:
    """A broken entry is an error in one line when it is looked up, and the folder is released."""
    data = write_wordnet(tmp_path, SENSES) / "data.noun"
    data.write_text(data.read_text(encoding="ascii").replace(" 02 yogurt", " zz yogurt"), encoding="ascii")
    with pytest.raises(TrainingError, match=f"^wordnet {tmp_path}: cannot be read: line "):
        synonyms(["yogurt"], tmp_path)
    assert str(tmp_path) not in nltk.data.path


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WordNet is opened without the network and without nltk's search for its own data."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the network, or nltk's data")

    refused: list[tuple[object, str]] = [(socket.socket, "connect"), (nltk.data, "find"), (nltk.data, "load")]
    for owner, name in refused:
        monkeypatch.setattr(owner, name, refuse)
    assert synonyms(["yogurt"], write_wordnet(tmp_path, SENSES)) == {"yogurt": ["yoghurt"]}


def test_lexnames_are_those_of_the_manual() -> None:
    """There are 45 lexicographer files, each a part of speech and a subject, and the numbers of some are known."""
    assert len(LEXNAMES) == len(set(LEXNAMES)) == 45
    assert all(re.fullmatch(r"(noun|verb|adj|adv)\.[a-zA-Z]+", name) for name in LEXNAMES)
    numbers = {
        0: "adj.all",
        3: "noun.Tops",
        6: "noun.artifact",
        13: "noun.food",
        20: "noun.plant",
        27: "noun.substance",
    }
    assert {number: LEXNAMES[number] for number in numbers} == numbers
    assert (LEXNAMES[29], LEXNAMES[43], LEXNAMES[44]) == ("verb.body", "verb.weather", "adj.ppl")


@pytest.mark.slow
def test_looking_up_needs_no_torch(words: Path) -> None:
    """A look-up imports neither torch nor transformers, and causes no warning."""
    code = (
        "import sys; from pathlib import Path; from recipes.query_type.synonyms import synonyms\n"
        "print(synonyms(['yogurt'], Path(sys.argv[1])), {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'yogurt': ['yoghurt']} set()"
    assert done.stderr == ""


@pytest.mark.slow
def test_the_real_wordnet(real: None) -> None:
    """WordNet 3.0 gives usual words for goods, and none for other things."""
    found = synonyms(["zucchini", "yogurt", "diapers", "couches", "chickpeas", "eye care", "women", "Mature"], DEBIAN)
    assert found["yogurt"] == ["yoghurt", "yoghourt"]
    assert found["diapers"] == ["nappy"]
    assert found["couches"] == ["sofa", "lounge"]
    assert found.keys() & {"eye care", "women", "Mature"} == set()
    with open_wordnet(DEBIAN) as wordnet:
        assert wordnet.synset("yogurt.n.01").lexname() == "noun.food"


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_names_of_the_real_files_stay_out(test_data: Path, real: None, seed: int) -> None:
    """Split, enriched and balanced, the real training rows have no held-out text, and the category class has grown."""
    data, _ = read_raw_names(test_data / "query_type")
    train, held_out = stratified_split(data, 0.2, seed)
    nouns = read_name_lists({"category": ROOT / "recipes" / "query_type" / "retail_product_nouns.txt"}).texts
    after, counts = enriched(train, held_out, "category", nouns, DEBIAN)
    kept_out = {near_copy(text) for text in held_out.texts}
    assert not {near_copy(text) for text in added(train, after)} & kept_out
    assert not {same_name(text) for text in balanced(after, seed, 1000).texts} & {
        same_name(text) for text in held_out.texts
    }
    assert counts["names"] > 700
    assert counts["synonyms"] > 100
    assert after.counts()["category"] == train.counts()["category"] + counts["names"] + counts["synonyms"]


def test_the_project_s_nouns_are_a_list_of_their_own() -> None:
    """The list has several hundred nouns in lower case, sorted by block, without names of brands or retailers."""
    folder = ROOT / "recipes" / "query_type"
    path = folder / "retail_product_nouns.txt"
    nouns = read_name_lists({"category": path}).texts
    assert len(nouns) > 400
    assert all(noun == noun.lower() and same_name(noun) for noun in nouns)
    assert len({same_name(noun) for noun in nouns}) == len(nouns)
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        assert lines == sorted(lines)
    for other in ("brands.txt", "retailers.txt"):
        names = {same_name(name) for name in read_name_lists({"other": folder / other}).texts}
        assert not names & {same_name(noun) for noun in nouns}, other
