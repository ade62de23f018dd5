"""msgspec types as JSON Schema, with the limits of model and deployment in the place of the marks of fields.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.json import schema_components

from service.contract import Contract
from service.fields import MARK, SOME
from service.state import State

Schema = dict[str, Any]
_IN_COMPONENTS = "#/components/schemas/{name}"


class Schemas:
    """The schemas of `kinds`, msgspec types; several of them together are any of them.

    `components` are those with a name.
    """

    def __init__(self, kinds: Iterable[Any], state: State) -> None:
        single = list({id(kind): kind for given in kinds for kind in _each(given)}.values())
        schemas, components = schema_components(single, ref_template=_IN_COMPONENTS)
        self._by_id = {id(kind): _filled(one, state) for kind, one in zip(single, schemas, strict=True)}
        self._kinds = single  # held, so that no id is another's
        self.components: dict[str, Schema] = {name: _filled(one, state) for name, one in components.items()}
        for kind in single:
            self.components.get(getattr(kind, "__name__", ""), {}).update(getattr(kind, "schema_extra", {}))

    def of(self, kind: Any) -> Schema:
        """Return the schema of one of the types, by reference where it has a name."""
        schemas = [self._by_id[id(one)] for one in _each(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def of_any(self, contracts: Iterable[Contract[Any]]) -> Schema:
        """Return the schema of a body of any of `contracts`: each has one of its keys and none of those before it."""
        before: list[Schema] = []
        schemas = []
        for contract in contracts:
            keys = [{"required": [key]} for key in contract.keys]
            apart = [{"not": {"anyOf": list(before)}}] if before else []
            parts = [self.of(contract.body), {"anyOf": keys}, *apart]
            schemas.append({"title": contract.name, "allOf": parts})
            before += keys
        return {"anyOf": schemas}


def _each(kind: Any) -> list[Any]:
    if isinstance(kind, (tuple, list)):
        return [single for one in kind for single in _each(one)]
    return [kind]


def _filled(schema: Any, state: State) -> Any:
    """Return `schema` with limits in the place of marks, and without the fields that this model does not take."""
    if isinstance(schema, list):
        return [_filled(one, state) for one in schema]
    if not isinstance(schema, dict):
        return schema
    filled = {
        name: _filled(value, state)
        for name, value in schema.items()
        if name != MARK and not _is_taken_away(value, state)
    }
    return {**filled, **_LIMITS[schema[MARK]](state)} if MARK in schema else filled


def _is_taken_away(schema: Any, state: State) -> bool:
    """Return whether a field is for models of several labels a text, and this is none."""
    if not isinstance(schema, dict):
        return False
    marked = schema.get(MARK) == "threshold" or any(_is_taken_away(one, state) for one in schema.get("anyOf", ()))
    return marked and state.inferer.thresholds is None


def _texts(state: State) -> Schema:
    return {"maxItems": state.settings.max_texts}


def _batch(state: State) -> Schema:
    """Return what is no pair: a text, one in a list, or lists of one."""
    text = {"type": "string", "minLength": 1, "maxLength": state.settings.max_text_chars, "pattern": SOME}
    alone = {"type": "array", "items": text, "minItems": 1, "maxItems": 1}
    return {"anyOf": [text, alone, {"type": "array", "items": alone, "minItems": 1, **_texts(state)}]}


def _threshold(state: State) -> Schema:
    number = {"type": "number", "minimum": 0, "maximum": 1}
    labels = {"propertyNames": {"enum": list(state.inferer.labels)}}
    return {"anyOf": [number, {"type": "object", "additionalProperties": number, **labels}]}


_LIMITS: Mapping[str, Callable[[State], Schema]] = {
    "text": lambda state: {"maxLength": state.settings.max_text_chars},
    "texts": _texts,
    "batch": _batch,
    "threshold": _threshold,
    "label": lambda state: {"enum": list(state.inferer.labels)},
    "parts": lambda state: {"maximum": state.settings.max_texts},
}
