# SPDX-License-Identifier: Apache-2.0
"""Holds a JSON document to a schema of docs/schemas, as far as these schemas go; a word that is not known here is an
error, so that no rule of a schema goes unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_NOTES: Final = {"$schema", "$id", "title", "description", "$defs"}
_RULES: Final = {"type", "properties", "required", "additionalProperties", "items", "enum", "minimum", "oneOf", "$ref"}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$") -> Iterator[str]:
    """A line for each place where `value` breaks `schema`."""
    root = root or schema
    assert not schema.keys() - _NOTES - _RULES, f"{at}: the schema has words that are not checked"
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "type" in schema and not any(_is(value, name) for name in _listed(schema["type"])):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "minimum" in schema and isinstance(value, (int, float)) and value < schema["minimum"]:
        yield f"{at}: {value!r} is below {schema['minimum']}"
    if "oneOf" in schema and sum(not list(faults(value, one, root, at)) for one in schema["oneOf"]) != 1:
        yield f"{at}: {value!r} fits none of the forms, or several"
    if isinstance(value, dict):
        yield from _of_object(value, schema, root, at)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from faults(item, schema["items"], root, f"{at}[{number}]")


def _of_object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{at}: {key} is missing" for key in schema.get("required", []) if key not in value)
    for key, item in value.items():
        if key in known:
            yield from faults(item, known[key], root, f"{at}.{key}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}: {key} is not in the schema"


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
