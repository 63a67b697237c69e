# SPDX-License-Identifier: Apache-2.0
"""Fault plans, as TOML that somebody else wrote, or as the names and values of one fault.

A plan is refused in one line, or is sound in all that is made of it later: words for people, and decisions about PDUs.
"""

from __future__ import annotations

import tempfile
from typing import Any

from harness.choices import Choices
from harness.texts import harmless
from swd.errors import InvalidArgument
from swd.proto import lun
from swd.proto.pdu import Opcode
from swd.target.faults import CONDITIONS, KINDS, Fault, Injector, Plan
from swd.target.faults.conditions import Event
from swd.target.faults.words import COMMANDS, EVENTS, PDUS, REASONS, STATES

WORDS = (*COMMANDS, *EVENTS, *REASONS, *STATES, *PDUS, "3/11/00", "5-9", "7-", "0302", "self", "a\x1b[2J\u2028b", "")
NUMBERS = (-1, 0, 1, 2, 255, 256, 16383, 16384, 1 << 32, 1 << 64, 1 << 15000)
PLACES = ("wire", "answer", "request", "login", "block")


def plan(data: bytes) -> None:
    """The text of a plan, or one fault by its keys and by the text that says the same."""
    choices = Choices(data)
    if choices.bit():
        with tempfile.NamedTemporaryFile() as file:
            file.write(choices.rest())
            file.flush()
            found = refused_or_read(lambda: Plan.load(file.name))
    else:
        do, keys = words(choices)
        found = refused_or_read(lambda: Plan([Fault(do, **keys)]))
        lines = [f"{key} = {toml(value)}" for key, value in {"do": do, **keys}.items()]
        text = "\n".join(["[[fault]]", *lines])
        assert refused_or_read(lambda: Plan.parse(text)) == found, f"Python and TOML do not agree: {text}"
    if found is not None:
        use(found, choices)


def refused_or_read(read: Any) -> Plan | None:
    try:
        found: Plan = read()
    except InvalidArgument as error:
        said = str(error)
        assert harmless(said), said
        assert len(said) < 2000, "a line that nobody reads"
        return None
    return found


def words(choices: Choices) -> tuple[str, dict[str, Any]]:
    """A kind, and values for some of the keys that it has, sound ones among them."""
    kind = KINDS[choices.pick(list(KINDS))]
    keys: dict[str, Any] = {}
    known = [*(param.name for param in kind.params), *CONDITIONS]
    for _ in range(choices.byte() % 6):
        keys[choices.pick(known)] = value(choices)
    return kind.name, keys


def value(choices: Choices) -> Any:
    how = choices.byte() % 8
    if how == 0:
        return choices.number(choices.byte() % 9)
    if how == 1:
        return choices.pick((0.5, 1.0, 86400.0, -1.0, float("inf"), float("nan")))
    if how == 2:
        return choices.bit()
    if how == 3:
        return [choices.pick(WORDS) for _ in range(choices.byte() % 3)]
    if how == 4:
        return choices.some(choices.byte() % 16).decode("latin-1")
    return choices.pick(NUMBERS) if how == 5 else choices.pick(WORDS)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    return hex(value) if isinstance(value, int) and value >= 0 else str(value)


def use(found: Plan, choices: Choices) -> None:
    """All that a sound plan is asked for."""
    lines = found.explain()
    assert len(lines) == len(found.faults)
    assert all(harmless(line) for line in lines)
    again = Plan(found.faults, found.seed)
    assert again == found
    assert hash(again) == hash(found)
    now = [0.0]
    injector = Injector(found, clock=lambda: now[0])
    struck = 0
    for place in PLACES:
        for _ in range(4):
            for fault in injector.due(place, event(choices, injector) if place != "block" else Event("", "", 1)):
                injector.injected(fault)
                struck += 1
            now[0] += 1
    assert sum(injector.counts.values()) == struck
    assert len(injector.random_bytes(8)) == 8


def event(choices: Choices, injector: Injector) -> Event:
    name, opcode, blocks = Opcode(choices.pick(list(Opcode))).name, None, None
    if choices.bit():
        opcode, blocks = choices.byte(), (choices.number(8), choices.number(4))
    return Event(name, choices.pick(STATES), injector.connected(), lun.field(choices.byte()), opcode, blocks)
