# SPDX-License-Identifier: Apache-2.0
"""When a fault strikes: the conditions of a plan, and the events that they are held against. No socket, no clock.

`When.meets` looks at one event alone; how often a fault has struck already, and the dice, are the injector's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

from swd.errors import InvalidArgument
from swd.target.faults import words
from swd.target.faults.words import COMMANDS, Range
from swd.target.scsi.cdb import blocks_of

_WITH_BLOCKS: Final = frozenset(
    code for word in ("READ", "WRITE", "FLUSH", "VERIFY", "WRITE_SAME") for code in COMMANDS[word]
)


class Event(NamedTuple):
    """One PDU that comes or goes, or one request about to be carried out. Of a PDU that belongs to no command, `opcode`
    and `blocks` are None. `lun` is the 64-bit field; `blocks` are the first and the number of them.
    """

    pdu: str
    state: str
    connection: int
    lun: int | None = None
    opcode: int | None = None
    blocks: tuple[int, int] | None = None


def blocks_of_command(cdb: bytes) -> tuple[int, int] | None:
    """The blocks that a command speaks of, None if it is of no such kind."""
    return blocks_of(cdb) if cdb[0] in _WITH_BLOCKS else None


def _key(read: Callable[[object], object], help: str) -> dict[str, object]:
    return {"read": read, "help": help}


@dataclass(frozen=True)
class When:
    """The conditions of one fault; all that are given must hold. The fields are the keys of a plan, with their help."""

    pdu: frozenset[str] | None = field(default=None, metadata=_key(words.pdus, "PDUs, by their names"))
    command: frozenset[int] | None = field(
        default=None, metadata=_key(words.commands, "commands that the PDU belongs to: READ, WRITE, ..., or 0x28")
    )
    lba: Range | None = field(default=None, metadata=_key(words.span, "the command touches these blocks"))
    lun: int | None = field(default=None, metadata=_key(words.unit, "logical unit, by its number"))
    state: str | None = field(default=None, metadata=_key(words.state, "login, discovery or full_feature"))
    connection: Range | None = field(
        default=None, metadata=_key(words.span, "connections, counted from 1 since the target was started")
    )
    since: float | None = field(default=None, metadata=_key(words.seconds, "not before so many seconds of the plan"))
    until: float | None = field(default=None, metadata=_key(words.seconds, "not after so many seconds of the plan"))
    nth: int | None = field(default=None, metadata=_key(words.counting, "only the n-th time that all this holds"))
    every: int | None = field(default=None, metadata=_key(words.counting, "each n-th time that all this holds"))
    chance: float | None = field(
        default=None, metadata=_key(words.chance, "a probability, by dice that `seed` makes the same each time")
    )
    count: int | None = field(default=None, metadata=_key(words.counting, "so many times in all"))
    once: bool = field(default=False, metadata=_key(words.boolean, "short for count = 1"))

    def __post_init__(self) -> None:
        if self.once and self.count not in (None, 1):
            raise InvalidArgument("once and count contradict each other: leave one out")
        if self.nth is not None and (self.every is not None or self.count not in (None, 1)):
            raise InvalidArgument("nth is one time only, so every and count contradict it: leave one out")
        if self.since is not None and self.until is not None and self.until < self.since:
            raise InvalidArgument("until lies before since: the fault would never strike")

    @property
    def limit(self) -> int | None:
        """How often it may strike."""
        return 1 if self.once or self.nth is not None else self.count

    def meets(self, event: Event, default: frozenset[str], elapsed: float) -> bool:
        """Whether the event is of this kind and time. `default`: the PDUs that are meant where none are named."""
        return (
            event.pdu in (default if self.pdu is None else self.pdu)
            and (self.state is None or event.state == self.state)
            and (self.connection is None or event.connection in self.connection)
            and (self.lun is None or (event.lun is not None and event.lun == _field(self.lun)))
            and (self.command is None or event.opcode in self.command)
            and (self.lba is None or (event.blocks is not None and self.lba.meets(*event.blocks)))
            and (self.since is None or elapsed >= self.since)
            and (self.until is None or elapsed <= self.until)
        )

    def __str__(self) -> str:
        return ", ".join(_words(self)) or "always"


CONDITIONS: Final = {each.name: each.metadata for each in fields(When)}


def _field(number: int) -> int:
    from swd.proto import lun

    return lun.field(number)


def _words(when: When) -> list[str]:
    """The conditions for people, in the order in which they are asked."""
    names = {code: word for word, codes in COMMANDS.items() for code in codes}
    said = []
    if when.pdu is not None:
        said.append("on " + " or ".join(sorted(when.pdu)))
    if when.command is not None:
        said.append("of " + ", ".join(sorted({names.get(code, f"opcode 0x{code:02X}") for code in when.command})))
    simple = {"lba": "block", "lun": "LUN", "state": "in", "connection": "connection"}
    said += [f"{word} {getattr(when, name)}" for name, word in simple.items() if getattr(when, name) is not None]
    if when.since is not None:
        said.append(f"after {when.since:g} s")
    if when.until is not None:
        said.append(f"until {when.until:g} s")
    if when.nth is not None:
        said.append(f"the {_ordinal(when.nth)} time")
    if when.every is not None:
        said.append(f"every {_ordinal(when.every)} time" if when.every > 1 else "every time")
    if when.chance is not None:
        said.append(f"with probability {when.chance:g}")
    if when.limit is not None and when.nth is None:
        said.append("once" if when.limit == 1 else f"{when.limit} times at most")
    return said


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
