"""What Prometheus is told, by the names of docs/run.md; one object an application.

With several workers prometheus_client keeps the values in files that all workers share (gunicorn.conf.py names the
folder before they start), and whoever is asked adds them up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from inferer.batching import Batcher
from inferer.options import Timings
from inferer.scoring import Prediction

# prometheus_client's own name for it.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nothing reads

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_REASONS = ("overloaded", "deadline", "caller_gone")

NAMES = frozenset(
    (
        "inferer_requests_total",
        "inferer_request_duration_seconds",
        "inferer_stage_duration_seconds",
        "inferer_in_flight_requests",
        "inferer_queue_size",
        "inferer_rejected_total",
        "inferer_batch_size",
        "inferer_input_tokens",
        "inferer_truncated_total",
        "inferer_abstained_total",
        "inferer_predictions_total",
        "inferer_confidence",
        "inferer_model_info",
    )
)


class Metrics:
    """The counters of one application; safe to use from many threads."""

    def __init__(self, labels: Iterable[str], facts: Mapping[str, str]) -> None:
        """Make them; labels: the model's, so that each is there from the start. facts: what is served."""
        own = CollectorRegistry()
        self._own = own
        self._requests = Counter("inferer_requests", "Requests answered", ("route", "status"), registry=own)
        self._durations = Histogram(
            "inferer_request_duration_seconds", "From arrival to answer", ("route",), buckets=_SECONDS, registry=own
        )
        stages = Histogram(
            "inferer_stage_duration_seconds", "Stages of a request", ("stage",), buckets=_SECONDS, registry=own
        )
        self._stages = {stage: stages.labels(stage) for stage in ("tokenize", "queue", "infer")}
        self.in_flight = Gauge(
            "inferer_in_flight_requests", "Requests that hold a place", registry=own, multiprocess_mode="livesum"
        )
        self.queue_size = Gauge(
            "inferer_queue_size", "Texts that wait for a run", registry=own, multiprocess_mode="livesum"
        )
        rejected = Counter("inferer_rejected", "Requests refused for load", ("reason",), registry=own)
        self._rejected = {reason: rejected.labels(reason) for reason in _REASONS}
        self._batch_size = Histogram("inferer_batch_size", "Texts a model run", buckets=_POWERS, registry=own)
        self._tokens = Histogram("inferer_input_tokens", "Tokens a text, before any cut", buckets=_POWERS, registry=own)
        self._truncated = Counter("inferer_truncated", "Texts of which some went unread", registry=own)
        self._abstained = Counter("inferer_abstained", "Texts that got no label for a low score", registry=own)
        predictions = Counter("inferer_predictions", "Answers by label", ("label",), registry=own)
        self._predictions = {label: predictions.labels(label) for label in labels}
        self._confidence = Histogram("inferer_confidence", "Score of the best label", buckets=_SCORES, registry=own)
        Gauge("inferer_model_info", "What is served", tuple(facts), registry=own, multiprocess_mode="livemax").labels(
            **facts
        ).set(1)
        if MULTIPROCESS_FOLDER not in os.environ:
            ProcessCollector(registry=own)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def count_rejected(self, reason: str) -> None:
        """Count a request that load kept from being answered: overloaded, deadline or caller_gone."""
        self._rejected[reason].inc()

    def watch(self, batcher: Batcher) -> None:
        """Take what `batcher` tells of its runs and its queue."""
        several = MULTIPROCESS_FOLDER in os.environ
        in_turn = threading.Lock()  # or a thread that was passed would leave an old number

        def on_run(texts: int, _tokens: int) -> None:
            self._batch_size.observe(texts)
            if several:  # another worker may be the one that is asked
                with in_turn:
                    self.queue_size.set(batcher.waiting)

        batcher.on_run = on_run
        if not several:
            self.queue_size.set_function(lambda: batcher.waiting)

    def count_timings(self, timings: Timings) -> None:
        """Count where the time of one request went."""
        self._stages["tokenize"].observe(timings.tokenize_s)
        self._stages["queue"].observe(timings.queue_s)
        self._stages["infer"].observe(timings.infer_s)

    def count_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count the answers to one request."""
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
        """Return all of it in the format that the `Accept` header asks for, and that format's content type."""
        registry = self._own
        if MULTIPROCESS_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
