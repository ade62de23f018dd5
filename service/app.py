"""The application factory: settings, model, routes, errors."""

from __future__ import annotations

import os

from flask import Flask, Request, request

from inferer import __version__
from inferer.errors import InfererError
from inferer.model import ModelInferer
from inferer.session import VERSION as ORT_VERSION
from service.auth import require_keys
from service.contracts.open_inference import VERSION
from service.errors import register_handlers
from service.middleware import Middleware
from service.process.startup import exit_cannot_start
from service.request import UNMATCHED, record_of
from service.settings import Settings, SettingsError, from_env
from service.state import State
from service.telemetry.metrics import Metrics
from service.views import explain, guardrails, health, info, kserve, page, predict, rank

# /openapi.json lists the routes in this order.
_VIEWS = (predict, explain, health, info, page, kserve, rank, guardrails)


def load_model(settings: Settings) -> ModelInferer:
    """Return the model of `settings`, loaded, checked and warmed up; raises InfererError."""
    return ModelInferer(
        settings.bundle,
        intra_op_threads=settings.intra_op_threads or None,
        parallel_runs=settings.runs_at_once,
        cpus=settings.cpus_per_worker,
        cache_dir=settings.cache_dir,
        spinning=settings.worker_count == 1,
        golden_check=settings.golden_check,
        batching=settings.batching,
        max_batch_tokens=settings.max_batch_tokens,
    )


def create_app(settings: Settings | None = None, inferer: ModelInferer | None = None) -> Flask:
    """Return the application; raises SettingsError or InfererError.

    settings: by default from the environment. inferer: by default the model of `settings.bundle`, loaded here.
    """
    settings = settings or from_env(os.environ)
    inferer = inferer or load_model(settings)
    if unknown := [label for label in settings.blocked_labels if label not in inferer.labels]:
        expected = f"expected some of {', '.join(inferer.labels)}"
        raise SettingsError(f"INFERER_BLOCKED_LABELS: the model has no label {unknown[0]!r}; {expected}")
    app = Flask("inferer", static_folder=None)
    app.url_map.merge_slashes = False  # an unknown path is a 404, not a redirect
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    facts = {
        "model": settings.name,
        "scheme": inferer.scheme,
        "problem_type": inferer.problem_type,
        "bundle": str(inferer.bundle.manifest.get("manifest_sha256", ""))[:12],
        "version": __version__,
        "onnxruntime": ORT_VERSION,
    }
    state = State(settings, inferer, Metrics(inferer.labels, facts))
    if settings.tracing:
        from service.telemetry.spans import Tracer

        state.tracer = Tracer(settings.name)
    state.metrics.watch(inferer.batcher)
    app.extensions["inferer"] = state
    app.before_request(_note_route)
    require_keys(app, state.keys)
    register_handlers(app)
    predict.add_vertex_paths(app, settings)
    for module in _VIEWS:
        app.register_blueprint(module.blueprint)
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<name>", settings.name).replace("<version>", VERSION)
        state.routes.setdefault(path.encode().decode("latin-1"), rule.rule)  # WSGI's form; the first rule counts
    app.wsgi_app = Middleware(app.wsgi_app, state)  # type: ignore[method-assign]  # the documented way
    return app


def app_or_exit() -> Flask:
    """Return the application for the environment's settings, or exit with code 3 and one line."""
    try:
        return create_app()
    except (InfererError, SettingsError) as error:
        exit_cannot_start(error)


def _note_route() -> None:
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of the proxy costs time
    record_of(current.environ).route = UNMATCHED if current.url_rule is None else current.url_rule.rule
