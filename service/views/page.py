"""`GET /` in a browser: a page to try the model with; `GET /docs`: the API to read. Their files lie in service/page."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, request

from inferer.errors import shown
from service.errors import ServiceError
from service.json_body import JSON, json_response
from service.openapi.view_metadata import ALWAYS, HTML, ViewMetadata

blueprint = Blueprint("page", __name__)

_FOLDER = Path(__file__).resolve().parents[1] / "page"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.suffix in _TYPES}
# Its own files and its own questions, nothing of any other host, nothing inline.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_LINKS = {name: f"/{name}" for name in ("predict", "docs", "openapi.json", "info", "health", "metrics")}


@blueprint.get("/")
@ViewMetadata(
    "Operations", {HTML: None, JSON: dict[str, str]}, open=True, headers=("Vary",), reply_to=lambda _, __: _LINKS
)
def page() -> Response:
    """Answer with the page, or with where everything is for whoever does not ask for HTML."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = _file("index.html")
    else:
        response = json_response(_LINKS)
    response.vary.add("Accept")
    return response


@blueprint.get("/docs")
@ViewMetadata("Operations", {HTML: None}, open=True)
def docs() -> Response:
    """Answer with the page that shows /openapi.json."""
    return _file("docs.html")


@blueprint.get("/page/<file>")
@ViewMetadata(
    "Operations",
    dict.fromkeys(_TYPES.values()),
    errors=(*ALWAYS, "NotFound"),
    open=True,
    parameters={"file": tuple(_FILES)},
    listed=False,
)
def page_file(file: str) -> Response:
    """Answer with a file of these pages."""
    return _file(file)


def _file(name: str) -> Response:
    if name not in _FILES:
        raise ServiceError("NotFound", f"no file {shown(name)} here; the files are {', '.join(_FILES)}")
    response = Response(_FILES[name], mimetype=_TYPES[Path(name).suffix])
    response.headers["Content-Security-Policy"] = _POLICY
    return response
