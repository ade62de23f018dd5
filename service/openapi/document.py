"""The OpenAPI 3.1 document of a deployment, made from its views' metadata, docstrings and msgspec types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Flask
from werkzeug.routing import Rule

from inferer import __version__
from service.contracts import own
from service.contracts.base import Contract
from service.errors import STATUS
from service.json_body import JSON, encode
from service.openapi import texts
from service.openapi.schemas import Schema, Schemas
from service.openapi.view_metadata import ViewMetadata, metadata_of
from service.state import State, state_of

VERSION = "3.1.1"
_METHODS = ("GET", "POST")
_FIRST_TAGS = (own.CONTRACT.name, "Operations")


class Error(msgspec.Struct):
    """The body of every error."""

    error: str
    error_type: str
    request_id: str


@dataclass(frozen=True, slots=True)
class _Operation:
    """One method of one rule, and its view."""

    rule: Rule
    method: str
    view: Callable[..., Any]
    metadata: ViewMetadata


def document(app: Flask) -> bytes:
    """Return the document of `app` as JSON."""
    state = state_of(app)
    operations = _operations(app)
    schemas = Schemas(state)
    paths: dict[str, dict[str, Any]] = {}
    ids: list[str] = []
    for one in operations:
        path = re.sub("<([a-z]+)>", r"{\1}", one.rule.rule)
        ids.append(re.sub("[^a-z0-9]+", "_", f"{one.method}{path.lower()}").strip("_"))
        same = ids.count(ids[-1])
        named = {"operationId": ids[-1] if same == 1 else f"{ids[-1]}__{same}"}
        paths.setdefault(path, {})[one.method] = named | _operation(one, schemas, state)
    keyed = bool(state.settings.api_keys)
    return encode(
        {
            "openapi": VERSION,
            "info": {
                "title": f"{state.settings.name}: text classification",
                "version": __version__,
                "description": texts.ABOUT + (texts.ABOUT_KEYS if keyed else ""),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": [{"name": name} for name in dict.fromkeys(one.metadata.tag for one in operations)],
            "paths": paths,
            "components": {
                "schemas": schemas.components,
                "headers": {name: _header(name) for name in texts.HEADERS},
                **({"securitySchemes": texts.SECURITY_SCHEMES} if keyed else {}),
            },
            **({"security": [{name: []} for name in texts.SECURITY_SCHEMES]} if keyed else {}),
        }
    )


def _operations(app: Flask) -> list[_Operation]:
    """Return the listed operations in the order of registration: the native API, operations, then other contracts."""
    found: dict[tuple[str, str], _Operation] = {}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        metadata = metadata_of(view)
        for method in _METHODS:
            if metadata.listed and method in (rule.methods or ()):  # of two rules for a path Flask takes the first
                found.setdefault((rule.rule, method), _Operation(rule, method.lower(), view, metadata))
    tags = list(dict.fromkeys([*_FIRST_TAGS, *(one.metadata.tag for one in found.values())]))
    return sorted(found.values(), key=lambda one: tags.index(one.metadata.tag))


def _operation(one: _Operation, schemas: Schemas, state: State) -> Schema:
    summary, _, description = (inspect.getdoc(one.view) or "").partition("\n")
    bodies = _bodies(one.metadata, schemas)
    operation: Schema = {
        "tags": [one.metadata.tag],
        "summary": summary,
        "description": description.strip(),
        "parameters": [*_path_parameters(one, state), *(texts.PARAMETERS if bodies else ())],
        "requestBody": {"required": True, "content": bodies} if bodies else None,
        "responses": _responses(one.metadata, schemas, state),
    }
    if one.metadata.open and state.settings.api_keys:
        operation["security"] = []
    return {name: value for name, value in operation.items() if value or name in ("responses", "security")}


def _path_parameters(one: _Operation, state: State) -> list[Schema]:
    allowed = {"name": state.settings.name, **one.metadata.parameters}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": _listed(allowed[name])}}
        for name in sorted(one.rule.arguments, key=one.rule.rule.index)
    ]


def _listed(allowed: str | Sequence[str]) -> list[str]:
    return [allowed] if isinstance(allowed, str) else list(allowed)


def _bodies(metadata: ViewMetadata, schemas: Schemas) -> dict[str, Schema]:
    """Return schema and examples by content type."""
    if metadata.body is not None:
        return {JSON: {"schema": schemas.of(metadata.body), "examples": _examples(metadata.examples)}}
    by_type: dict[str, list[Contract]] = {}
    for contract in metadata.contracts:
        by_type.setdefault(contract.content_type, []).append(contract)
    return {
        content_type: {"schema": schemas.of_bodies(contracts), "examples": _examples(_titled(contracts))}
        for content_type, contracts in by_type.items()
    }


def _titled(contracts: Sequence[Contract]) -> dict[str, object]:
    """Return the examples of all `contracts` by title, the wrong ones last."""
    groups = [(one, one.examples) for one in contracts] + [(one, one.wrong_examples) for one in contracts]
    return {
        title if len(contracts) == 1 else f"{contract.name}: {title}": body
        for contract, examples in groups
        for title, body in examples.items()
    }


def _examples(bodies: Mapping[str, object]) -> Schema:
    return {title: {"value": body} for title, body in bodies.items()}


def _responses(metadata: ViewMetadata, schemas: Schemas, state: State) -> Schema:
    by_status: dict[int, list[str]] = {}
    keys = ("Unauthorized",) if state.settings.api_keys and not metadata.open else ()
    for error_type in dict.fromkeys((*metadata.errors, *keys)):
        by_status.setdefault(STATUS[error_type], []).append(error_type)
    responses: Schema = {
        "200": {
            "description": "success",
            "headers": _headers(200, metadata.headers, state),
            "content": {
                content_type: {} if reply is None else {"schema": schemas.of(reply)}
                for content_type, reply in metadata.replies.items()
            },
        }
    }
    for status, types in sorted(by_status.items()):
        schema = {"allOf": [schemas.of(Error), {"properties": {"error_type": {"enum": types}}}]}
        responses[str(status)] = {
            "description": "; ".join(f"{error_type}: {texts.ERRORS[error_type]}" for error_type in types),
            "headers": _headers(status, (), state),
            "content": {JSON: {"schema": schema}},
        }
    return responses


def _headers(status: int, more: Sequence[str], state: State) -> Schema:
    cors = texts.CORS_HEADERS if state.settings.cors_origins else ()
    names = (*texts.HEADERS_OF_EVERY_REPLY, *more, *cors, *texts.HEADERS_OF_STATUS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str) -> Schema:
    description, schema = texts.HEADERS[name]
    return {"description": description, "required": name not in texts.OPTIONAL_HEADERS, "schema": schema}
