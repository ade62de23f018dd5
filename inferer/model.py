"""ModelInferer: one model, ready to answer. Composes encode, run and score, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inferer.batching import MAX_BATCH_TOKENS, Batcher, Cancellation
from inferer.bundle.golden import ENFORCE, MODES
from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from inferer.bundle.reader import DEFAULT_THRESHOLD, FP32, TOKENIZER, WINDOWS, Bundle, read_bundle
from inferer.checkpoint import bundle_for
from inferer.config import Config, read_config, spread_thresholds
from inferer.cpu import MOST_THREADS, available_cpus
from inferer.encoding import Encoder, Encoding
from inferer.errors import BundleError, ConfigError, RunError, TextError
from inferer.explain import Encodings, Explanation, Runs, occlude
from inferer.options import CallOptions, ExplainOptions, Timings, check_explain_options, check_options
from inferer.scoring import Choice, Prediction, TokenCounts, activate, activated, calibration_of, pool, to_prediction
from inferer.session import Session
from inferer.verified_session import check_shape, load

_WARM_UP_TEXT = "a short text, once through the whole model before anybody waits for it " * 64

# Runs of one text under way together where runs are not shared: more give more texts a second, and hold more memory.
_RUNS_AT_ONCE = 16
# Texts whose tokens are held in memory together; enough for runs of texts of like length.
_TEXTS_AT_ONCE = 256


class ModelInferer:
    """Answers texts with one model. Build it once, share it between any number of threads.

    checkpoint_path: a bundle's folder; or a PyTorch checkpoint (a Hugging Face folder, or a bare state
    dict described by `config`), which is then exported once in a child process and cached by content.
    config: a mapping or a JSON file; may override labels, problem_type, max_length and thresholds.
    quantize: False runs the fp32 model. intra_op_threads: onnxruntime's threads, by default what the
    CPU quota allows. cache_dir: where converted checkpoints are kept. spinning: whether idle onnxruntime
    threads wait actively for the next run; False where several processes share the cores. golden_check: whether
    the texts stored in the bundle must get the answers here that they had at export: "enforce" refuses the
    bundle when they do not, "warn" logs it, "off" runs none of them. batching: whether concurrent callers share
    runs, of at most max_batch_tokens tokens with padding; answers are the same bits with and without.

    The attribute golden_check is what that check found; exact_because, why int8 products are computed exactly,
    which is slower (None where the CPU does so by itself); alone_because, why each text is run by itself (None where
    runs are shared). `batcher` holds the figures of what was run.

    Raises BundleError (GoldenCheckError among them), CheckpointError or ConfigError, naming what is wrong.
    """

    def __init__(
        self,
        checkpoint_path: str | os.PathLike[str],
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        quantize: bool = True,
        *,
        intra_op_threads: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        spinning: bool = True,
        golden_check: str = ENFORCE,
        batching: bool = True,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
    ) -> None:
        if golden_check not in MODES:
            raise ConfigError("golden_check", golden_check, f"one of {', '.join(MODES)}")
        threads = available_cpus() if intra_op_threads is None else intra_op_threads
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
            raise ConfigError("intra_op_threads", intra_op_threads, f"a number of threads from 1 to {MOST_THREADS}")
        if isinstance(max_batch_tokens, bool) or not isinstance(max_batch_tokens, int) or max_batch_tokens < 1:
            raise ConfigError("max_batch_tokens", max_batch_tokens, "a number of tokens of at least 1")
        overrides = read_config(config)
        cache = None if cache_dir is None else Path(cache_dir)
        folder = bundle_for(checkpoint_path, overrides, quantize=quantize, cache_dir=cache)
        self.bundle: Bundle = read_bundle(folder)
        self.intra_op_threads = threads
        self._apply(overrides)
        model = self.bundle.model_path(quantize=quantize)
        self.scheme = self.bundle.scheme if quantize else FP32
        self._encoder = Encoder(self.bundle.path / TOKENIZER, self.max_length, self.bundle.windows.overlap)
        pad_id = self.bundle.pad_token_id
        self._session, self.exact_because, self.golden_check, self.alone_because = load(
            self.bundle,
            self.scheme,
            golden_check,
            lambda exact: Session(model, threads, spinning=spinning, exact=exact, pad_id=pad_id),
            max_batch_tokens,
        )
        if not batching:
            self.alone_because = "batching is off"
        shared = self.alone_because is None
        self.batcher = Batcher(
            self._session.run_batch,
            shared=shared,
            max_tokens=max_batch_tokens,
            at_once=1 if shared else _RUNS_AT_ONCE,
        )
        self._warm_up()

    def _apply(self, overrides: Config) -> None:
        bundle = self.bundle
        self.labels = overrides.labels or bundle.labels
        if len(self.labels) != len(bundle.labels):
            raise ConfigError("config.labels", list(self.labels), f"{len(bundle.labels)} names, one per logit")
        self.problem_type = overrides.problem_type or bundle.problem_type
        self.max_length = overrides.max_length or bundle.max_length
        if self.max_length > bundle.max_positions:
            raise ConfigError(
                "config.max_length", self.max_length, f"at most the model's {bundle.max_positions} tokens"
            )
        self.calibration = calibration_of(bundle.temperature, bundle.platt)
        self.abstain_threshold = bundle.abstain_threshold
        fitted = self.calibration is not None or self.abstain_threshold is not None
        if fitted and self.problem_type != bundle.problem_type:
            raise ConfigError(
                "config.problem_type", self.problem_type, f"{bundle.problem_type}, which this bundle is calibrated for"
            )
        self.thresholds: dict[str, float] | None = None
        if self.problem_type == MULTI_LABEL:
            stored = bundle.thresholds or dict.fromkeys(bundle.labels, DEFAULT_THRESHOLD)
            renamed = dict(zip(self.labels, (stored[label] for label in bundle.labels), strict=True))
            given = overrides.thresholds
            self.thresholds = (
                renamed if given is None else spread_thresholds("config.thresholds", given, self.labels, renamed)
            )
        elif overrides.thresholds is not None:
            raise ConfigError("config.thresholds", overrides.thresholds, f"none for {SINGLE_LABEL}")

    def _warm_up(self) -> None:
        """Run one text of full length: memory is taken now, and a graph that cannot run is found now."""
        encoding = self._encoder.encode_one(_WARM_UP_TEXT)
        try:
            logits = self._session.run(encoding)
        except RunError as error:
            raise BundleError(self.bundle.path, str(error)) from error
        check_shape(self.bundle, logits)

    def probe(self) -> None:
        """Run a short text through the model; raises RunError when the runtime fails."""
        self._session.run(self._encoder.encode_one("a"))

    def predict(
        self,
        text: str,
        *,
        top_k: int | None = None,
        truncation: str | None = None,
        threshold: float | Mapping[str, float] | None = None,
    ) -> Prediction:
        """Return the prediction for one text.

        Raises TextError (empty, not Unicode, too long with truncation "error") or ConfigError (an
        option that is not allowed).
        """
        options = self._checked(CallOptions(top_k, truncation, threshold))
        return self._predict([text], options, Timings(), None)[0]

    def predict_batch(
        self,
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        truncation: str | None = None,
        threshold: float | Mapping[str, float] | None = None,
        progress: bool = False,
    ) -> list[Prediction]:
        """Return the predictions for `texts`, in order; the first bad text raises TextError with its index.

        progress: show a bar on stderr.
        """
        options = self._checked(CallOptions(top_k, truncation, threshold))
        if isinstance(texts, str):
            raise TextError("texts must be several texts, not one str; use predict(text)")
        listed = list(texts)
        predictions: list[Prediction] = []
        with tqdm(total=len(listed), unit="text", disable=not progress) as bar:
            for start in range(0, len(listed), _TEXTS_AT_ONCE):
                part = listed[start : start + _TEXTS_AT_ONCE]
                try:
                    predictions += self._predict(part, options, Timings(), None, several=True)
                except TextError as error:
                    raise error.at(start + (error.index or 0)) from None
                bar.update(len(part))
        return predictions

    def predict_timed(
        self, texts: Sequence[str], options: CallOptions, cancellation: Cancellation | None = None
    ) -> tuple[list[Prediction], Timings]:
        """Return the predictions for `texts` and where the time went; for a server that reports it.

        Errors as `predict_batch`, and WaitError when `cancellation` ended before all was run.
        """
        checked = self._checked(options)
        timings = Timings()
        return self._predict(texts, checked, timings, cancellation, several=True), timings

    def explain(
        self, text: str, *, label: str | None = None, truncation: str | None = None, max_parts: int | None = None
    ) -> Explanation:
        """Return what each word of `text` contributes to `label`, by default the best one, by leaving words out.

        Of a text of more than max_parts words, those that say least go together. By default a text of up to 20 words
        is divided into them, a longer one into at most 9 parts: about as much work as twelve predictions of the text;
        each further part costs about one. Errors as `predict`.
        """
        return self.explain_timed(text, ExplainOptions(label, truncation, max_parts))[0]

    def explain_timed(
        self, text: str, options: ExplainOptions, cancellation: Cancellation | None = None
    ) -> tuple[Explanation, Timings]:
        """Return what `explain` does and where the time went; for a server that reports it. Errors as `answer`."""
        checked = check_explain_options(options, self.labels)
        timings = Timings()
        encodings = self._encode(text, checked, timings, spans=True)

        def run(encodings: Sequence[Encoding]) -> list[NDArray[np.float32]]:
            answer = self.batcher.run(encodings, cancellation)
            timings.queue_s += answer.queue_s
            timings.infer_s += answer.infer_s
            return answer.rows

        runs = Runs(run)

        def scores_of(per_text: Sequence[Encodings]) -> list[NDArray[np.float64]]:
            return [
                self._scores(self._pooled(rows, one)) for rows, one in zip(runs.rows(per_text), per_text, strict=True)
            ]

        prediction = self._score(runs.rows([encodings])[0], encodings, checked)
        label = options.label or prediction.label
        parts = occlude(text, encodings, scores_of, self.labels.index(label), options.max_parts)
        score = prediction.scores[label]
        return Explanation(prediction, label, score, tuple(parts), runs.count, runs.tokens), timings

    def logits(self, text: str, *, truncation: str | None = None) -> NDArray[np.float32]:
        """Return the model's raw output for one text, float32 of shape [labels]."""
        options = self._checked(CallOptions(truncation=truncation))
        encodings = self._encode(text, options, Timings())
        return self._pooled(self.batcher.run(encodings).rows, encodings)

    def _checked(self, options: CallOptions) -> CallOptions:
        return check_options(options, self.labels, self.thresholds)

    def _predict(
        self,
        texts: Sequence[str],
        options: CallOptions,
        timings: Timings,
        cancellation: Cancellation | None,
        *,
        several: bool = False,
    ) -> list[Prediction]:
        """Encode, run and score `texts`; a TextError carries the index of its text when there are `several`."""
        per_text: list[tuple[Encoding, ...]] = []
        for index, text in enumerate(texts):
            try:
                per_text.append(self._encode(text, options, timings))
            except TextError as error:
                if several:
                    raise error.at(index) from None
                raise
        answer = self.batcher.run([encoding for encodings in per_text for encoding in encodings], cancellation)
        timings.queue_s += answer.queue_s
        timings.infer_s += answer.infer_s
        rows = iter(answer.rows)
        return [self._score(list(islice(rows, len(encodings))), encodings, options) for encodings in per_text]

    def _score(
        self, rows: Sequence[NDArray[np.float32]], encodings: Sequence[Encoding], options: CallOptions
    ) -> Prediction:
        logits = self._pooled(rows, encodings)
        scores = self._scores(logits)
        thresholds = self.thresholds
        if thresholds is not None and isinstance(options.threshold, Mapping):
            thresholds = dict(options.threshold)
        windows = len(encodings) if self._truncation(options) == WINDOWS else None
        choice = Choice(thresholds, self.abstain_threshold, options.top_k)
        read = TokenCounts(encodings[0].num_tokens, encodings[0].truncated, windows)
        prediction = to_prediction(scores, self.labels, choice, read)
        if options.activation is None:
            return prediction
        values = activated(logits, options.activation, self.labels, self.calibration)
        if not all(map(isfinite, values.values())):
            raise RunError(f"the model gave logits that are not finite: {logits.tolist()}")
        return replace(prediction, activated=values)

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = activate(logits, self.problem_type, self.calibration)
        if not np.isfinite(scores).all():
            raise RunError(f"the model gave logits that are not finite: {logits.tolist()}")
        return scores

    def _pooled(self, rows: Sequence[NDArray[np.float32]], encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        return pool(rows, [window.own_tokens for window in encodings], self.bundle.windows.pooling)

    def _truncation(self, options: CallOptions) -> str:
        return options.truncation or self.bundle.truncation

    def _encode(
        self, text: str, options: CallOptions, timings: Timings, *, spans: bool = False
    ) -> tuple[Encoding, ...]:
        started = time.perf_counter()
        encodings = self._encoder.encode(text, self._truncation(options), spans=spans)
        timings.tokenize_s += time.perf_counter() - started
        return encodings
