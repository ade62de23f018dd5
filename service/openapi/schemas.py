"""JSON Schemas of msgspec types, with the limits of model and deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import schema_components

from service.contracts.base import Contract
from service.contracts.fields import LIMIT, limits
from service.state import State

Schema = dict[str, Any]
_REFERENCE = "#/components/schemas/{name}"


class Schemas:
    """The schemas for one deployment; `components` collects those with a name."""

    def __init__(self, state: State) -> None:
        self._limits = limits(state)
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a msgspec type, by reference if it has a name; for a tuple, any of its types."""
        if isinstance(kind, tuple):
            return self.of(kind[0]) if len(kind) == 1 else {"anyOf": [self.of(one) for one in kind]}
        (schema,), components = schema_components([kind], ref_template=_REFERENCE)
        if extra := getattr(kind, "schema_extra", None):
            components[kind.__name__] |= extra
        self.components |= self._filled(components)
        return dict(self._filled(schema))

    def of_bodies(self, contracts: Sequence[Contract]) -> Schema:
        """Return the schema of a body of any of `contracts`: each has one of its own keys and none of those before."""
        if len(contracts) == 1:
            return self.of(contracts[0].body)
        earlier: list[Schema] = []
        schemas = []
        for contract in contracts:
            keys = [{"required": [key]} for key in contract.keys]
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
