# SPDX-License-Identifier: Apache-2.0
"""Records to text or JSON, and that to standard output: once, and whole, or not at all.

A record is a dataclass, a dict, a list of these, a plain value, or None (nothing to print). In text a record is a
column of `key  value` lines, a list of records is a table, and whatever is nested stands below its heading. Keys that
end in `_bytes` hold sizes. Names that a target sent are foreign: what a terminal would obey is shown as an escape.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from swd.cli.progress import size_text

_INDENT: Final = "  "


def plain(record: object) -> Any:
    """The record as JSON knows it: dicts, lists, numbers, strings, None. Bytes become hex, enum members their value."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): plain(value) for key, value in record.items()}
    if isinstance(record, enum.Enum):
        return plain(record.value)
    if isinstance(record, (bytes, bytearray, memoryview)):
        return bytes(record).hex()
    if record is None or isinstance(record, (bool, int, float, str)):
        return record
    if isinstance(record, Iterable):
        return [plain(item) for item in record]
    return str(record)


def as_json(record: object) -> str:
    return json.dumps(plain(record), indent=2, ensure_ascii=True) + "\n"


def as_text(record: object, width: int | None = None) -> str:
    """Text for people; "" for None. `width`: what tables have to fit in, if that can be done without loss."""
    data = plain(record)
    lines = [] if data is None else list(_block(data, width))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def width_of(stream: TextIO | None) -> int | None:
    """The columns of a terminal; None for whatever is none: what is cut, sorted and searched there has a line a row."""
    try:
        if stream is not None and stream.isatty():
            return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        pass  # it is closed, or does not know
    return None


def _block(data: Any, width: int | None) -> Iterable[str]:
    if isinstance(data, dict):
        yield from _columns(data, width)
    elif isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        yield from table(data, width)
    elif isinstance(data, list):
        yield from (cell(item) for item in data)
    else:
        yield cell(data)


def _columns(data: Mapping[str, Any], width: int | None) -> Iterable[str]:
    """Scalars first, as a column; then what is nested, each below its own heading."""
    nested = {key: value for key, value in data.items() if isinstance(value, (dict, list)) and value}
    flat = [(heading(key), cell(value, key)) for key, value in data.items() if key not in nested]
    most = max((len(name) for name, _ in flat), default=0)
    yield from (f"{name:<{most}}  {value}" for name, value in flat)
    for key, value in nested.items():
        yield f"{heading(key)}:"
        yield from (_INDENT + line for line in _block(value, width and width - len(_INDENT)))


_UNITS: Final = {"_bytes": "", "_mb_s": " MB/s", "_iops": " IOPS", "_ms": " ms"}


def heading(key: str) -> str:
    """A field's name for people: `read_mb_s` is `read MB/s`."""
    for suffix, unit in _UNITS.items():
        if key.endswith(suffix):
            key = key.removesuffix(suffix) + unit
    return printable(key.replace("_", " "))


def cell(value: Any, key: str = "") -> str:
    """One value as text. Absent is `-`; a size has both forms, because scripts cut and people read."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_bytes") and value >= 1024:
        return f"{value} ({size_text(value)})"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    return printable(str(value))


def printable(text: str) -> str:
    """Text without anything that a terminal would obey: control characters and odd spaces are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> list[str]:
    """Rows of like dicts as aligned columns under a heading; numbers are set to the right. Where they would be wider
    than `width`, the widest columns of words leave the table: they stand below each row, folded between words.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = [heading(key) for key in keys]
    body = [[cell(row.get(key), key) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(keys))]
    right = [all(_is_number(row.get(key)) for row in rows) for key in keys]
    inside, below = _split(widths, right, width)
    lines: list[str] = []
    for line in [head, *body]:
        cells = ((line[i], widths[i], right[i]) for i in inside)
        lines.append(_INDENT.join(text.rjust(w) if r else text.ljust(w) for text, w, r in cells))
        if line is not head:
            lines += (folded for i in below if line[i] != "-" for folded in _folded(head[i], line[i], width))
    return lines


def _split(widths: Sequence[int], right: Sequence[bool], width: int | None) -> tuple[list[int], list[int]]:
    """Which columns fit into `width`, and which have to leave; the first, which says what a row is of, stays."""
    inside = list(range(len(widths)))
    while width and sum(widths[i] for i in inside) + len(_INDENT) * (len(inside) - 1) > width:
        words = [i for i in inside[1:] if not right[i]]
        if not words:
            break
        inside.remove(max(words, key=lambda i: widths[i]))
    return inside, [i for i in range(len(widths)) if i not in inside]


def _folded(name: str, text: str, width: int | None) -> list[str]:
    return textwrap.wrap(
        f"{name}: {text}", max(width or 0, 20), initial_indent=_INDENT, subsequent_indent=2 * _INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def emit(text: str) -> None:
    """Write the answer to standard output. Raises BrokenPipeError when nobody reads it, OSError if it does not fit."""
    if not text:
        return
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def mute(fd: int) -> None:
    """Point a broken descriptor at nothing, so that the interpreter's own last flush has no complaint to make."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, fd)
    os.close(nothing)
