"""The OpenAPI 3.1 document of a deployment, made from its views' metadata, docstrings and msgspec types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Flask
from msgspec.json import schema_components
from werkzeug.routing import Rule

from inferer import __version__
from inferer.model import ModelInferer
from service.contracts import own
from service.contracts.base import Contract
from service.contracts.fields import LIMIT, limits
from service.contracts.open_inference import VERSION
from service.errors import ERRORS
from service.json_body import JSON, encode
from service.openapi import texts
from service.openapi.view_metadata import ViewMetadata, metadata_of
from service.state import State

Schema = dict[str, Any]
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


def document(app: Flask, state: State) -> bytes:
    """Return the document of `app` as JSON."""
    operations = [one for one in _operations(app) if _fits(one.metadata, state.inferer)]
    schemas = _Schemas(state)
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
            "openapi": "3.1.1",
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
                "headers": {
                    name: {"description": about, "required": name not in texts.OPTIONAL_HEADERS, "schema": schema}
                    for name, (about, schema) in texts.HEADERS.items()
                },
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
        for method in ("GET", "POST"):
            if metadata.listed and method in (rule.methods or ()):  # of two rules for a path Flask takes the first
                found.setdefault((rule.rule, method), _Operation(rule, method.lower(), view, metadata))
    tags = list(dict.fromkeys([*_FIRST_TAGS, *(one.metadata.tag for one in found.values())]))
    return sorted(found.values(), key=lambda one: tags.index(one.metadata.tag))


def _operation(one: _Operation, schemas: _Schemas, state: State) -> Schema:
    summary, _, description = (inspect.getdoc(one.view) or "").partition("\n")
    bodies = _bodies(one.metadata, schemas, state)
    allowed = {"name": state.settings.name, "version": VERSION}
    path_parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [allowed[name]]}}
        for name in sorted(one.rule.arguments, key=one.rule.rule.index)
    ]
    operation: Schema = {
        "tags": [one.metadata.tag],
        "summary": summary,
        "description": description.strip(),
        "parameters": [*path_parameters, *(texts.PARAMETERS if bodies else ())],
        "requestBody": {"required": True, "content": bodies} if bodies else None,
        "responses": _responses(one.metadata, schemas, state),
    }
    if one.metadata.open and state.settings.api_keys:
        operation["security"] = []
    return {name: value for name, value in operation.items() if value or name in ("responses", "security")}


def _bodies(metadata: ViewMetadata, schemas: _Schemas, state: State) -> dict[str, Schema]:
    """Return schema and examples by content type."""
    pair = state.inferer.text_pair
    if metadata.body is not None:
        shown = metadata.pair_examples if pair else metadata.examples
        examples = {title: {"value": body} for title, body in shown.items()}
        return {JSON: {"schema": schemas.of(metadata.body), "examples": examples}}
    by_type: dict[str, list[Contract]] = {}
    for contract in _fitting(metadata.contracts, state.inferer):
        by_type.setdefault(contract.content_type, []).append(contract)
    return {
        content_type: {"schema": schemas.of_bodies(contracts), "examples": _examples(contracts, pair=pair)}
        for content_type, contracts in by_type.items()
    }


def _fits(metadata: ViewMetadata, model: ModelInferer) -> bool:
    """Return whether the model can answer any contract of a path, or the path has none."""
    return not metadata.contracts or bool(_fitting(metadata.contracts, model))


def _fitting(contracts: Sequence[Contract], model: ModelInferer) -> list[Contract]:
    """Return those of `contracts` that the model can answer: not every client sends pairs, or asks for ranks."""
    return [one for one in contracts if one.fits(model) and (one.pair_examples if model.text_pair else one.examples)]


def _examples(contracts: Sequence[Contract], *, pair: bool) -> Schema:
    """Return the examples of all `contracts` by title, the wrong ones last."""
    good = [(one, one.pair_examples if pair else one.examples) for one in contracts]
    groups = good + [(one, one.wrong_pair_examples if pair else one.wrong_examples) for one in contracts]
    return {
        title if len(contracts) == 1 else f"{contract.name}: {title}": {"value": body}
        for contract, examples in groups
        for title, body in examples.items()
    }


def _responses(metadata: ViewMetadata, schemas: _Schemas, state: State) -> Schema:
    by_status: dict[int, list[str]] = {}
    keys = ("Unauthorized",) if state.settings.api_keys and not metadata.open else ()
    for error_type in dict.fromkeys((*metadata.errors, *keys)):
        by_status.setdefault(ERRORS[error_type][0], []).append(error_type)
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
            "description": "; ".join(f"{error_type}: {ERRORS[error_type][1]}" for error_type in types),
            "headers": _headers(status, (), state),
            "content": {JSON: {"schema": schema}},
        }
    return responses


def _headers(status: int, more: Sequence[str], state: State) -> Schema:
    cors = texts.CORS_HEADERS if state.settings.cors_origins else ()
    names = (*texts.HEADERS_OF_EVERY_REPLY, *more, *cors, *texts.HEADERS_OF_STATUS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _required(key: str) -> Schema:
    """Return the schema of an object with a key; one with a dot is a key in that key's object."""
    first, _, rest = key.partition(".")
    return {"required": [first], **({"properties": {first: _required(rest)}} if rest else {})}


class _Schemas:
    """The schemas for one deployment; `components` collects those with a name."""

    def __init__(self, state: State) -> None:
        self._limits = limits(state)
        self._pair = state.inferer.text_pair
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a msgspec type, by reference if it has a name; for a tuple, any of its types."""
        if isinstance(kind, tuple):
            return self.of(kind[0]) if len(kind) == 1 else {"anyOf": [self.of(one) for one in kind]}
        (schema,), components = schema_components([kind], ref_template="#/components/schemas/{name}")
        if (extra := getattr(kind, "schema_extra", None)) is not None:
            components[kind.__name__] |= getattr(kind, "pair_schema_extra", extra) if self._pair else extra
        self.components |= self._filled(components)
        return dict(self._filled(schema))

    def of_bodies(self, contracts: Sequence[Contract]) -> Schema:
        """Return the schema of a body of any of `contracts`: each has one of its own keys and none of those before."""
        if len(contracts) == 1:
            return self.of(contracts[0].body)
        earlier: list[Schema] = []
        schemas = []
        for contract in contracts:
            keys = [_required(key) for key in contract.keys]
            excluded = [{"not": {"anyOf": list(earlier)}}] if earlier else []
            schemas.append({"title": contract.name, "allOf": [self.of(contract.body), {"anyOf": keys}, *excluded]})
            earlier += keys
        return {"anyOf": schemas}

    def _filled(self, schema: Any) -> Any:
        """Return `schema` with its limits filled in and without fields that the model does not take."""
        if isinstance(schema, list):
            return [self._filled(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        filled = {
            name: self._filled(value) for name, value in schema.items() if name != LIMIT and self._is_taken(value)
        }
        return {**filled, **(self._limits[schema[LIMIT]] or {})} if LIMIT in schema else filled

    def _is_taken(self, schema: Any) -> bool:
        choices = (schema, *schema.get("anyOf", ())) if isinstance(schema, dict) else ()
        return all(LIMIT not in one or self._limits[one[LIMIT]] is not None for one in choices)
