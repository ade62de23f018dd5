"""Put the application together: settings, model, routes, errors."""

from __future__ import annotations

import os
import time
from urllib.parse import quote

from flask import Flask, Response, g, request

from inferer.errors import InfererError
from inferer.model import ModelInferer
from service import auth, errors
from service.request_id import HEADER, current_request_id
from service.routes import health, info, predict
from service.settings import Settings, SettingsError, from_env
from service.start import cannot_start
from service.state import State, install


def build(settings: Settings | None, inferer: ModelInferer | None) -> Flask:
    """Return the application; see `service.create_app`."""
    settings = settings or from_env(os.environ)
    inferer = inferer or ModelInferer(
        settings.bundle,
        intra_op_threads=settings.ort_threads,
        cache_dir=settings.cache_dir,
        spinning=settings.worker_count == 1,
        golden_check=settings.golden_check,
    )
    app = Flask("inferer", static_folder=None)
    app.url_map.merge_slashes = False  # a path is a route or it is not; no redirects
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    install(app, State(settings, inferer))
    app.before_request(_begin)
    auth.register(app)
    errors.register(app)
    app.after_request(_add_headers)
    for module in (predict, health, info):
        app.register_blueprint(module.blueprint)
    return app


def app_or_exit() -> Flask:
    """Return the application of the environment, or end this worker with one line and exit code 3."""
    try:
        return build(None, None)
    except (InfererError, SettingsError) as error:
        cannot_start(error)


def _begin() -> None:
    g.started = time.perf_counter()
    # For the access log: the decoded path could hold a line break, and so forge a line.
    request.environ["inferer.path"] = quote(request.path)


def _add_headers(response: Response) -> Response:
    response.headers[HEADER] = current_request_id()
    return response
