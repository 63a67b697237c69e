# SPDX-License-Identifier: Apache-2.0
"""Persistent reservations that outlive the server (APTPL, SPC-4 5.12.5): one JSON file for all units of a server.

It is written anew for each change, beside the old one, and takes its place in one step, so that a crash leaves the one
or the other. Units are known by their NAA name. What is in the file is judged when the server starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from swd.errors import InvalidArgument, MediumError
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reservations import ALL_REGISTRANTS, TYPES, Table

_VERSION: Final = 1


class ReservationFile:
    """The file at `path`, which need not be there yet. Raises InvalidArgument if it is not one of ours."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()  # guards _units and the file
        self._units: dict[str, Any] = self._read()

    def unit(self, name: str) -> UnitKeeper:
        """What keeps the reservations of the unit of that name."""
        return UnitKeeper(self, name)

    def load(self, name: str) -> Table:
        """What was kept of a unit; an empty table if nothing was. Raises InvalidArgument."""
        with self._lock:
            kept = self._units.get(name)
        if kept is None:
            return Table()
        try:
            return _table(kept)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._bad(f"what it says of unit {name} is not a reservation") from error

    def keep(self, name: str, table: Table) -> None:
        """Make one unit's state durable. Raises MediumError; the file then says what it said, if it can be written."""
        with self._lock:
            units = {**self._units, name: _record(table)}
            if not table.aptpl or not table.keys:
                del units[name]
            try:
                self._write(units)
            except MediumError:
                with contextlib.suppress(MediumError):  # it may have taken its place, and then not be durable
                    self._write(self._units)
                raise
            self._units = units

    def _write(self, units: Mapping[str, Any]) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        data = json.dumps({"version": _VERSION, "units": units}, indent=1).encode()
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise MediumError(f"cannot write {self.path}: {error.strerror}", errno=error.errno) from error

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise InvalidArgument(f"there is no folder {self.path.parent} to keep reservations in") from None
            return {}
        except OSError as error:
            raise InvalidArgument(f"cannot read {self.path}: {error.strerror}") from error
        except ValueError as error:  # no JSON, or no UTF-8
            raise self._bad("it is no JSON") from error
        if not isinstance(found, dict) or found.get("version") != _VERSION or not isinstance(found.get("units"), dict):
            raise self._bad("it is not of this version")
        return dict(found["units"])

    def _bad(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"{self.path} holds no reservations: {why}; give another file, or remove it")


class UnitKeeper:
    """One unit's part of the file (`registry.Keeper`)."""

    def __init__(self, file: ReservationFile, name: str) -> None:
        self._file, self._name = file, name

    def keep(self, table: Table) -> None:
        self._file.keep(self._name, table)


def _record(table: Table) -> dict[str, Any]:
    return {
        "type": table.kind,
        "registrations": [
            {
                "initiator": nexus.initiator_name,
                "isid": nexus.isid.hex(),
                "target": nexus.target_name,
                "portal_group": nexus.portal_group,
                "key": f"{key:016x}",
                "holder": nexus == table.holder,
            }
            for nexus, key in table.keys.items()
        ],
    }


def _table(kept: Mapping[str, Any]) -> Table:
    """The table of a record. Raises KeyError, TypeError, ValueError, AttributeError for what is none."""
    keys: dict[NexusId, int] = {}
    holders = []
    for one in kept["registrations"]:
        isid, key = bytes.fromhex(one["isid"]), int(one["key"], 16)
        nexus = NexusId(str(one["initiator"]), isid, str(one["target"]), int(one["portal_group"]))
        if len(isid) != 6 or not 0 < key < 1 << 64 or nexus in keys:
            raise ValueError("a registration")
        keys[nexus] = key
        holders += [nexus] if one["holder"] is True else []
    kind = kept["type"]
    lone = bool(kind) and kind not in ALL_REGISTRANTS
    if (kind and kind not in TYPES) or len(holders) != lone or not isinstance(kind, int) or (kind and not keys):
        raise ValueError("a reservation")
    return Table(keys, kind, holders[0] if holders else None, 0, aptpl=True)
