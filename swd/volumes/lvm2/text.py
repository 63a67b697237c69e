# SPDX-License-Identifier: Apache-2.0
"""The language of LVM's metadata: `name = value`, `name { ... }`, lists, strings, numbers and comments.

    parse(b'a { b = [ "x", 1 ] }') == {"a": {"b": ["x", 1]}}

The parser keeps no state but a stack of open sections, whose depth is bounded; what it makes is at most a small
multiple of the text, and the text's length is bounded by whoever reads it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from swd.errors import SwdError

MOST_DEPTH: Final = 8  # LVM nests four deep
Section = dict[str, Any]

_TOKEN = re.compile(
    rb"""[\s\0]*(?:\#[^\n]*(?:\n|\Z)[\s\0]*)*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>[-+]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?![A-Za-z0-9_.+-]))
      | (?P<word>[A-Za-z0-9_.+:/-]{1,255})
      | (?P<mark>[][{}=,])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)


class BadText(SwdError):
    """A metadata text that is none: EIO, as for a disk that gives back rubbish."""


class _Reader:
    """The tokens of a text, one ahead. `kind` is a group of _TOKEN, for a mark the mark itself."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.kind = ""
        self.raw = b""
        self.next()

    def next(self) -> tuple[str, bytes]:
        """The token that was ahead; the one behind it is looked at."""
        before = self.kind, self.raw
        found = _TOKEN.match(self._content, self._at)
        if found is None:
            raise self.bad("what is no word, number, string or bracket")
        group = found.lastgroup or ""
        self._at, self.raw = found.end(), found[group]
        self.kind = self.raw.decode("ascii") if group == "mark" else group
        return before

    def expect(self, kind: str) -> bytes:
        if self.kind != kind:
            raise self.bad(f"{kind!r} expected")
        return self.next()[1]

    def bad(self, why: str) -> BadText:
        line = self._content.count(b"\n", 0, self._at) + 1
        return BadText(f"the metadata text cannot be read: line {line}: {why}")


def parse(content: bytes) -> Section:
    """The sections of a text as nested dicts; of a name that comes twice the first counts. Raises BadText."""
    reader = _Reader(content)
    top: Section = {}
    stack = [top]
    while reader.kind != "end" or len(stack) > 1:
        if reader.kind == "}" and len(stack) > 1:
            reader.next()
            stack.pop()
            continue
        if reader.kind not in ("word", "number"):  # a name may be nothing but digits
            raise reader.bad("a name expected")
        name = reader.next()[1].decode("ascii")
        if reader.kind == "{":
            if len(stack) > MOST_DEPTH:
                raise reader.bad("sections are nested too deep")
            reader.next()
            inner: Section = {}
            stack[-1].setdefault(name, inner)
            stack.append(inner)
            continue
        reader.expect("=")
        stack[-1].setdefault(name, _value(reader))
    return top


def _value(reader: _Reader) -> Any:
    if reader.kind != "[":
        return _scalar(reader)
    reader.next()
    values: list[Any] = []
    while reader.kind != "]":
        values.append(_scalar(reader))
        if reader.kind != ",":
            break
        reader.next()
    reader.expect("]")
    return values


def _scalar(reader: _Reader) -> str | int | float:
    kind, raw = reader.next()
    if kind == "string":
        return re.sub(rb"\\(.)", rb"\1", raw[1:-1], flags=re.DOTALL).decode("utf-8", "replace")
    if kind == "number":
        return float(raw) if b"." in raw else int(raw)
    raise reader.bad("a number or a string expected")
