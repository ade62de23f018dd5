"""ModelInferer, a model that is ready to predict: encoding, runs and scoring put together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from inferer.batching import MAX_BATCH_TOKENS, MOST_BATCH_TOKENS, Batcher, Cancellation
from inferer.bundle.golden import ENFORCE, MODES
from inferer.bundle.manifest import MULTI_LABEL, NONE, REGRESSION, activation_of, is_int
from inferer.bundle.reader import DEFAULT_THRESHOLD, FP32, TOKENIZER, WINDOWS, Bundle, read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config, Threshold, read_config, spread_thresholds
from inferer.cpu import MOST_THREADS, available_cpus
from inferer.errors import BundleError, ConfigError, PairError, RunError, TextError, TooManyTokensError
from inferer.explain import Encodings, Explanation, Runs, occlude
from inferer.options import CallOptions, ExplainOptions, Timings, check_explain_options, check_options
from inferer.scoring import (
    Choice,
    Prediction,
    SideCounts,
    TokenCounts,
    activate,
    activated,
    calibration_of,
    pool,
    to_prediction,
)
from inferer.session import Session, parallelism
from inferer.tokens.encoding import Encoder, Encoding, TextTokens
from inferer.tokens.texts import TextOrPair, characters_of, sides_of
from inferer.verified_session import check_shape, load

# Also long enough for the encoder to find out where its tokenizer allows cuts.
_WARM_UP_TEXT = "a short text, repeated until it fills the longest input of the model " * 128

# Concurrent runs of one text each where texts may not share a run: more give a higher throughput and hold more memory.
_RUNS_AT_ONCE = 16
# Between texts a caller is asked this often whether it is still there: a system call costs as much as a short text.
_ASK_S = 0.005
# Texts whose tokens are in memory together: enough to form runs of texts of similar length.
_TEXTS_AT_ONCE = 256


class ModelInferer:
    """Predict with one model. Build it once and share it between any number of threads.

    checkpoint_path: the folder of a bundle; or a PyTorch checkpoint (a Hugging Face folder, or a bare state dict that
    `config` describes), which a child process exports once into a cache keyed by content. config: a mapping or a JSON
    file; may override labels, problem_type, max_length and thresholds. quantize: False runs the fp32 model.
    cpus: how many the model may use, by default the CPU quota. intra_op_threads, parallel_runs: onnxruntime's threads
    in one run, and how many runs may be in progress together; by default as fits the model and `cpus` (`parallelism`),
    and with intra_op_threads alone one run. cache_dir: the folder of converted checkpoints, by default
    INFERER_CACHE_DIR or the user's cache folder. spinning: whether idle onnxruntime threads busy-wait for the next run;
    False where several processes share the cores. golden_check: whether the texts stored in the bundle must get the
    same scores as at export: "enforce" rejects the bundle otherwise, "warn" logs the difference, "off" skips the check.
    batching: whether concurrent callers share runs, of at most max_batch_tokens tokens with padding; predictions have
    the same bits with and without.

    Attributes: text_pair: whether the model reads pairs of texts. golden_check: the check's result. exact_because: why
    int8 products are computed exactly, which is slower; None where the CPU does so by itself. alone_because: why each
    text runs alone; None where runs are shared. native: whether the native operators compute it.

    Raises BundleError (GoldenCheckError among them), CheckpointError or ConfigError, which name the fault.
    """

    def __init__(
        self,
        checkpoint_path: str | os.PathLike[str],
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        quantize: bool = True,
        *,
        intra_op_threads: int | None = None,
        parallel_runs: int | None = None,
        cpus: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        spinning: bool = True,
        golden_check: str = ENFORCE,
        batching: bool = True,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
    ) -> None:
        if golden_check not in MODES:
            raise ConfigError("golden_check", golden_check, f"one of {', '.join(MODES)}")
        counts = {"intra_op_threads": intra_op_threads, "parallel_runs": parallel_runs, "cpus": cpus}
        for name, count in counts.items():
            if count is not None and not is_int(count, 1, MOST_THREADS):
                raise ConfigError(name, count, f"a whole number from 1 to {MOST_THREADS}")
        if not is_int(max_batch_tokens, 1, MOST_BATCH_TOKENS):
            expected = f"a number of tokens from 1 to {MOST_BATCH_TOKENS}"
            raise ConfigError("max_batch_tokens", max_batch_tokens, expected)
        overrides = read_config(config)
        folder = bundle_for(checkpoint_path, overrides, quantize=quantize, cache_dir=cache_dir)
        self.bundle: Bundle = read_bundle(folder)
        cpus = cpus or available_cpus()
        threads, runs = parallelism(self.bundle, cpus, intra_op_threads, parallel_runs, quantize=quantize)
        self.intra_op_threads, self.parallel_runs = threads, runs
        self._apply(overrides)
        model = self.bundle.model_path(quantize=quantize)
        self.scheme = self.bundle.scheme if quantize else FP32
        tokenizer, tokenizer_sha256 = self.bundle.path / TOKENIZER, self.bundle.sha256(TOKENIZER)
        # Long texts leave half of the CPUs to the model: on 2 CPUs, beside four clients of slow texts, the p99 of a
        # short one is 2 to 6 times lower with one turn than with two.
        overlap, turns = self.bundle.windows.overlap, max(1, cpus // 2)
        self._encoder = Encoder(
            tokenizer,
            self.max_length,
            overlap,
            pair=self.text_pair,
            token_types=self.bundle.token_types,
            turns=turns,
            sha256=tokenizer_sha256,
        )

        def session_of(exact: bool, *, native: bool = True) -> Session:
            return Session(
                model,
                threads,
                spinning=spinning,
                exact=exact,
                native=native,
                pad_id=self.bundle.pad_token_id,
                sha256=self.bundle.sha256(model.name),
            )

        loaded = load(self.bundle, self.scheme, golden_check, session_of, max_batch_tokens)
        self._session, self.exact_because, self.golden_check, self.alone_because = loaded
        self.native = self._session.native
        if not batching:
            self.alone_because = "batching is off"
        shared = self.alone_because is None
        at_once = runs if shared else max(runs, _RUNS_AT_ONCE)
        self.batcher = Batcher(
            self._session.run_batch, shared=shared, max_tokens=max_batch_tokens, at_once=at_once, parts=runs
        )
        self._warm_up()

    def _apply(self, overrides: Config) -> None:
        bundle = self.bundle
        self.labels = overrides.labels or bundle.labels
        if len(self.labels) != len(bundle.labels):
            raise ConfigError("config.labels", list(self.labels), f"{len(bundle.labels)} names, one per logit")
        self.text_pair = bundle.text_pair
        self.problem_type = overrides.problem_type or bundle.problem_type
        if self.problem_type != bundle.problem_type and REGRESSION in (self.problem_type, bundle.problem_type):
            raise ConfigError("config.problem_type", self.problem_type, f"{bundle.problem_type}, as in the bundle")
        self.activation = bundle.activation if self.problem_type == REGRESSION else activation_of(self.problem_type)
        self.max_length = overrides.max_length or bundle.max_length
        if self.max_length > bundle.max_positions:
            expected = f"at most the model's {bundle.max_positions} tokens"
            raise ConfigError("config.max_length", self.max_length, expected)
        self.calibration = calibration_of(bundle.temperature, bundle.platt)
        self.abstain_threshold = bundle.abstain_threshold
        fitted = self.calibration is not None or self.abstain_threshold is not None
        if fitted and self.problem_type != bundle.problem_type:
            expected = f"{bundle.problem_type}, which this bundle is calibrated for"
            raise ConfigError("config.problem_type", self.problem_type, expected)
        self.thresholds: dict[str, float] | None = None
        if self.problem_type == MULTI_LABEL:
            stored = bundle.thresholds or dict.fromkeys(bundle.labels, DEFAULT_THRESHOLD)
            renamed = dict(zip(self.labels, (stored[label] for label in bundle.labels), strict=True))
            given = {} if overrides.thresholds is None else overrides.thresholds
            self.thresholds = spread_thresholds("config.thresholds", given, self.labels, renamed)
        elif overrides.thresholds is not None:
            raise ConfigError("config.thresholds", overrides.thresholds, f"none for {self.problem_type}")

    def _warm_up(self) -> None:
        """Run one text of full length, which allocates memory and finds a graph that cannot run."""
        encoding = self._encoder.encode_one((_WARM_UP_TEXT, _WARM_UP_TEXT) if self.text_pair else _WARM_UP_TEXT)
        try:
            logits = self._session.run(encoding)
        except RunError as error:
            raise BundleError(self.bundle.path, str(error)) from error
        check_shape(self.bundle, logits)

    def probe(self) -> None:
        """Run a short text; raises RunError when the runtime fails."""
        self._session.run(self._encoder.encode_one(("a", "a") if self.text_pair else "a"))

    def predict(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        top_k: int | None = None,
        truncation: str | None = None,
        threshold: Threshold | None = None,
    ) -> Prediction:
        """Return the prediction for one text, or for the pair of two where the model reads pairs.

        Raises TextError (an empty text, not Unicode, too long with truncation "error"; PairError for one text in place
        of two, and the reverse) or ConfigError (a bad option).
        """
        options = self._checked(CallOptions(top_k, truncation, threshold))
        return self._predict([_joined(text, text_pair)], options, _Call())[0]

    def predict_batch(
        self,
        texts: Iterable[TextOrPair],
        *,
        top_k: int | None = None,
        truncation: str | None = None,
        threshold: Threshold | None = None,
        progress: bool = False,
    ) -> list[Prediction]:
        """Return the predictions for `texts`, in order; the first bad text raises TextError with its index.

        texts: one text each, or a tuple of two where the model reads pairs. progress: show a bar on stderr.
        """
        options = self._checked(CallOptions(top_k, truncation, threshold))
        if isinstance(texts, str):
            raise TextError("texts must be several texts, not one str; use predict(text)")
        listed = list(texts)
        predictions: list[Prediction] = []
        with tqdm(total=len(listed), unit="text", disable=not progress) as bar:
            for start in range(0, len(listed), _TEXTS_AT_ONCE):
                part = listed[start : start + _TEXTS_AT_ONCE]
                predictions += self._predict(part, options, _Call(), first_index=start)
                bar.update(len(part))
        return predictions

    def predict_timed(
        self,
        texts: Sequence[TextOrPair],
        options: CallOptions,
        cancellation: Cancellation | None = None,
        max_tokens: int | None = None,
    ) -> tuple[list[Prediction], Timings]:
        """Return the predictions for `texts` and their timings, for a server that reports them.

        max_tokens: how many the texts may have together before truncation, special tokens included. Errors as
        `predict_batch`, WaitError when the call was cancelled before its last run, and TooManyTokensError.
        """
        call = _Call(cancellation, max_tokens)
        return self._predict(texts, self._checked(options), call, first_index=0), call.timings

    def explain(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        label: str | None = None,
        truncation: str | None = None,
        max_parts: int | None = None,
    ) -> Explanation:
        """Return the contribution of each word to `label`, by default the best label, by leaving words out.

        In a text of more than max_parts words, words of little effect go together. By default a text of over 20 words
        has at most 9 parts, the cost of about twelve predictions; a further part costs about one. Errors as `predict`.
        """
        return self.explain_timed(_joined(text, text_pair), ExplainOptions(label, truncation, max_parts))[0]

    def explain_timed(
        self,
        text: TextOrPair,
        options: ExplainOptions,
        cancellation: Cancellation | None = None,
        max_tokens: int | None = None,
    ) -> tuple[Explanation, Timings]:
        """Return the result of `explain` and its timings, for a server that reports them. Errors as `predict_timed`."""
        checked = check_explain_options(options, self.labels, self.bundle.truncations)
        call = _Call(cancellation, max_tokens)
        encodings = self._encode(text, checked, call, spans=True)
        runs = Runs(lambda new: self._run(new, call))

        def scores_of(texts: Sequence[Encodings]) -> list[NDArray[np.float64]]:
            return [self._scores(self._pooled(rows, one)) for rows, one in zip(runs.rows(texts), texts, strict=True)]

        prediction = self._score(runs.rows([encodings])[0], encodings, checked)
        label = options.label or prediction.label
        place = self.labels.index(label)
        parts = occlude(
            sides_of(text),
            encodings,
            scores_of,
            place,
            options.max_parts,
            lambda: call.go_on(0),
            unbounded=self.activation == NONE,
        )
        explanation = Explanation(prediction, label, prediction.scores[label], tuple(parts), runs.count, runs.tokens)
        return explanation, call.timings

    def logits(self, text: str, text_pair: str | None = None, *, truncation: str | None = None) -> NDArray[np.float32]:
        """Return the model's raw output for one text or pair, float32 of shape [labels]."""
        options = self._checked(CallOptions(truncation=truncation))
        call = _Call()
        encodings = self._encode(_joined(text, text_pair), options, call)
        return self._pooled(self._run(encodings, call), encodings)

    def _checked(self, options: CallOptions) -> CallOptions:
        return check_options(options, self.labels, self.thresholds, self.bundle.truncations)

    def _predict(
        self, texts: Sequence[TextOrPair], options: CallOptions, call: _Call, *, first_index: int | None = None
    ) -> list[Prediction]:
        """Encode, run and score `texts`. first_index: their offset in a batch, for TextError; None for one text."""
        encoded: list[Encodings] = []
        for index, text in enumerate(texts):
            try:
                encoded.append(self._encode(text, options, call))
            except TextError as error:
                if first_index is None:
                    raise
                raise error.at(first_index + index) from None
        rows = iter(self._run([encoding for encodings in encoded for encoding in encodings], call))
        return [self._score(list(islice(rows, len(encodings))), encodings, options) for encodings in encoded]

    def _encode(self, text: TextOrPair, options: CallOptions, call: _Call, *, spans: bool = False) -> Encodings:
        started = time.monotonic()
        call.timings.tokenized_from = call.timings.tokenized_from or started
        call.go_on(0)
        encodings = self._encoder.encode(
            text,
            options.truncation or self.bundle.truncation,
            spans=spans,
            before=call.characters,
            known=call.first_texts,
            go_on=call.go_on,
        )
        call.characters += characters_of(text)
        call.count(encodings[0].num_tokens)
        call.timings.tokenize_s += time.monotonic() - started
        return encodings

    def _run(self, encodings: Sequence[Encoding], call: _Call) -> list[NDArray[np.float32]]:
        result = self.batcher.run(encodings, call.cancellation)
        call.timings.runs += result.runs
        return result.rows

    def _score(self, rows: Sequence[NDArray[np.float32]], encodings: Encodings, options: CallOptions) -> Prediction:
        logits = self._pooled(rows, encodings)
        scores = self._scores(logits)
        thresholds = options.threshold if isinstance(options.threshold, Mapping) else self.thresholds
        windows = len(encodings) if (options.truncation or self.bundle.truncation) == WINDOWS else None
        choice = Choice(thresholds, self.abstain_threshold, options.top_k)
        one, sides = encodings[0], None
        if self.text_pair:
            sides = tuple(SideCounts(side.num_tokens, side.truncated) for side in one.sides)
        counts = TokenCounts(one.num_tokens, one.truncated, windows, sides)
        prediction = to_prediction(scores, self.labels, choice, counts)
        if options.activation is None:
            return prediction
        values = activated(logits, options.activation, self.labels, self.calibration)
        _check_finite(list(values.values()), logits)
        return replace(prediction, activated=values)

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = activate(logits, self.activation, self.calibration)
        _check_finite(scores, logits)
        return scores

    def _pooled(self, rows: Sequence[NDArray[np.float32]], encodings: Encodings) -> NDArray[np.float32]:
        return pool(rows, [window.own_tokens for window in encodings], self.bundle.windows.pooling)


