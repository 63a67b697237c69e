# SPDX-License-Identifier: Apache-2.0
"""A fault plan: what goes wrong, and when. As Python objects, or as TOML; checked as a whole before anything runs.

    Plan([Fault("reset", pdu="DATA_IN", nth=3), Fault("busy", command="WRITE", every=10)], seed=7)

    seed = 7
    [[fault]]
    do = "reset"
    pdu = "DATA_IN"
    nth = 3
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from swd.errors import InvalidArgument, MediumError
from swd.proto import pdu as _pdu
from swd.target.faults import words
from swd.target.faults.conditions import CONDITIONS, When
from swd.target.faults.kinds import KINDS, REQUIRED, Kind, allowed

MAX_PLAN = 1 << 20  # bytes of a plan's text


class Fault:
    """One fault: a kind (`swd.target.faults.KINDS`), its settings, and its conditions, all by name.

    `when`: the conditions; `settings`: the rest, with defaults filled in. Raises InvalidArgument for an unknown word or
    a wrong value.
    """

    __slots__ = ("kind", "settings", "when")

    def __init__(self, do: str, /, **keys: object) -> None:
        kind = KINDS.get(do)
        if kind is None:
            raise InvalidArgument(f"there is no fault {str(do)[:40]!a}{words.nearest(str(do)[:40], tuple(KINDS))}")
        self.kind: Kind = kind
        known = {name: row["read"] for name, row in CONDITIONS.items()}
        known.update({one.name: one.read for one in kind.params})
        values: dict[str, object] = {}
        for key, value in keys.items():
            if key not in known:
                raise _Wrong(key, f"{do} has no {key[:40]!a}{words.nearest(key[:40], tuple(known))}")
            try:
                values[key] = known[key](value)
            except ValueError as error:
                raise _Wrong(key, f"{do}: {key} is {words.shown(value)}, but has to be {error}") from None
        self.settings: Mapping[str, Any] = MappingProxyType(_settings(kind, values))
        self.when = When(**{key: value for key, value in values.items() if key in CONDITIONS})  # type: ignore[arg-type]
        _check(self)

    def __repr__(self) -> str:
        return f"<Fault {self}>"

    def __str__(self) -> str:
        shown = ", ".join(f"{key} = {words.line(value)}" for key, value in self.settings.items() if value is not None)
        pdus = "" if self.when.pdu is not None else "on " + " or ".join(self.kind.pdus) + ", "
        when = str(self.when)
        return f"{self.kind.name}{f' ({shown})' if shown else ''}: {pdus}{when}".replace(", always", ", every time")

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Fault) and (self.kind.name, self.when) == (other.kind.name, other.when)
        return same and dict(self.settings) == dict(other.settings)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.kind.name, self.when))


@dataclass(frozen=True)
class Plan:
    """Faults in the order in which they are tried; `seed` is for their dice. An empty plan does nothing."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        object.__setattr__(self, "faults", tuple(faults))
        object.__setattr__(self, "seed", seed)
        if abs(seed) > words.MOST:
            raise InvalidArgument("seed has to be a whole number of at most 64 bits")
        for fault in self.faults:
            if not isinstance(fault, Fault):
                raise TypeError(f"a plan is made of Faults, not of {type(fault).__name__}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """The plan in a TOML file. Raises InvalidArgument that begins with file and line; MediumError with the
        errno of the file.
        """
        name = os.fspath(path)
        try:
            with open(name, "rb") as file:
                data = file.read(MAX_PLAN + 1)
        except OSError as error:
            raise MediumError(f"the fault plan {name} cannot be read: {error.strerror}", errno=error.errno) from error
        if len(data) > MAX_PLAN:
            raise InvalidArgument(f"the fault plan {name} is longer than {MAX_PLAN} bytes: is it one?")
        try:
            return cls.parse(data.decode(), name)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"the fault plan {name} is no text in UTF-8: is it one?") from error

    @classmethod
    def parse(cls, text: str, source: str = "fault plan") -> Plan:
        """The plan in TOML text; `source` stands before what is wrong with it, with the line."""
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            found = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidArgument(f"{source}: not valid TOML: {error}") from error
        except ValueError as error:  # what int() says of it
            raise InvalidArgument(f"{source}: not valid TOML: a number of thousands of digits") from error
        places = _Places(text, source)
        for key in found:
            if key not in ("seed", "fault"):
                raise InvalidArgument(f"{places.of(key)}: a plan has no {key[:40]!a}{words.nearest(key, _TOP)}")
        seed, tables = found.get("seed", 0), found.get("fault", [])
        if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) > words.MOST:
            raise InvalidArgument(f"{places.of('seed')}: seed has to be a whole number of at most 64 bits")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise InvalidArgument(f"{places.of('fault')}: faults are written as [[fault]] tables")
        return cls([_fault(number, table, places) for number, table in enumerate(tables)], seed)

    def explain(self) -> list[str]:
        """What it will do, a line a fault."""
        return [f"{number}. {fault} -- {fault.kind.help}" for number, fault in enumerate(self.faults, 1)]


_TOP = ("seed", "fault")


class _Wrong(InvalidArgument):
    """With the key that is wrong, so that its line can be named."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


class _Places:
    """Where the keys of a plan stand in its text, for messages: "plan.toml:7"."""

    def __init__(self, text: str, source: str) -> None:
        self._lines = text.split("\n")
        self._source = source
        self._tables = [number for number, line in enumerate(self._lines, 1) if _HEADER.match(line)]

    def of(self, key: str, table: int | None = None) -> str:
        """Of a key in the n-th [[fault]] (None: before the first); the table's own line where the key is not seen."""
        first = 0 if table is None or table >= len(self._tables) else self._tables[table]
        number = next(self._found(key, first), first)
        return f"{self._source}:{number}" if number else self._source

    def _found(self, key: str, first: int) -> Iterator[int]:
        wanted = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=\]]""")
        for number, line in enumerate(self._lines[first:], first + 1):
            if first and _HEADER.match(line):
                return
            if wanted.match(line):
                yield number


_HEADER = re.compile(r"\s*\[\[\s*[\"']?fault[\"']?\s*\]\]")


def _fault(number: int, table: dict[str, Any], places: _Places) -> Fault:
    keys = {key: value for key, value in table.items() if key != "do"}
    if not isinstance(table.get("do"), str):
        raise InvalidArgument(f"{places.of('do', number)}: fault {number + 1} does not say what to do: do = \"...\"")
    try:
        return Fault(table["do"], **keys)
    except _Wrong as error:
        raise InvalidArgument(f"{places.of(error.key, number)}: {error.reason}") from None
    except InvalidArgument as error:
        raise InvalidArgument(f"{places.of('do', number)}: {error.reason}") from None


def _settings(kind: Kind, values: Mapping[str, object]) -> dict[str, object]:
    settings = {}
    for param in kind.params:
        settings[param.name] = values.get(param.name, param.default)
        if settings[param.name] is REQUIRED:
            raise InvalidArgument(f"{kind.name} needs {param.name}: {param.help}; as in {kind.example}")
    return settings


def _check(fault: Fault) -> None:
    """What no reader of one value can see."""
    kind, when = fault.kind, fault.when
    if when.pdu is None and not kind.pdus:
        raise InvalidArgument(f"{kind.name} needs pdu; as in {kind.example}")
    wrong = sorted((when.pdu or frozenset()) - frozenset(allowed(kind)))
    if wrong:
        raise _Wrong("pdu", f"{kind.name} cannot strike {wrong[0]}, only {', '.join(allowed(kind))}")
    if kind.name == "wrong_field":
        for name in when.pdu or ():
            record = _pdu.RECORDS[_pdu.Opcode[name]]
            fields = tuple(place.name for place in record.layout)
            if fault.settings["field"] not in fields:
                raise _Wrong("field", f"{name} has no field {fault.settings['field']!a}: {', '.join(fields)}")
