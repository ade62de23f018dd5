"""Choose the golden set: the texts whose answers a server re-checks on the CPU that it runs on.

Candidates are built-in sentences and random words of the tokenizer's own vocabulary; nothing of a user's data goes
into a bundle. About 300 of them run in fp32, most of them a few words long, and the chosen ones in int8.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.checkpoint import Checkpoint
from export.checks.built_in_texts import built_in_texts
from inferer.cpu import available_cpus
from inferer.encoding import Encoder
from inferer.errors import EmptyTextError
from inferer.scoring import activate
from inferer.session import Session

# (words a text, texts chosen, candidates). About 1,000 tokens are chosen where 512 are read at most, half of them
# in the one text of full length: a second at a server's start for BERT-base on two cores.
_CLASSES = (
    (1, 8, 96),
    (2, 6, 72),
    (4, 6, 60),
    (8, 5, 40),
    (16, 3, 20),
    (32, 2, 8),
    (80, 1, 4),
)
_FULL_LENGTH = (1, 3)  # texts chosen, candidates: as many tokens as are read

# A best score that leads by less may be another on a CPU that rounds otherwise, with nothing wrong.
_MIN_LEAD = 0.05
# Of answers that lead by more, those of about 3 to 1 are preferred: a score near 1 hides what moved its logits.
_WANTED_LEAD = 0.5
# Candidates tried in int8 for one place, so that the choice stays cheap.
_MOST_TRIES = 3
_SEED = 20260107


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A text, its fp32 logits, and what they say: the best label's place and the lead of its score."""

    text: str
    logits: np.ndarray
    best: int
    lead: float


def choose_golden(checkpoint: Checkpoint, encoder: Encoder, fp32: Path, int8: Path | None) -> list[dict[str, Any]]:
    """Return about 32 texts with their logits, as the manifest's `golden` states them: text, fp32, int8.

    Texts of one word up to exactly max_length tokens; every label that some candidate is given is among the best
    labels, as far as there are places; best scores lead clearly, and in int8 as in fp32, where any candidate's do. The
    int8 logits are those of exact arithmetic, whatever this machine's CPU does, where the model allows it.
    """
    threads = available_cpus()
    session = Session(fp32, threads)
    exact = None if int8 is None else Session(int8, threads, exact=True)
    chosen: list[dict[str, Any]] = []
    labels: Counter[int] = Counter()
    for texts, places in _candidates(checkpoint, encoder):
        left = [_candidate(text, session.run(encoder.encode_one(text)), checkpoint) for text in texts]
        for _ in range(min(places, len(left))):
            candidate, int8_logits = _next(left, labels, checkpoint, encoder, exact)
            left.remove(candidate)
            labels[candidate.best] += 1
            stored = None if int8_logits is None else _plain(int8_logits)
            chosen.append({"text": candidate.text, "fp32": _plain(candidate.logits), "int8": stored})
    return chosen


def _next(
    left: list[_Candidate], labels: Counter[int], checkpoint: Checkpoint, encoder: Encoder, int8: Session | None
) -> tuple[_Candidate, np.ndarray | None]:
    """Return the best candidate left for a place and its int8 logits: a rare label, a clear lead in both."""

    def rank(candidate: _Candidate) -> tuple[bool, float, float]:
        clear = candidate.lead > _MIN_LEAD
        return not clear, labels[candidate.best] if clear else 0.0, abs(candidate.lead - _WANTED_LEAD)

    ranked = sorted(left, key=rank)
    if int8 is None:
        return ranked[0], None
    tried = []
    for candidate in ranked[:_MOST_TRIES]:
        logits = int8.run(encoder.encode_one(candidate.text))
        answer = _candidate(candidate.text, logits, checkpoint)
        same = answer.best == candidate.best  # int8 that is far off on its own CPU may be far off elsewhere, otherwise
        if same and answer.lead > _MIN_LEAD:
            return candidate, logits
        tried.append((same, answer.lead, candidate, logits))
    *_, candidate, logits = max(tried, key=lambda one: one[:2])
    return candidate, logits


def _candidate(text: str, logits: np.ndarray, checkpoint: Checkpoint) -> _Candidate:
    scores = activate(logits, checkpoint.problem_type)
    highest = np.sort(scores)[::-1]
    lead = float(highest[0] - highest[1]) if len(highest) > 1 else 1.0
    return _Candidate(text, logits, int(scores.argmax()), lead)


def _plain(logits: np.ndarray) -> list[float]:
    return [float(logit) for logit in logits]


def _candidates(checkpoint: Checkpoint, encoder: Encoder) -> Iterator[tuple[list[str], int]]:
    """Yield the candidates of each length, no two read alike, and how many of them to choose."""
    numbers = random.Random(_SEED)  # noqa: S311 - the same texts every time, nothing secret
    words = _words(checkpoint)
    built_in = built_in_texts(encoder)
    words = words or " ".join(built_in).split()
    seen: set[tuple[int, ...]] = set()

    def drawn(count: int) -> str:
        return " ".join(numbers.choices(words, k=count))

    def fresh(texts: list[str], most_tokens: float) -> list[str]:
        kept = []
        for text in texts:
            try:
                encoding = encoder.encode_one(text)
            except EmptyTextError:  # of a word that the tokenizer's normalizer drops
                continue
            ids = tuple(encoding.input_ids.tolist())
            if encoding.num_tokens <= most_tokens and ids not in seen:
                seen.add(ids)
                kept.append(text)
        return kept

    fewer = 0
    for count, places, candidates in _CLASSES:
        own = [text for text in built_in if fewer < len(text.split()) <= count]
        texts = own + [drawn(count) for _ in range(candidates - len(own))]
        # Single words always, however few tokens are read; of longer texts, none that costs as much as the longest.
        yield fresh(texts, math.inf if count == 1 else encoder.max_length - 1), places
        fewer = count
    places, candidates = _FULL_LENGTH
    yield fresh([drawn(encoder.max_length) for _ in range(candidates)], math.inf), places


def _words(checkpoint: Checkpoint) -> list[str]:
    """Return the whole words of the tokenizer's vocabulary, in the order of their ids.

    Decoded, they are told from pieces whatever the tokenizer's kind: "##ing" keeps its mark, and half a character
    is no letter.
    """
    backend = checkpoint.tokenizer.backend_tokenizer
    special = set(checkpoint.tokenizer.all_special_ids)
    decoded = (backend.decode([i]).strip() for i in sorted(backend.get_vocab().values()) if i not in special)
    return list(dict.fromkeys(word for word in decoded if word.isalpha()))
