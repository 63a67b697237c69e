# SPDX-License-Identifier: Apache-2.0
"""TOML as text: where each key stands, and how to change one of them and nothing else.

Parsers forget lines, comments and order, so this module knows one thing more than they do: where a statement (a key and
its value, or a table's header) begins and ends. It knows nothing of swd's keys. Every edit is checked by the parser:
the new text must say what the old one said, but for the one key, or it is refused.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from swd.errors import InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple[str, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BITS = 64  # "If an integer cannot be represented losslessly, an error must be thrown" (TOML 1.0)


@dataclass(frozen=True, slots=True)
class Statement:
    """Lines `first` to `last`, counted from 1. `path` is the table for a header, else the whole path of the key;
    `inside` are the paths of what the value holds, if it is an inline table.
    """

    path: Path
    header: bool
    first: int
    last: int
    inside: tuple[Path, ...] = ()


def parse(text: str, source: str) -> dict[str, Any]:
    """The document. Raises InvalidArgument that begins with `source`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{source} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # of int(), and of the parser
        raise InvalidArgument(f"{source} is not valid TOML: too deep, or a number of thousands of digits") from error
    if any(isinstance(value, int) and value.bit_length() > _BITS for value in _leaves(document)):
        raise InvalidArgument(f"{source} is not valid TOML: a whole number of more than {_BITS} bits")
    return document


def _leaves(value: Any) -> Iterator[Any]:
    """All that is neither a table nor an array."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for one in value:
        yield from _leaves(one)


def positions(text: str) -> dict[Path, int]:
    """The line of each key and table of a valid text; of one that stands in several places, the first."""
    found: dict[Path, int] = {}
    for statement in statements(text):
        table = statement.path
        for path in [*(table[:depth] for depth in range(1, len(table) + 1)), *statement.inside]:
            found.setdefault(path, statement.first)
    return found


def statements(text: str) -> Iterator[Statement]:
    """The statements of a valid text, in order; blank lines and comments are none.

    A statement ends where the lines since the last end parse by themselves: an open array or multi-line string never
    does, so what looks like a key inside one is not taken for a key.
    """
    table: Path = ()
    pending, start = "", 1
    for number, line in enumerate(lines_of(text), 1):
        pending += line
        try:
            content = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        if pending.lstrip().startswith("["):
            table = _way(content)
            yield Statement(table, True, start, number)
        elif content:
            inside = tuple(table + path for path in _below(content))
            depth = len(table) + len(_way(tomllib.loads(pending[: _equals(pending)] + "= 0")))
            key = next(path for path in inside if len(path) == depth)
            yield Statement(key, False, start, number, tuple(path for path in inside if len(path) > depth))
        pending, start = "", number + 1


def lines_of(text: str) -> list[str]:
    """The lines with their ends. TOML knows no other ends than these, whatever `str.splitlines` takes for one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _way(content: Any) -> Path:
    """The keys of nested tables that hold one key each; for [[table]]s, through the list."""
    path: Path = ()
    while content and isinstance(content, (dict, list)):
        if isinstance(content, list):
            content = content[0]
            continue
        key, content = next(iter(content.items()))
        path += (key,)
    return path


def _below(content: Mapping[str, Any]) -> Iterator[Path]:
    for key, value in content.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *path) for path in _below(value))


def _equals(statement: str) -> int:
    """Where the `=` between key and value is: a quoted key may hold others."""
    for found in re.finditer("=", statement):
        try:
            tomllib.loads(statement[: found.start()] + "= 0")
        except tomllib.TOMLDecodeError:
            continue
        return found.start()
    raise ValueError("this is no statement with a key")


# --- edits -------------------------------------------------------------------------------------------------------


