"""A cache of predictions in bounded memory.

It is sound because a text's prediction has the same bits alone and in any batch. The key is the whole text with every
option of the call, compared character by character, so another text never gets the answer. A cache belongs to one
loaded model, and a reload starts with an empty one.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

from inferer.errors import TextError
from inferer.options import CallOptions, Timings
from inferer.scoring import Prediction
from inferer.tokens.texts import TextOrPair, sides_of

# An entry without its texts and scores: the key, the prediction, and its place in the table. tracemalloc sees 430 bytes
# for a text and 710 for a pair.
_ENTRY_BYTES = 1_000
_SCORE_BYTES = 32  # a float, and its place in a table of scores counted by sys.getsizeof

_Key = tuple[TextOrPair, Hashable]
Predict = Callable[[Sequence[TextOrPair], int | None], tuple[list[Prediction], Timings]]


class AnswerCache:
    """Predictions by text and options, the least recently used dropped first; thread-safe.

    most_bytes: the estimated memory of all entries, never exceeded. on_change: called with the bytes now held.
    """

    def __init__(self, most_bytes: int, on_change: Callable[[int], object] = lambda _: None) -> None:
        self.most_bytes, self.bytes, self._on_change = most_bytes, 0, on_change
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Key, tuple[Prediction, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def predict(
        self, texts: Sequence[TextOrPair], options: CallOptions, most_tokens: int | None, predict: Predict
    ) -> tuple[list[Prediction], Timings, int]:
        """Return the predictions for `texts`, the timings, and the number of texts that the cache answered.

        predict: computes the others, which may have `most_tokens` together. Errors are those of `predict` for all
        texts: it is called again for all where the others fail, or all have too many tokens.
        """
        keys = [_key(text, options) for text in texts]
        with self._lock:
            found = {key: entry[0] for key in dict.fromkeys(keys) if (entry := self._taken(key))}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        timings = Timings()
        if new:
            try:
                computed, timings = predict(list(new.values()), most_tokens)
            except TextError:
                if len(new) == len(texts):
                    raise
                return *predict(texts, most_tokens), 0  # the error names the place among all texts
            found |= self._keep(dict(zip(new, computed, strict=True)))
        predictions = [found[key] for key in keys]
        if most_tokens is not None and sum(one.num_tokens for one in predictions) > most_tokens:
            return *predict(texts, most_tokens), 0
        return predictions, timings, sum(key not in new for key in keys)

    def _taken(self, key: _Key) -> tuple[Prediction, int] | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def _keep(self, computed: dict[_Key, Prediction]) -> dict[_Key, Prediction]:
        with self._lock:
            for key, prediction in computed.items():
                size = _size(key, prediction)
                if size > self.most_bytes or key in self._entries:
                    continue
                while self.bytes + size > self.most_bytes:
                    self.bytes -= self._entries.popitem(last=False)[1][1]
                self._entries[key] = prediction, size
                self.bytes += size
            self._on_change(self.bytes)
        return computed


def _key(text: TextOrPair, options: CallOptions) -> _Key:
    given = options.threshold
    threshold = tuple(sorted(given.items())) if isinstance(given, Mapping) else given
    return text, (options.top_k, options.truncation, threshold, options.activation)


def _size(key: _Key, prediction: Prediction) -> int:
    size = _ENTRY_BYTES + sum(map(sys.getsizeof, sides_of(key[0])))
    for scores in (prediction.scores, prediction.activated):
        if scores is not None:
            size += sys.getsizeof(scores) + _SCORE_BYTES * len(scores)
    return size + 8 * len(prediction.labels)
