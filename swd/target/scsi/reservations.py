# SPDX-License-Identifier: Apache-2.0
"""Who may use a logical unit: persistent reservations (SPC-4 5.12) and RESERVE(6) (SPC-2 5.5), as rules over a table.

`Table` is the state as one frozen record; a service action is a function that gives the next one, or says conflict.
What has to be told to whom comes out beside it. No CDBs, no bytes, no lock: `registry` has those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from swd.errors import SwdError
from swd.target.scsi.nexus import (
    REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED,
    NexusId,
)

WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 0x1, 0x3
WRITE_EXCLUSIVE_RO, EXCLUSIVE_ACCESS_RO, WRITE_EXCLUSIVE_AR, EXCLUSIVE_ACCESS_AR = 0x5, 0x6, 0x7, 0x8
TYPES: Final = frozenset({0x1, 0x3, 0x5, 0x6, 0x7, 0x8})
REGISTRANTS_ONLY: Final = frozenset({0x5, 0x6, 0x7, 0x8})  # every registered nexus has access
ALL_REGISTRANTS: Final = frozenset({0x7, 0x8})  # every registered nexus holds the reservation
_READERS_ALLOWED: Final = frozenset({0x1, 0x5, 0x7})

# What a command needs: nothing that anybody guards; what RESERVE(6) guards but persistent reservations do not; to read
# the medium or what belongs to it; to change it.
NOTHING, FREE, READ, WRITE = "nothing", "free", "read", "write"

Attention = tuple[int, int]


class Conflict(SwdError):
    """The service action ends with RESERVATION CONFLICT."""


class BadRelease(SwdError):
    """Scope or type of a RELEASE are not those of the reservation (5.12.11.2.1)."""


class BadParameter(SwdError):
    """A field of the parameter list is wrong."""


@dataclass(frozen=True)
class Table:
    """Registrations by nexus, and the reservation: `kind` 0 is none; `holder` is None for the all-registrants types."""

    keys: Mapping[NexusId, int] = field(default_factory=lambda: MappingProxyType({}))
    kind: int = 0
    holder: NexusId | None = None
    generation: int = 0
    aptpl: bool = False  # keep it all over a loss of power (ACTIVATE PERSIST THROUGH POWER LOSS)

    def holds(self, nexus: NexusId) -> bool:
        """Whether the nexus is a reservation holder."""
        return bool(self.kind) and (nexus in self.keys if self.kind in ALL_REGISTRANTS else nexus == self.holder)

    def refuses(self, nexus: NexusId, need: str) -> bool:
        """Whether a command conflicts (table 63 of SPC-4 5.12.1)."""
        if not self.kind or need in (NOTHING, FREE) or self.holds(nexus):
            return False
        if nexus in self.keys and self.kind in REGISTRANTS_ONLY:
            return False
        return not (need == READ and self.kind in _READERS_ALLOWED)

    @property
    def reservation_key(self) -> int:
        """As READ RESERVATION reports it: 0 for the all-registrants types."""
        return self.keys[self.holder] if self.holder is not None else 0


class Told(NamedTuple):
    """A unit attention, for one nexus."""

    nexus: NexusId
    attention: Attention


class Step(NamedTuple):
    """The next table, whom to tell, and whose tasks to abort."""

    table: Table
    told: tuple[Told, ...] = ()
    aborted: tuple[NexusId, ...] = ()


def register(table: Table, nexuses: list[NexusId], key: int, *, aptpl: bool) -> Step:
    """Register the first nexus anew or with another key, and others beside it; key 0 takes registrations away."""
    if not key:
        return unregister(table, nexuses, aptpl=aptpl)
    keys = {**table.keys, **dict.fromkeys(nexuses, key)}
    return Step(replace(table, keys=keys, aptpl=aptpl, generation=_next(table)))


def unregister(table: Table, nexuses: list[NexusId], *, aptpl: bool) -> Step:
    """A holder's unregistration releases; registrants-only types tell the others so (5.12.11.3)."""
    keys = {nexus: key for nexus, key in table.keys.items() if nexus not in nexuses}
    after = replace(table, keys=keys, aptpl=aptpl, generation=_next(table))
    ends = table.holder in nexuses if table.kind not in ALL_REGISTRANTS else not keys
    if not table.kind or not ends:
        return Step(after)
    told = _tell(after, nexuses, RESERVATIONS_RELEASED) if table.kind in REGISTRANTS_ONLY else ()
    return Step(replace(after, kind=0, holder=None), told)


