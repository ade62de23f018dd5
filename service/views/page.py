"""The pages for browsers: `GET /` to try the model, `GET /docs` with Swagger UI, and their files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.http import generate_etag

from inferer.errors import shown
from service.errors import ServiceError
from service.json_body import JSON, json_response
from service.openapi.view_metadata import ViewMetadata

blueprint = Blueprint("page", __name__)

_FOLDER = Path(__file__).resolve().parents[1] / "page"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SWAGGER_UI = files("flask_swagger_ui") / "dist"
_FILES = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.suffix in _TYPES} | {
    name: (_SWAGGER_UI / name).read_bytes() for name in ("swagger-ui-bundle.js", "swagger-ui.css")
}
_ETAGS = {name: generate_etag(content) for name, content in _FILES.items()}
# Files and requests of this host only; no inline code.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_LINKS = {name: f"/{name}" for name in ("predict", "docs", "openapi.json", "info", "health", "metrics")}


@blueprint.get("/")
@ViewMetadata("Operations", {"text/html": None, JSON: dict[str, str]}, open=True, headers=("Vary",))
def page() -> Response:
    """Return the page to try the model, or the main paths as JSON if the client does not prefer HTML."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = _file("index.html")
    else:
        response = json_response(_LINKS)
    response.vary.add("Accept")
    return response


@blueprint.get("/docs")
@ViewMetadata("Operations", {"text/html": None}, open=True)
def docs() -> Response:
    """Return the page that shows /openapi.json in Swagger UI."""
    response = _file("docs.html")
    # The stylesheet of Swagger UI has its icons in data URLs.
    response.headers["Content-Security-Policy"] = _POLICY.replace("img-src 'self'", "img-src 'self' data:")
    return response


@blueprint.get("/page/<file>")
@ViewMetadata("Operations", {}, open=True, listed=False)
def page_file(file: str) -> Response:
    """Return a file of these pages; 304 if the browser has it already."""
    response = _file(file)
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(_ETAGS[file])
    response.make_conditional(request)
    return response


def _file(name: str) -> Response:
    if name not in _FILES:
        raise ServiceError("NotFound", f"no file {shown(name)} here; the files are {', '.join(_FILES)}")
    response = Response(_FILES[name], mimetype=_TYPES[Path(name).suffix])
    response.headers["Content-Security-Policy"] = _POLICY
    return response
