# SPDX-License-Identifier: Apache-2.0
"""As much of JSON Schema as the schemas in docs/schemas use; a keyword that is not known here is an error."""

from __future__ import annotations

from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
    "boolean": (bool,),
}
KNOWN = {"$schema", "title", "type", "required", "properties", "additionalProperties", "items", "const", "enum"} | {
    *("minimum", "minItems", "maxItems")
}


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """A line for each place where `value` is not what the schema says."""
    assert not schema.keys() - KNOWN, schema.keys() - KNOWN
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(_is(value, name) for name in names):
        return [f"{at}: {value!r} is no {' or '.join(names)}"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is not one of {schema['enum']}"]
    if "minimum" in schema and value is not None and value < schema["minimum"]:
        return [f"{at}: {value!r} is too small"]
    if isinstance(value, dict):
        return _object(value, schema, at)
    return _array(value, schema, at) if isinstance(value, list) else []


def _is(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _object(value: dict[str, Any], schema: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, inner in value.items():
        rule = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
        found += [f"{at}.{name} is not known"] if rule is False else faults(inner, rule, f"{at}.{name}")
    return found


def _array(value: list[Any], schema: dict[str, Any], at: str) -> list[str]:
    found = []
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        found.append(f"{at}: {len(value)} items")
    return found + [
        line for i, item in enumerate(value) for line in faults(item, schema.get("items", {}), f"{at}[{i}]")
    ]
