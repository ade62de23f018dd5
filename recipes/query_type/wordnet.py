"""WordNet 3.0 from Debian's package, opened with nltk's reader; nltk downloads nothing.

The package lacks the file `lexnames`, which is here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nltk.data
from nltk.corpus.reader.wordnet import WordNetCorpusReader, WordNetError

from inferer.errors import first_line
from training.errors import TrainingError

DEBIAN = Path("/usr/share/wordnet")
# The files that nltk opens, those of the other parts of speech included.
_FILES = tuple(f"{kind}.{part}" for kind in ("index", "data") for part in ("noun", "verb", "adj", "adv"))
_EXCEPTIONS = tuple(f"{part}.exc" for part in ("noun", "verb", "adj", "adv"))

# The lexicographer files by number, from 00, and their parts of speech: lexnames(5WN), the manual of WordNet 3.0.
_PARTS = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
LEXNAMES = (
    *("adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute"),
    *("noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group"),
    *("noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant"),
    *("noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state"),
    *("noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication"),
    *("verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion"),
    *("verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl"),
)


class _Reader(WordNetCorpusReader):  # type: ignore[misc]
    """nltk's reader with `lexnames` from this module; `files` closes the files that it opens."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._files = files
        super().__init__(str(folder), omw_reader=object())  # None causes a warning; only other languages use it

    def open(self, file: str) -> Any:
        """Return the open file called `file`."""
        if file != "lexnames":
            return self._files.enter_context(super().open(file))
        lines = (f"{i:02d}\t{name}\t{_PARTS[name.split('.')[0]]}\n" for i, name in enumerate(LEXNAMES))
        return io.StringIO("".join(lines))

    def map_wn(self, version: str = "wordnet") -> None:  # noqa: ARG002
        """Return nothing: mapping to other versions, for other languages, would look for nltk's own download."""
        return


@contextmanager
def open_wordnet(folder: Path) -> Iterator[WordNetCorpusReader]:
    """Yield nltk's reader of the WordNet database in `folder`; opening it takes about 3 s.

    Raises TrainingError for missing files, naming the package to install, and for files that are not WordNet's.
    """
    place = folder.resolve()
    missing = [name for name in (*_FILES, *_EXCEPTIONS) if not (place / name).is_file()]
    if missing:
        raise TrainingError(
            f"wordnet {folder}: {', '.join(missing[:3])} missing; name the folder of WordNet's database "
            "(apt-get install wordnet-base), or give --no-synonyms"
        )
    with ExitStack() as files:
        nltk.data.path.append(str(place))  # nltk opens nothing outside the folders of this list
        files.callback(nltk.data.path.remove, str(place))
        try:
            reader = _Reader(place, files)
        except (WordNetError, AssertionError, IndexError, OSError, StopIteration, ValueError) as error:
            raise _unreadable(place, error) from error
        try:
            yield reader
        except WordNetError as error:  # an entry is read when it is looked up
            raise _unreadable(place, error) from error


def _unreadable(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(f"wordnet {folder}: cannot be read: {first_line(error)}")
