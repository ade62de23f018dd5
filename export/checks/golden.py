"""The golden set: texts with stored logits that a server re-checks on its own CPU.

Candidates are built-in sentences and random words of the tokenizer's vocabulary, so no user data enters a bundle. About
300 of them run in fp32, most of a few words, and the chosen ones in int8.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.checkpoint import Checkpoint
from export.checks.built_in_texts import MOST_TOKENS, built_in_texts
from inferer.cpu import available_cpus
from inferer.errors import EmptyTextError
from inferer.scoring import activate
from inferer.session import Session
from inferer.tokens.encoding import Encoder
from inferer.tokens.texts import SIDES, TextOrPair, sides_of

# (words per text, texts chosen, candidates). For a max_length of 512 the chosen texts have about 1,000 tokens, half of
# them in the one text of full length: on two cores BERT-base takes a second at a server's start.
_CLASSES = ((1, 8, 96), (2, 6, 72), (4, 6, 60), (8, 5, 40), (16, 3, 20), (32, 2, 8), (80, 1, 4))
_FULL_LENGTH = (1, 3)  # texts chosen, candidates, of max_length tokens, of about MOST_TOKENS if that is less

# With a smaller lead over the second score, the best label may change on a CPU that rounds differently.
_MIN_LEAD = 0.05
# Of larger leads those of about 3 to 1 are preferred: a score near 1 hides a change of its logits.
_WANTED_LEAD = 0.5
_MOST_TRIES = 3  # candidates that run in int8 for one place
_SEED = 20260107


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A text or pair, its fp32 logits, the place of its best label, and the lead of that label's score."""

    text: TextOrPair
    logits: np.ndarray
    best: int
    lead: float


def choose_golden(checkpoint: Checkpoint, encoder: Encoder, fp32: Path, int8: Path | None) -> list[dict[str, Any]]:
    """Return about 32 texts with their logits, as the manifest's `golden` has them: text, text_pair, fp32, int8.

    The texts have from one word to max_length tokens, at most about MOST_TOKENS. As far as candidates allow, every
    label is some text's best one, and best scores lead clearly in fp32 and in int8. int8 logits are those of exact
    arithmetic, where the model allows it, and without the native operators, whatever this machine has.
    """
    threads = available_cpus()
    session = Session(fp32, threads)
    exact = None if int8 is None else Session(int8, threads, exact=True, native=False)
    chosen: list[dict[str, Any]] = []
    labels: Counter[int] = Counter()
    for texts, places in _candidates(checkpoint, encoder):
        left = [_candidate(text, session.run(encoder.encode_one(text)), checkpoint) for text in texts]
        for _ in range(min(places, len(left))):
            candidate, int8_logits = _next(left, labels, checkpoint, encoder, exact)
            left.remove(candidate)
            labels[candidate.best] += 1
            int8_row = None if int8_logits is None else int8_logits.tolist()
            texts_of = dict(zip(SIDES, sides_of(candidate.text), strict=False))
            chosen.append({**texts_of, "fp32": candidate.logits.tolist(), "int8": int8_row})
    return chosen


def _next(
    left: list[_Candidate], labels: Counter[int], checkpoint: Checkpoint, encoder: Encoder, int8: Session | None
) -> tuple[_Candidate, np.ndarray | None]:
    """Return the best remaining candidate, of a rare label with a clear lead in both models, and its int8 logits."""

    def rank(candidate: _Candidate) -> tuple[bool, float, float]:
        clear = candidate.lead > _MIN_LEAD
        return not clear, labels[candidate.best] if clear else 0.0, abs(candidate.lead - _WANTED_LEAD)

    ranked = sorted(left, key=rank)
    if int8 is None:
        return ranked[0], None
    tried = []
    for candidate in ranked[:_MOST_TRIES]:
        logits = int8.run(encoder.encode_one(candidate.text))
        found = _candidate(candidate.text, logits, checkpoint)
        same = found.best == candidate.best  # a text that int8 moves far may move elsewhere on another CPU
        if same and found.lead > _MIN_LEAD:
            return candidate, logits
        tried.append((same, found.lead, candidate, logits))
    *_, candidate, logits = max(tried, key=lambda one: one[:2])
    return candidate, logits


def _candidate(text: TextOrPair, logits: np.ndarray, checkpoint: Checkpoint) -> _Candidate:
    scores = activate(logits, checkpoint.activation)
    highest = np.sort(scores)[::-1]
    lead = float(highest[0] - highest[1]) if len(highest) > 1 else 1.0
    return _Candidate(text, logits, int(scores.argmax()), lead)


def _candidates(checkpoint: Checkpoint, encoder: Encoder) -> Iterator[tuple[list[TextOrPair], int]]:
    """Yield the candidates of each length, all with different token ids, and the number to choose.

    A pair has the words of a text of its length, a third of them in its first text, as a query has fewer.
    """
    numbers = random.Random(_SEED)  # noqa: S311 - reproducible, nothing secret
    built_in = built_in_texts(encoder)
    words = _words(checkpoint) or " ".join(map(_joined, built_in)).split()
    seen: set[tuple[int, ...]] = set()

    def drawn(count: int) -> TextOrPair:
        if not encoder.pair:
            return " ".join(numbers.choices(words, k=count))
        first = max(1, count // 3)
        sides = (" ".join(numbers.choices(words, k=k)) for k in (first, max(1, count - first)))
        return next(sides), next(sides)

    def fresh(texts: list[TextOrPair], most_tokens: float) -> list[TextOrPair]:
        kept = []
        for text in texts:
            try:
                encoding = encoder.encode_one(text)
            except EmptyTextError:  # the tokenizer's normalizer drops the word
                continue
            ids = tuple(encoding.input_ids.tolist())
            if encoding.num_tokens <= most_tokens and ids not in seen:
                seen.add(ids)
                kept.append(text)
        return kept

    fewer = 0
    for count, places, candidates in _CLASSES:
        own = [text for text in built_in if fewer < len(_joined(text).split()) <= count]
        texts = own + [drawn(count) for _ in range(candidates - len(own))]
        # Single words at any max_length; longer texts only when they cost less than those of full length.
        yield fresh(texts, math.inf if count == 1 else encoder.max_length - 1), places
        fewer = count
    places, candidates = _FULL_LENGTH
    yield fresh([drawn(_words_of_full_length(encoder, drawn)) for _ in range(candidates)], math.inf), places


def _words_of_full_length(encoder: Encoder, drawn: Callable[[int], TextOrPair]) -> int:
    """Return the number of words for max_length tokens and more; for MOST_TOKENS if that is less."""
    if encoder.max_length <= MOST_TOKENS:
        return encoder.max_length
    words = 64
    return max(1, MOST_TOKENS * words // encoder.encode_one(drawn(words)).num_tokens)


def _joined(text: TextOrPair) -> str:
    return " ".join(sides_of(text))


def _words(checkpoint: Checkpoint) -> list[str]:
    """Return the whole words of the tokenizer's vocabulary, in the order of their ids.

    Decoding tells words from pieces for every kind of tokenizer: "##ing" keeps its mark, and half a character is not a
    letter.
    """
    backend = checkpoint.tokenizer.backend_tokenizer
    special = set(checkpoint.tokenizer.all_special_ids)
    decoded = (backend.decode([i]).strip() for i in sorted(backend.get_vocab().values()) if i not in special)
    return list(dict.fromkeys(word for word in decoded if word.isalpha()))
