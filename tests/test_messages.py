# SPDX-License-Identifier: Apache-2.0
"""The table of messages: what it promises, that it is used, and that its page is its own."""

from __future__ import annotations

import logging
import re
import string
from pathlib import Path

import pytest

import swd
from swd.messages import TABLE, Level, document, say

SOURCE = Path(swd.__file__).parent
SYMBOLS = [message.symbol for message in TABLE]


def used() -> set[str]:
    return {
        symbol
        for path in SOURCE.rglob("*.py")
        if path.name != "messages.py"
        for symbol in re.findall(r'"((?:SWD|ISW|ISCSI)_LOG_\w+)"', path.read_text())
    }


def test_each_message_is_said_somewhere_and_nothing_else_is() -> None:
    assert used() == set(SYMBOLS)
    assert len(SYMBOLS) == len(set(SYMBOLS))


def test_the_page_is_made_from_the_table(root: Path) -> None:
    assert (root / "docs" / "messages.md").read_text() == document()


@pytest.mark.parametrize("message", TABLE, ids=SYMBOLS)
def test_a_message_carries_its_symbol_and_level(message: object, caplog: pytest.LogCaptureFixture) -> None:
    row = next(each for each in TABLE if each is message)
    values = {name: f"<{name}>" for _, name, _, _ in string.Formatter().parse(row.template) if name}
    logger = logging.getLogger("swd.test")
    with caplog.at_level(logging.DEBUG, "swd"):
        say(logger, row.symbol, **values)
    (record,) = caplog.records
    assert (record.symbol, record.levelno) == (row.symbol, row.level)  # type: ignore[attr-defined]
    assert all(value in record.getMessage() for value in values.values())
    assert row.meaning.endswith(".")
    assert row.next_step.endswith(".")


def test_the_levels_keep_the_order_of_the_original() -> None:
    assert [level.name for level in Level] == ["PANIC", "ALERT", "CRIT", "ERR", "WARN", "NOTE", "INFO", "DEBUG"]
    assert [level.value for level in Level] == sorted((level.value for level in Level), reverse=True)
    assert logging.getLevelName(Level.NOTE) == "NOTE"


def test_a_library_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("swd").handlers)
