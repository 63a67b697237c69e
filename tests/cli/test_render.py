# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import enum
import errno
import fcntl
import io
import json
import pty
import struct
import sys
import termios
from dataclasses import dataclass

import pytest

from swd.cli import render
from swd.values import Portal, ScsiResult, Sense


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Row:
    name: str
    size_bytes: int
    ok: bool | None = None


def test_one_record_is_a_column() -> None:
    text = render.as_text({"target": "iqn.a", "size_bytes": 64 << 20, "read_only": False, "alias": None})
    assert text == "target     iqn.a\nsize       67108864 (64 MiB)\nread only  no\nalias      -\n"


def test_many_records_are_a_table_with_numbers_to_the_right() -> None:
    lines = render.as_text([Row("a", 1), Row("longer", 1024, True)]).splitlines()
    assert lines == ["name            size  ok", "a                  1  -", "longer  1024 (1 KiB)  yes"]


WIDE = [
    {"step": "login", "name": "iqn.2026-01.org.example:one", "errno": "ENXIO", "seconds": 0.25, "detail": "it is " * 9},
    {"step": "discover", "name": "192.0.2.1:3260", "errno": None, "seconds": 12.0, "detail": ""},
]


def test_a_table_that_is_too_wide_has_its_words_below_the_rows() -> None:
    assert render.as_text(WIDE, 60) == (
        "step      name                         errno  seconds\n"
        "login     iqn.2026-01.org.example:one  ENXIO     0.25\n"
        "  detail: it is it is it is it is it is it is it is it is it\n"
        "    is\n"
        "discover  192.0.2.1:3260               -           12\n"
    )
    assert render.as_text(WIDE, 40).splitlines()[:3] == [
        "step      errno  seconds",
        "login     ENXIO     0.25",
        "  name: iqn.2026-01.org.example:one",
    ]


@pytest.mark.parametrize("width", [1, 5, 20, 33, 60, 100, 1000])
def test_no_word_is_lost_at_any_width(width: int) -> None:
    words = set(render.as_text(WIDE).split()) - {"-"}
    narrow = render.as_text({"steps": WIDE, "pass": 2}, width)
    assert words <= {word.removesuffix(":") for word in narrow.split()}
    if width >= 33:
        assert max(map(len, narrow.splitlines())) <= width


def test_a_table_for_a_pipe_has_a_line_a_row() -> None:
    assert render.width_of(io.StringIO()) is render.width_of(None) is None
    assert len(render.as_text(WIDE).splitlines()) == 3


def test_a_terminal_has_a_width() -> None:
    above, below = pty.openpty()
    with open(above, "wb"), open(below, "w", encoding="utf-8") as terminal:
        fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
        assert render.width_of(terminal) == 72
    assert render.width_of(terminal) is None


def test_what_is_nested_stands_below_its_heading() -> None:
    text = render.as_text({"device": "d", "session": {"auth": "chap"}, "portals": ["a", "b"]})
    assert text == "device  d\nsession:\n  auth  chap\nportals:\n  a\n  b\n"


def test_no_line_is_lost_where_headings_are_alike() -> None:
    assert render.as_text({"read_bytes": 1, "read": 2}).count("\n") == 2


def test_nothing_is_no_text() -> None:
    assert render.as_text(None) == ""


def test_json_knows_every_value_of_ours() -> None:
    record = {
        "enum": Colour.RED,
        "bytes": b"\x00\xff",
        "result": ScsiResult(2, b"\x01", Sense(5, 0x20, 0)),
        "portal": Portal("::1"),
        "list": (1, None, 2.5),
        "other": {1},
    }
    back = json.loads(render.as_json(record))
    assert back["enum"] == "red"
    assert back["bytes"] == "00ff"
    assert back["result"]["sense"]["asc"] == 0x20
    assert back["portal"]["host"] == "::1"
    assert (back["list"], back["other"]) == ([1, None, 2.5], [1])


@pytest.mark.parametrize("foreign", ["\x1b[2Jiqn", "a\nb", "a\x9bb", "a\u202eb", "a\udc9bb"])
def test_a_foreign_name_never_commands_a_terminal(foreign: str) -> None:
    for text in (render.as_text({foreign: foreign}), render.as_text([{"name": foreign}])):
        assert all(part.isprintable() for part in text.splitlines())
        assert "\\" in text
    assert render.as_json({"name": foreign}).isascii()


def test_floats_stay_short() -> None:
    assert [render.cell(v) for v in (0.12345, 12.345, 1234.5)] == ["0.123", "12.3", "1,234"]


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_a_full_stdout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="standard output") as caught:
        render.emit("x")
    assert caught.value.errno == errno.ENOSPC


def test_no_stdout_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    render.emit("")
    with pytest.raises(OSError, match="closed") as caught:
        render.emit("x")
    assert caught.value.errno == errno.EBADF
