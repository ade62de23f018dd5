"""msgspec types as JSON Schema, with the limits of model and deployment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import schema_components

from service.contracts.base import Contract
from service.contracts.fields import LIMIT, LIMITS
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
    """Return `schema` with limits in their places, and without the fields that this model does not take."""
    if isinstance(schema, list):
        return [_filled(one, state) for one in schema]
    if not isinstance(schema, dict):
        return schema
    filled = {
        name: _filled(value, state) for name, value in schema.items() if name != LIMIT and _is_taken(value, state)
    }
    return {**filled, **(LIMITS[schema[LIMIT]](state) or {})} if LIMIT in schema else filled


def _is_taken(schema: Any, state: State) -> bool:
    if not isinstance(schema, dict):
        return True
    choices = schema.get("anyOf", ())
    return all(LIMIT not in one or LIMITS[one[LIMIT]](state) is not None for one in (schema, *choices))