def reserve(table: Table, nexus: NexusId, kind: int) -> Step:
    """Raises Conflict if somebody else holds it, or this nexus does with another type (5.12.9)."""
    if not table.kind:
        return Step(_held(table, nexus, kind))
    if table.holds(nexus) and table.kind == kind:
        return Step(table)
    raise Conflict("the unit is reserved")


def release(table: Table, nexus: NexusId, kind: int) -> Step:
    """Nothing to do for who holds nothing (5.12.11.2.1). Raises BadRelease."""
    if not table.holds(nexus):
        return Step(table)
    if kind != table.kind:
        raise BadRelease("the type is not that of the reservation")
    after = replace(table, kind=0, holder=None)
    told = _tell(after, [nexus], RESERVATIONS_RELEASED) if table.kind in REGISTRANTS_ONLY else ()
    return Step(after, told)


def clear(table: Table, nexus: NexusId) -> Step:
    """Everything goes; the others are told (5.12.11.6). APTPL is as it was: nothing is left to keep."""
    after = replace(table, keys={}, kind=0, holder=None, generation=_next(table))
    return Step(after, _tell(table, [nexus], RESERVATIONS_PREEMPTED))


def preempt(table: Table, nexus: NexusId, victim_key: int, kind: int) -> Step:
    """Take registrations away by key, and the reservation with its holder's (5.12.11.4).

    Raises Conflict if no registration has the key, BadParameter for key 0 where it has no meaning.
    """
    everyone = table.kind in ALL_REGISTRANTS and not victim_key
    if not victim_key and not everyone:
        raise BadParameter("the key of nobody")
    victims = [other for other, key in table.keys.items() if everyone or key == victim_key]
    if not victims and not everyone:
        raise Conflict("nobody is registered with this key")
    takes_over = everyone or (table.holder is not None and table.keys[table.holder] == victim_key)
    gone = tuple(victim for victim in victims if victim != nexus)
    keys = {other: key for other, key in table.keys.items() if other not in gone}
    after = replace(table, keys=keys, generation=_next(table))
    told = tuple(Told(victim, REGISTRATIONS_PREEMPTED) for victim in gone)
    if takes_over:
        if kind != table.kind:
            told += _tell(after, [nexus], RESERVATIONS_RELEASED)
        after = _held(after, nexus, kind)
    return Step(after, told, gone)


def move(table: Table, nexus: NexusId, to: NexusId, key: int, *, unregister_old: bool, aptpl: bool) -> Step:
    """Register another nexus and hand the reservation over (REGISTER AND MOVE, 5.12.8). Raises Conflict."""
    if not table.holds(nexus) or table.kind in ALL_REGISTRANTS:
        raise Conflict("only the one holder can move a reservation")
    if not key or to == nexus:
        raise BadParameter("a reservation moves to another nexus, with a key")
    keys = {other: old for other, old in table.keys.items() if not (unregister_old and other == nexus)} | {to: key}
    return Step(replace(table, keys=keys, holder=to, aptpl=aptpl, generation=_next(table)))


def _held(table: Table, nexus: NexusId, kind: int) -> Table:
    return replace(table, kind=kind, holder=None if kind in ALL_REGISTRANTS else nexus)


def _tell(table: Table, besides: list[NexusId], attention: Attention) -> tuple[Told, ...]:
    return tuple(Told(nexus, attention) for nexus in table.keys if nexus not in besides)


def _next(table: Table) -> int:
    return (table.generation + 1) & 0xFFFFFFFF