def _joined(text: str, text_pair: str | None) -> TextOrPair:
    if text_pair is None:
        return text
    if not isinstance(text, str):
        raise PairError("text is a pair already; give text and text_pair, or predict_batch several pairs")
    return text, text_pair


class _Call:
    """One call: its timings and characters so far, the tokens of the first texts of pairs, and its limits.

    max_tokens: of all its texts together.
    """

    def __init__(self, cancellation: Cancellation | None = None, max_tokens: int | None = None) -> None:
        self.cancellation = cancellation
        self.timings = Timings()
        self.characters = 0
        self.first_texts: dict[str, TextTokens] = {}
        self._max_tokens = max_tokens
        self._tokens = 0
        self._next_ask = time.monotonic() + _ASK_S

    def go_on(self, tokens: int) -> None:
        """Raise WaitError or TooManyTokensError if the call is over. tokens: of the text in hand, so far."""
        self._check_tokens(self._tokens + tokens)
        if self.cancellation is not None:
            now = time.monotonic()
            ask = now > self._next_ask
            if ask:
                self._next_ask = now + _ASK_S
            self.cancellation.check(ask=ask)

    def count(self, tokens: int) -> None:
        """Count the tokens of a whole text; raises TooManyTokensError."""
        self._tokens += tokens
        self._check_tokens(self._tokens)

    def _check_tokens(self, tokens: int) -> None:
        if self._max_tokens is not None and tokens > self._max_tokens:
            found = f"{tokens} tokens up to here, before truncation; all texts together may have {self._max_tokens}"
            raise TooManyTokensError(found)


def _check_finite(values: ArrayLike, logits: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise RunError(f"the model gave logits that are not finite: {logits.tolist()}")
