"""A WordNet database of a few nouns, in the format of wndb(5WN), for tests without the real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipes.query_type.wordnet import LEXNAMES

Sense = tuple[str, tuple[str, ...]]


def write_wordnet(folder: Path, senses: Sequence[Sense]) -> Path:
    """Write `senses` of nouns: lexicographer file and words. A word's senses are ranked in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    data = "  1 a line of the licence\n"
    index: dict[str, list[int]] = {}
    for kind, words in senses:
        offset = len(data)
        listed = " ".join(f"{word} 0" for word in words)
        data += f"{offset:08d} {LEXNAMES.index(kind):02d} n {len(words):02x} {listed} 000 | {words[0]}, a thing  \n"
        for word in words:
            index.setdefault(word.lower(), []).append(offset)
    lines = [
        f"{word} n {len(offsets)} 0 {len(offsets)} 0 {' '.join(f'{o:08d}' for o in offsets)}  "
        for word, offsets in sorted(index.items())
    ]
    (folder / "data.noun").write_text(data, encoding="ascii")
    (folder / "index.noun").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("  1 a line of the licence\n", encoding="ascii")
        (folder / f"index.{part}").write_text("", encoding="ascii")
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"{part}.exc").write_text("", encoding="ascii")
    return folder
