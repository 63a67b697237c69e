# SPDX-License-Identifier: Apache-2.0
"""Holds a JSON document to a schema of docs/schemas, which refer to each other by their names."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """All of them, by the first part of their file's name."""
    return {
        path.name.removesuffix(".schema.json"): json.loads(path.read_text())
        for path in sorted(FOLDER.glob("*.schema.json"))
    }


@cache
def _validator(name: str) -> Any:
    resources = [(f"{one}.schema.json", Resource.from_contents(rule)) for one, rule in schemas().items()]
    Draft202012Validator.check_schema(schemas()[name])
    return Draft202012Validator(schemas()[name], registry=Registry().with_resources(resources))


def faults(value: Any, name: str) -> list[str]:
    """A line for each place where `value` breaks the schema of that name, or, where none of several forms fits, each of
    these forms."""
    return [line for error in _validator(name).iter_errors(value) for line in _lines(error)]


def _lines(error: Any) -> list[str]:
    if not error.context:
        return [f"{error.json_path}: {error.message[:300]}"]
    return [line for inner in error.context for line in _lines(inner)]
