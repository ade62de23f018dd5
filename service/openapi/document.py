"""The description of a deployment as OpenAPI 3.1, made from its views, the types that parse, and its model.

The replies in the examples are what the model answers.
"""

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
from inferer.errors import RunError
from service.contracts.base import Example
from service.errors import STATUS, ServiceError, error_body
from service.json_body import JSON, encode
from service.openapi import texts as wording
from service.openapi.schemas import Schema, Schemas
from service.openapi.view_metadata import ViewMetadata, metadata_of
from service.state import State, state_of

VERSION = "3.1.1"
_METHODS = ("GET", "POST")


class Error(msgspec.Struct):
    """Every error."""

    error: str
    error_type: str
    request_id: str


@dataclass(frozen=True, slots=True)
class _Operation:
    """One method of one rule, and its view."""

    rule: Rule
    method: str
    view: Callable[..., Any]
    described: ViewMetadata


def _operations(app: Flask) -> list[_Operation]:
    """Return every operation: by what it belongs to, requests with a body first, short paths first."""
    found: dict[tuple[str, str], _Operation] = {}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if not metadata_of(view).listed:
            continue
        for method in _METHODS:
            if method in (rule.methods or ()):  # of two rules for a path Flask takes the first
                found.setdefault((rule.rule, method), _Operation(rule, method.lower(), view, metadata_of(view)))
    tags = list(dict.fromkeys(one.described.tag for one in found.values()))
    return sorted(
        found.values(),
        key=lambda one: (tags.index(one.described.tag), one.method != "post", len(one.rule.rule), one.rule.rule),
    )


def document(app: Flask) -> bytes:
    """Return the description of `app` as JSON; raises ServiceError or RunError when the model fails at its examples."""
    state = state_of(app)
    operations = _operations(app)
    kinds = [kind for one in operations for kind in (*one.described.bodies.values(), *one.described.replies.values())]
    shared = [kind for contract in state.contracts for kind in (contract.body, contract.reply)]
    schemas = Schemas([Error, *filter(None, kinds), *shared], state)
    paths: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    for one in operations:
        path = re.sub("<([a-z]+)>", r"{\1}", one.rule.rule)
        name = re.sub("[^a-z0-9]+", "_", f"{one.method}{path.lower()}").strip("_")
        names.append(name)
        same = names.count(name)
        named = {"operationId": name if same == 1 else f"{name}__{same}"}
        paths.setdefault(path, {})[one.method] = named | _operation(one, schemas, state)
    keyed = bool(state.settings.api_keys)
    return encode(
        {
            "openapi": VERSION,
            "info": {
                "title": f"{state.settings.name}: text classification",
                "version": __version__,
                "description": wording.ABOUT + (wording.ABOUT_KEYS if keyed else ""),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": [{"name": name} for name in dict.fromkeys(one.described.tag for one in operations)],
            "paths": paths,
            "components": {
                "schemas": schemas.components,
                "headers": {name: _header(name) for name in wording.DESCRIBED},
                **({"securitySchemes": wording.KEYS} if keyed else {}),
            },
            **({"security": [{name: []} for name in wording.KEYS]} if keyed else {}),
        }
    )


def _operation(one: _Operation, schemas: Schemas, state: State) -> Schema:
    summary, _, description = (inspect.getdoc(one.view) or "").partition("\n")
    content, replies = _examples(one.described, state)
    operation: Schema = {
        "tags": [one.described.tag],
        "summary": summary,
        "description": description.strip(),
        "parameters": _parameters(one, state),
        "responses": _responses(one.described, replies, schemas, state),
    }
    if one.described.bodies:
        bodies = {kind: {"schema": schemas.of(body)} for kind, body in one.described.bodies.items()}
        if one.described.several:
            bodies[JSON]["schema"] = schemas.of_any(state.contracts)
        for kind, examples in content.items():
            bodies[kind]["examples"] = {name: {"value": example.body} for name, example in examples.items()}
        operation["requestBody"] = {"required": True, "content": bodies}
    if one.described.open and state.settings.api_keys:
        operation["security"] = []
    return {name: value for name, value in operation.items() if value or name in ("responses", "security")}


_Replies = Mapping[int, Mapping[str, Any]]


def _examples(described: ViewMetadata, state: State) -> tuple[Mapping[str, Mapping[str, Example]], _Replies]:
    """Return examples by the content type of their bodies and by name, and their replies by status and name."""
    if described.reply_to is None:
        return {}, {}
    examples = dict(described.examples) or {"": Example()}
    if described.several:
        examples |= {
            f"{contract.name}: {name}": example
            for contract in state.contracts
            if contract.keys != described.keys
            for name, example in contract.examples.items()
        }
    content: dict[str, dict[str, Example]] = {}
    replies: dict[int, dict[str, Any]] = {}
    for name, example in examples.items():
        try:
            status, reply = 200, encode(described.reply_to(example, state))
        except ServiceError as error:
            if isinstance(error.__cause__, RunError):  # that is no answer to describe
                raise
            status = STATUS[error.error_type]
            reply = error_body(error.error_type, error.message, wording.A_REQUEST_ID)
        replies.setdefault(status, {})[name or "this one's"] = msgspec.json.decode(reply)
        if name:
            content.setdefault(example.content_type, {})[name] = example
    return content, replies


def _responses(described: ViewMetadata, replies: _Replies, schemas: Schemas, state: State) -> Schema:
    by_status: dict[int, list[str]] = {}
    keys = ("Unauthorized",) if state.settings.api_keys and not described.open else ()
    others = state.contracts if described.several else ()
    errors = (*described.errors, *(own for contract in others for own in contract.errors.values()), *keys)
    for error_type in dict.fromkeys(errors):
        by_status.setdefault(STATUS[error_type], []).append(error_type)
    good = {kind: {"schema": schemas.of(reply)} if reply else {} for kind, reply in described.replies.items()}
    if others:
        good[JSON] = {"schema": schemas.of([contract.reply for contract in others])}
    responses: Schema = {
        "200": {"description": "as asked", "headers": _headers(200, described.headers, state), "content": good}
    }
    for status, types in sorted(by_status.items()):
        error = {"allOf": [schemas.of(Error), {"properties": {"error_type": {"enum": types}}}]}
        responses[str(status)] = {
            "description": "; ".join(f"{error_type}: {wording.MEANING[error_type]}" for error_type in types),
            "headers": _headers(status, (), state),
            "content": {JSON: {"schema": error}},
        }
    for status, named in replies.items():
        examples = {name: {"value": reply} for name, reply in named.items()}
        responses[str(status)]["content"][JSON]["examples"] = examples
    return responses


def _headers(status: int, own: Sequence[str], state: State) -> Schema:
    cors = wording.FOR_ORIGINS if state.settings.cors_origins else ()
    names = (*wording.ON_EVERY_REPLY, *own, *cors, *wording.OF_STATUS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str) -> Schema:
    description, schema = wording.DESCRIBED[name]
    return {"description": description, "required": name not in wording.MAY_BE_ABSENT, "schema": schema}


def _parameters(one: _Operation, state: State) -> list[Schema]:
    allowed = {"name": state.settings.name, **one.described.parameters}
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": _listed(allowed[name])}}
        for name in sorted(one.rule.arguments, key=one.rule.rule.index)
    ]
    return [*path, *(wording.PARAMETERS if one.described.bodies else ())]


def _listed(allowed: str | Sequence[str]) -> list[str]:
    return [allowed] if isinstance(allowed, str) else list(allowed)
