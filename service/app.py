"""Put the application together: settings, model, routes, errors."""

from __future__ import annotations

import os

from flask import Flask, Request, request

from inferer import __version__
from inferer.errors import InfererError
from inferer.model import ModelInferer
from inferer.session import VERSION as ORT_VERSION
from service import auth, errors
from service.contracts import explain, hugging_face, kserve_v1, open_inference, own, sagemaker, text_embeddings
from service.metrics import Metrics
from service.middleware import Middleware
from service.process.startup import cannot_start
from service.request import UNMATCHED, record_of
from service.settings import Settings, SettingsError, from_env
from service.state import State, install
from service.views import health, info, metrics, openapi, page

_ROUTES = (own, hugging_face, open_inference, kserve_v1, sagemaker, explain, health, info, metrics, openapi, page)
# The contracts of one path, told by their keys; of two that fit a body the first counts.
_SHARING = (own.CONTRACT, kserve_v1.CONTRACT, hugging_face.CONTRACT, text_embeddings.CONTRACT)


def load_model(settings: Settings) -> ModelInferer:
    """Return the model of `settings`, loaded, checked and warmed up; raises InfererError."""
    return ModelInferer(
        settings.bundle,
        intra_op_threads=settings.ort_threads,
        cache_dir=settings.cache_dir,
        spinning=settings.worker_count == 1,
        golden_check=settings.golden_check,
        batching=settings.batching,
        max_batch_tokens=settings.max_batch_tokens,
    )


def build(settings: Settings | None, inferer: ModelInferer | None) -> Flask:
    """Return the application; see `service.create_app`."""
    settings = settings or from_env(os.environ)
    inferer = inferer or load_model(settings)
    app = Flask("inferer", static_folder=None)
    app.url_map.merge_slashes = False  # a path is a route or it is not; no redirects
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    state = State(settings, inferer, Metrics(inferer.labels, _facts(settings, inferer)))
    state.metrics.watch(inferer.batcher)
    install(app, state)
    app.before_request(_begin)
    auth.register(app, settings.api_keys)
    errors.register(app)
    kserve_v1.add_vertex_paths(app, settings)
    for module in _ROUTES:
        app.register_blueprint(module.blueprint)
    state.contracts = _SHARING
    # Of two rules for a path the first one counts, as it does for Flask.
    rules = reversed(list(app.url_map.iter_rules()))
    state.routes = {_path_of(rule.rule, settings.name): rule.rule for rule in rules}
    app.wsgi_app = Middleware(app.wsgi_app, state)  # type: ignore[method-assign]  # Flask's own way to wrap it
    return app


def app_or_exit() -> Flask:
    """Return the application of the environment, or end this worker with one line and exit code 3."""
    try:
        return build(None, None)
    except (InfererError, SettingsError) as error:
        cannot_start(error)


def _begin() -> None:
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # each use of `request` itself costs
    record_of(asked.environ).route = UNMATCHED if asked.url_rule is None else asked.url_rule.rule


def _path_of(rule: str, name: str) -> str:
    """Return the path of a rule for the model of this name, in the letters that WSGI has for its bytes."""
    path = rule.replace("<name>", name).replace("<version>", open_inference.VERSION)
    return path.encode().decode("latin-1")


def _facts(settings: Settings, inferer: ModelInferer) -> dict[str, str]:
    return {
        "model": settings.name,
        "scheme": inferer.scheme,
        "problem_type": inferer.problem_type,
        "bundle": str(inferer.bundle.manifest.get("manifest_sha256", ""))[:12],
        "version": __version__,
        "onnxruntime": ORT_VERSION,
    }
