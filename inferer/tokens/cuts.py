"""Places where a long text can be cut so that its pieces have the tokens of the whole.

A text is cut before white space, and after punctuation and Chinese characters where the tokenizer makes a word of each.
Whether it does is tried out on short texts, character by character: tokenizers differ, and none tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from unicodedata import category

from tokenizers import AddedToken, Tokenizer

# A piece of the slowest known text (WordPiece, words of 99 letters outside the vocabulary) takes about 20 ms.
PIECE_CHARS = 4096

_SPACES = " \t\n\r\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Blocks with punctuation, and blocks of Chinese characters, which are tried by their first and last character.
_PUNCTUATION = ((0x21, 0x3100), (0xA4D0, 0xAC00), (0xFE10, 0xFF66))
_CHINESE = ("\u3400\u4dbf", "\u4e00\u9fff", "\uf900\ufad9")
# Each character is tried between letters, and some in all these places: beside digits, accents, scripts without
# spaces, and punctuation that tokenizers join with its neighbours.
_LETTERS = (("ab", "cd"),)
_BEFORE = ("ab", "7", "\u00e9", "\u4e2d", "it'", "x.", "\u10d0\u10d0", "\U0001f600")
_AFTER = ("cd", "7", "\u00c9", "\u4e2d", "s x", ".", "\u10d0\u10d0", "\U0001f600", " cd", "\ncd")
_PLACES = tuple((left, right) for left in _BEFORE for right in _AFTER)
# No mark and no joiner may follow a cut after punctuation: it would belong to the character before the cut. The
# half-width marks of Japanese are letters by category.
_FOLLOWS = r"(?=[\s\w\u2190-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff%s])(?![\uff9e\uff9f])"

_METASPACE = "\u2581"  # a space to tokenizers after SentencePiece
_MOST_KNOWN = 10_000


class Cuts:
    """The cuts that a tokenizer allows."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        spaces = marks = ""
        if _hold(tokenizer, " \n", _PLACES, before=True) == " \n":
            spaces = _hold(tokenizer, _SPACES, _LETTERS, before=True)
        elif _hold(tokenizer, " ", _PLACES, before=True):
            spaces = " "
        if _hold(tokenizer, ".'\u4e2d", _PLACES, before=False) == ".'\u4e2d":
            marks = re.escape(_hold(tokenizer, _punctuation(), _LETTERS, before=False))
            chinese = [block for block in _CHINESE if _hold(tokenizer, block, _LETTERS, before=False) == block]
            marks += "".join("-".join(block) for block in chinese)
        self._normalizer = tokenizer.normalizer
        self._solid: dict[str, bool] = {}
        self._pattern = _pattern(spaces, marks, tokenizer.get_added_tokens_decoder().values())

    def pieces(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the ranges of characters of a text's pieces: PIECE_CHARS characters and those up to the next cut."""
        start, seen = 0, PIECE_CHARS
        while self._pattern is not None and (found := self._pattern.search(text, seen)):
            is_mark = found.lastgroup == "mark"
            cut = found.start() + is_mark
            seen = found.start() + 1
            if is_mark or self._is_solid(text[cut - 1]):
                yield start, cut
                start, seen = cut, cut + PIECE_CHARS
        yield start, len(text)

    def _is_solid(self, character: str) -> bool:
        """Return whether a character is still there, and no white space, after the tokenizer's normalization.

        Otherwise the white space after it may join white space before it.
        """
        known = self._solid.get(character)
        if known is None:
            left = character if self._normalizer is None else self._normalizer.normalize_str(character)
            known = bool(left) and not left[-1].isspace() and left[-1] != _METASPACE
            if len(self._solid) < _MOST_KNOWN:
                self._solid[character] = known
        return known


@cache
def _punctuation() -> str:
    """Return the characters that a tokenizer may take for punctuation: BERT's take all of ASCII's symbols."""
    found = (chr(code) for block in _PUNCTUATION for code in range(*block))
    return "".join(c for c in found if category(c)[0] == "P" or (c < "\x7f" and category(c)[0] == "S"))


def _hold(tokenizer: Tokenizer, characters: str, places: Iterable[tuple[str, str]], *, before: bool) -> str:
    """Return those of `characters` that allow a cut, before or after them, in all `places`, pairs of left and right."""
    cuts = []
    for one in characters:
        for left, right in places:
            # A run of white space is cut before its first character only.
            cuts += [(one, left, one + right)] if before else [(one, left + one, right), (one, left + one, one + right)]
    texts = dict.fromkeys(text for _, left, right in cuts for text in (left + right, left, right))
    found = dict(zip(texts, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True))
    wrong = {one for one in characters if not _is_split(tokenizer, one, before)}
    for one, left, right in cuts:
        whole, first, second = found[left + right], found[left], found[right]
        spans = [(start + len(left), end + len(left)) for start, end in second.offsets]
        if whole.ids != first.ids + second.ids or whole.offsets != first.offsets + spans:
            wrong.add(one)
    return "".join(one for one in characters if one not in wrong)


def _is_split(tokenizer: Tokenizer, one: str, before: bool) -> bool:
    """Return whether the model, which sees one word at a time, never sees the characters on both sides of a cut."""
    if tokenizer.pre_tokenizer is None:
        return False
    text = f"ab{one}cd" if before else f"ab{one}{one}cd"
    normalized = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    words = len(tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    return words > 1 if before else words == len(text) - 2


def _pattern(spaces: str, marks: str, added: Iterable[AddedToken]) -> re.Pattern[str] | None:
    """Return the pattern of the character at a cut: one of `spaces` after it, or a "mark" before it; None for no cuts.

    The tokenizer looks for some added tokens in the text as it is: no cut is inside of one. For others it looks after
    its own normalization, which cannot be foreseen: what one of those forbids somewhere is forbidden everywhere.
    """
    inside = after = ""
    a_mark = re.compile(f"[{marks}]" if marks else "(?!)")
    for token in added:
        content = token.content
        if any(c.isspace() for c in content) or (token.normalized and token.rstrip):
            return None
        if token.single_word or (token.normalized and (not content.isalnum() or a_mark.search(content))):
            marks = ""
        if token.rstrip:
            after += f"(?<!{re.escape(content)})"
        for at in range(1, len(content)):
            if not content[at - 1].isalnum() or a_mark.match(content[at - 1]):
                inside += f"(?!(?<={re.escape(content[:at])}){re.escape(content[at:])})"
    cuts = []
    if spaces:
        cuts.append(rf"(?<=\S){after}[{spaces}]")
    if marks:
        cuts.append(rf"(?P<mark>[{marks}]){_FOLLOWS % marks}{after}{inside}")
    if not cuts:
        return None
    return re.compile(f"(?=[{spaces}{marks}])(?:{'|'.join(cuts)})")
