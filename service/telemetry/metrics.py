"""Prometheus metrics, by the names of docs/run.md.

With several workers prometheus_client keeps the values in files that all workers share, in a folder that
gunicorn_config.py names; the worker that gets GET /metrics adds them up.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from inferer.batching import Batcher
from inferer.options import Timings
from inferer.scoring import Prediction
from service.process.log_stream import LogStream
from service.request import RequestRecord

# prometheus_client reads this variable.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

_REASONS = ("overloaded", "deadline", "caller_gone", "slow_sender", "slow_reader", "address")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """The metrics of one application; thread-safe."""

    def __init__(self, labels: Iterable[str], facts: Mapping[str, str]) -> None:
        """Create all series. labels: the model's. facts: the labels of inferer_model_info."""
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry)
        self._requests = counter("inferer_requests", "Requests by route and status", ("route", "status"))
        self._durations = histogram(
            "inferer_request_duration_seconds", "Time from arrival to reply", ("route",), buckets=_SECONDS
        )
        stages = histogram("inferer_stage_duration_seconds", "Time per stage", ("stage",), buckets=_SECONDS)
        self._stages = {stage: stages.labels(stage) for stage in ("tokenize", "queue", "infer")}
        self.in_flight = gauge("inferer_in_flight_requests", "Requests in flight", multiprocess_mode="livesum")
        self.queue_size = gauge("inferer_queue_size", "Texts waiting for a model run", multiprocess_mode="livesum")
        rejected = counter("inferer_rejected", "Requests refused for load", ("reason",))
        self._rejected = {reason: rejected.labels(reason) for reason in _REASONS}
        cached = counter("inferer_cache_texts", "Texts answered from the cache or by the model", ("outcome",))
        self._cached = {outcome: cached.labels(outcome) for outcome in ("hit", "miss")}
        self.cache_bytes = gauge("inferer_cache_bytes", "Memory of the cached answers", multiprocess_mode="livesum")
        self._batch_size = histogram("inferer_batch_size", "Texts per model run", buckets=_POWERS)
        self._tokens = histogram("inferer_input_tokens", "Tokens per text before truncation", buckets=_POWERS)
        self._truncated = counter("inferer_truncated", "Truncated texts")
        self._abstained = counter("inferer_abstained", "Texts whose best score was too low for a label")
        predictions = counter("inferer_predictions", "Predictions by label", ("label",))
        self._predictions = {label: predictions.labels(label) for label in labels}
        self._confidence = histogram("inferer_confidence", "Score of the best label", buckets=_SCORES)
        dropped = counter("inferer_log_lines_dropped", "Lines of the log dropped because nothing read them")
        if isinstance(sys.stderr, LogStream):
            sys.stderr.on_drop = dropped.inc
        info = gauge("inferer_model_info", "Facts about the model", tuple(facts), multiprocess_mode="livemax")
        info.labels(**facts).set(1)
        if MULTIPROCESS_FOLDER not in os.environ:
            ProcessCollector(registry=self._registry)

    def count_request(self, record: RequestRecord, seconds: float) -> None:
        """Count one request with its reply."""
        self._requests.labels(record.route, str(record.status)).inc()
        exemplar = {"trace_id": record.trace.id} if record.trace is not None and record.trace.is_sampled else None
        self._durations.labels(record.route).observe(seconds, exemplar)
        if record.rejected is not None:
            self._rejected[record.rejected].inc()

    def count_rejection(self, reason: str) -> None:
        """Count a connection that was closed for a reason of `_REASONS`."""
        self._rejected[reason].inc()

    def watch(self, batcher: Batcher) -> None:
        """Count the runs of `batcher` and follow the length of its queue."""
        several = MULTIPROCESS_FOLDER in os.environ
        lock = threading.Lock()  # or a late thread could set an outdated number

        def on_run(texts: int, _tokens: int) -> None:
            self._batch_size.observe(texts)
            if several:  # another worker may get GET /metrics
                with lock:
                    self.queue_size.set(batcher.waiting)

        batcher.on_run = on_run
        if not several:
            self.queue_size.set_function(lambda: batcher.waiting)

    def count_cached(self, known: int, texts: int) -> None:
        """Count one request's texts: those that the cache answered, and the others."""
        self._cached["hit"].inc(known)
        self._cached["miss"].inc(texts - known)

    def count_timings(self, timings: Timings) -> None:
        """Count the stages of one request."""
        for stage, histogram in self._stages.items():
            histogram.observe(getattr(timings, f"{stage}_s"))

    def count_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count the predictions of one request."""
        for prediction in predictions:
            self._tokens.observe(prediction.num_tokens)
            self._confidence.observe(prediction.score)
            for label in prediction.labels:
                self._predictions[label].inc()
            if prediction.truncated:
                self._truncated.inc()
            if prediction.abstained:
                self._abstained.inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that the `Accept` header prefers, and its content type."""
        registry = self._registry
        if MULTIPROCESS_FOLDER in os.environ:
            registry = CollectorRegistry()
            registry.register(_AllWorkers())
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type


class _AllWorkers(MultiProcessCollector):
    """The sum over the files of all workers.

    A worker that has just started, or was killed then, leaves a file of 0 bytes, on which the library fails.
    """

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        found = []
        for file in Path(os.environ[MULTIPROCESS_FOLDER]).glob("*.db"):
            with contextlib.suppress(FileNotFoundError):  # of a worker that has just ended
                if file.stat().st_size > 0:
                    found.append(str(file))
        merged: Iterable[Metric] = self.merge(found)  # type: ignore[no-untyped-call]
        return merged