def with_key(text: str, table: Path, key: str, value: Any, source: str) -> str:
    """The text in which `key` of `table` is `value`: in its old place if it has one, else at the end of its table.

    Raises InvalidArgument, with `source`, where that cannot be written without touching something else.
    """
    path, found = (*table, key), list(statements(text))
    wanted = copy.deepcopy(parse(text, source))
    _table(wanted, table, source)[key] = value
    lines = lines_of(text)
    old = next((one for one in found if one.path == path and not one.header), None)
    if old is not None:
        whole = "".join(lines[old.first - 1 : old.last])
        lines[old.first - 1 : old.last] = [_replaced(whole, value)]
    else:
        _insert(lines, found, table, f"{key} = {literal(value)}", "\r\n" if "\r\n" in text else "\n")
    return _checked("".join(lines), wanted, path, source)


def without_key(text: str, table: Path, key: str, source: str) -> str:
    """The text without this key, which must be there. Raises InvalidArgument as `with_key`."""
    path = (*table, key)
    wanted = copy.deepcopy(parse(text, source))
    del _table(wanted, table, source)[key]
    lines = lines_of(text)
    for one in statements(text):
        if one.path == path and not one.header:
            lines[one.first - 1 : one.last] = []
            break
    return _checked("".join(lines), wanted, path, source)


def literal(value: Any) -> str:
    """A value as TOML writes it: text, numbers, truth values, and lists of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    return '"' + "".join(_escaped(char) for char in str(value)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _table(document: dict[str, Any], path: Path, source: str) -> dict[str, Any]:
    """The table, made if it is not there."""
    for key in path:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise InvalidArgument(f"{source}: `{key}` is no table")
    return document


def _replaced(statement: str, value: Any) -> str:
    """The statement with another value; what stands after the old one (a comment, the line's end) stays."""
    start, content = _equals(statement) + 1, tomllib.loads(statement)
    # The shortest beginning that says the same is key and value; `x = 1` must not be taken for all of `x = 12`.
    ends = [found.start() for found in re.finditer(r"[ \t]*(#|\r?\n|$)", statement) if found.start() > start]
    end = next(end for end in ends if _says(statement[:end], content))
    return f"{statement[:start]} {literal(value)}{statement[end:]}"


def _says(text: str, content: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == content
    except tomllib.TOMLDecodeError:
        return False


def _insert(lines: list[str], found: list[Statement], table: Path, statement: str, end: str) -> None:
    """Put a new statement below the last one of its table; a table that has no header yet gets one, at the end."""
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    at = _end_of(found, table)
    if at is None and table:
        header = "[" + ".".join(key if _BARE.fullmatch(key) else literal(key) for key in table) + "]"
        lines += [end] if lines else []
        lines += [header + end, statement + end]
    elif at is None:
        first = next((one.first for one in found), None)
        at = len(lines) if first is None else first - 1
        while first is not None and at and lines[at - 1].lstrip().startswith("#"):
            at -= 1  # comments right above a header belong to it
        lines[at:at] = [statement + end] + ([end] if first is not None else [])
    else:
        lines.insert(at, statement + end)


def _end_of(found: list[Statement], table: Path) -> int | None:
    """The last line of a table's own statements, its header among them; None if it has none."""
    inside, at = not table, None
    for one in found:
        if one.header:
            inside = one.path == table
        if inside:
            at = one.last
    return at


def _checked(text: str, wanted: Mapping[str, Any], path: Path, source: str) -> str:
    try:
        done = _pruned(tomllib.loads(text)) == _pruned(wanted)
    except tomllib.TOMLDecodeError:
        done = False
    if not done:
        raise InvalidArgument(
            f"{source}: `{'.'.join(path)}` is written in a way that swdctl does not edit (an inline table, or dotted "
            "keys): change it in an editor"
        )
    return text


def _pruned(content: Any) -> Any:
    """Without empty tables: whether one is left behind makes no difference."""
    if not isinstance(content, Mapping):
        return content
    below = {key: _pruned(value) for key, value in content.items()}
    return {key: value for key, value in below.items() if value != {}}
