# SPDX-License-Identifier: Apache-2.0
"""What this host remembers: targets, addresses, session instances, units, wanted targets, last errors, statistics.

One SQLite file (WAL) in the state folder, used by many processes at once and never by an I/O. A handle lives for one
transaction, and no fork happens meanwhile: none is ever inherited. A file that is locked, not writable, corrupt or of
a newer version stops nobody: one warning, and from then on this process remembers in memory, starting from what could
still be read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from swd.driver import places
from swd.driver.registry_schema import SMALLEST_FREE, STEPS, UNITS, VERSION
from swd.errors import SwdError
from swd.proto import lun as lun_rules
from swd.proto.dev import HardwarePath, IscsiDev
from swd.values import Portal

FILE: Final = "registry.sqlite3"
BUSY: Final = 1.0  # seconds that a transaction waits for another process's
MAX_REASON: Final = 500  # characters of an error that are kept; a target may have chosen them

_T = TypeVar("_T")
_log = logging.getLogger("swd.driver")
_handles = threading.RLock()  # held while a handle is open, and by a fork: no child has a handle
_hosts: dict[Path, Registry] = {}
os.register_at_fork(before=_handles.acquire, after_in_parent=_handles.release, after_in_child=_handles.release)


@dataclass(frozen=True)
class Instance:
    """A way to a target: the number that its hardware paths begin with."""

    number: int
    target: str
    portal: Portal


@dataclass(frozen=True)
class KnownUnit:
    """A disk as it was last seen by one path. `lun` is the 64-bit field; sizes in bytes."""

    instance: Instance
    lun: int
    identity: str
    strong: bool
    size: int
    block_size: int
    last_seen: float

    @property
    def dev(self) -> IscsiDev:
        return IscsiDev(self.instance.portal, self.instance.target, self.lun)

    @property
    def hardware_path(self) -> HardwarePath | None:
        return hardware_path(self.instance.number, self.lun)


def hardware_path(instance: int, lun: int) -> HardwarePath | None:
    """bus n//128, target n//8 % 16, lun n % 8 of LUN number n; None for a SAM field that no number spells."""
    n = lun_rules.number(lun)
    return None if n is None else HardwarePath(instance, n // 128, n // 8 % 16, n % 8)


def host() -> Registry:
    """This host's registry: one object for each file and process."""
    path = places.state_folder() / FILE
    with _handles:
        return _hosts.setdefault(path, Registry(path))


class Registry:
    """A registry file; None: in memory. Methods raise nothing of SQLite's. Usable from many threads."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._memory: str | None = None if path else _dump_of_empty()

    @property
    def in_memory(self) -> bool:
        """Whether what is remembered from now on ends with this process."""
        return self._memory is not None

    # --- ways and units ----------------------------------------------------------------------------------------------

    def instance(self, target: str, portal: Portal) -> int:
        """The instance number of a way to a target: the one that is remembered, else the smallest that is free."""
        key = (target, portal.host.lower(), portal.port)

        def work(db: sqlite3.Connection) -> int:
            found = db.execute("SELECT number FROM instances WHERE target=? AND host=? AND port=?", key).fetchone()
            if found is None:
                found = db.execute(SMALLEST_FREE).fetchone()
                db.execute("INSERT INTO instances VALUES (?, ?, ?, ?)", (found[0], *key))
            db.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", (target, time.time()))
            return int(found[0])

        return self._run(work, write=True)

    def instances(self, target: str | None = None) -> list[Instance]:
        """The ways that are remembered, by number."""
        rows = self._rows("SELECT number, target, host, port FROM instances ORDER BY number")
        found = [Instance(number, name, Portal(host, port)) for number, name, host, port in rows]
        return [way for way in found if target in (None, way.target)]

    def remember(self, instance: int, lun: int, identity: str, strong: bool, size: int, block_size: int) -> None:
        """A disk was seen just now."""
        row = (instance, f"{lun:016x}", identity, int(strong), size, block_size, time.time())
        self._do("INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def units(self, target: str | None = None) -> list[KnownUnit]:
        """All disks that are remembered, by instance and LUN."""
        return [unit for unit in self._units(" ORDER BY number, lun") if target in (None, unit.instance.target)]

    def by_path(self, path: HardwarePath) -> KnownUnit | None:
        key = (path.session, f"{lun_rules.field(path.number):016x}")
        return next(iter(self._units(" WHERE number=? AND lun=?", key)), None)

    def by_identity(self, identity: str) -> list[KnownUnit]:
        """The paths to a disk of this strong identity, the one that was seen last first."""
        return self._units(" WHERE strong AND identity=? ORDER BY units.last_seen DESC, number", (identity,))

    def _units(self, clause: str, values: tuple[object, ...] = ()) -> list[KnownUnit]:
        return [
            KnownUnit(Instance(row[0], row[1], Portal(row[2], row[3])), int(row[4], 16), row[5], bool(row[6]), *row[7:])
            for row in self._rows(UNITS + clause, values)
        ]

    # --- targets, addresses, stories ---------------------------------------------------------------------------------

    def asked(self, address: Portal) -> None:
        """A discovery address answered."""
        row = (address.host.lower(), address.port, time.time())
        self._do("INSERT OR REPLACE INTO addresses VALUES (?, ?, ?)", row)

    def addresses(self) -> list[Portal]:
        return [Portal(*row) for row in self._rows("SELECT host, port FROM addresses ORDER BY host, port")]

    def targets(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT name FROM targets ORDER BY name")]

    def want(self, target: str) -> None:
        """The target is to be logged in to when the host starts."""
        self._do("INSERT OR IGNORE INTO wanted VALUES (?, ?)", (target, time.time()))

    def unwant(self, target: str) -> None:
        self._do("DELETE FROM wanted WHERE target=?", (target,))

    def wanted(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT target FROM wanted ORDER BY since, target")]

    def forget(self, target: str) -> None:
        """Everything about a target; its instance numbers are free again."""
        ways = "SELECT number FROM instances WHERE target=?"

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"DELETE FROM units WHERE instance IN ({ways})", (target,))  # noqa: S608  # a literal above
            for table, column in (("instances", "target"), ("wanted", "target"), ("targets", "name")):
                db.execute(f"DELETE FROM {table} WHERE {column}=?", (target,))  # noqa: S608  # literals above
            for table in ("errors", "statistics"):
                db.execute(f"DELETE FROM {table} WHERE subject=?", (target,))  # noqa: S608  # literals above

        self._run(work, write=True)

    def note_error(self, subject: str, error: SwdError | None) -> None:
        """The last error of a target or address; None: it works again."""
        if error is None:
            self._do("DELETE FROM errors WHERE subject=?", (subject,))
        else:
            row = (subject, error.errno or 0, error.reason[:MAX_REASON], time.time())
            self._do("INSERT OR REPLACE INTO errors VALUES (?, ?, ?, ?)", row)

    def errors(self) -> dict[str, str]:
        """Subject -> reason of the last error."""
        return dict(self._rows("SELECT subject, reason FROM errors ORDER BY subject"))

    def save_statistics(self, subject: str, counters: Mapping[str, int]) -> None:
        row = (subject, json.dumps(dict(counters)), time.time())
        self._do("INSERT OR REPLACE INTO statistics VALUES (?, ?, ?)", row)

    def statistics(self, subject: str) -> dict[str, int]:
        rows = self._rows("SELECT counters FROM statistics WHERE subject=?", (subject,))
        return dict(json.loads(rows[0][0])) if rows else {}

    # --- volume groups -----------------------------------------------------------------------------------------------

    def activate(self, name: str, record: Mapping[str, Any]) -> None:
        """A volume group is active; `record` is plain values, `swd.driver.volumes` knows what they mean."""
        self._do("INSERT OR REPLACE INTO volume_groups VALUES (?, ?)", (name, json.dumps(dict(record))))

    def deactivate(self, name: str) -> None:
        self._do("DELETE FROM volume_groups WHERE name=?", (name,))

    def activations(self) -> list[dict[str, Any]]:
        """The records of the active groups, by name."""
        return [json.loads(row[0]) for row in self._rows("SELECT record FROM volume_groups ORDER BY name")]

    # --- transactions ------------------------------------------------------------------------------------------------

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        return self._run(lambda db: db.execute(statement, values).fetchall())

    def _do(self, statement: str, values: tuple[object, ...]) -> None:
        self._run(lambda db: db.execute(statement, values).rowcount, write=True)

    def _run(self, work: Callable[[sqlite3.Connection], _T], *, write: bool = False) -> _T:
        with _handles:
            if self._memory is None and self.path is not None:
                try:
                    return _on_file(self.path, work, write)
                except (sqlite3.Error, OSError) as error:
                    self._fall_back(self.path, error)
            with closing(_connect(":memory:")) as db:
                db.executescript(self._memory or "")
                answer = work(db)
                if write:
                    self._memory = "\n".join(db.iterdump())
                return answer

    def _fall_back(self, path: Path, error: Exception) -> None:
        _log.warning(
            "the registry %s cannot be used (%s): what is learned now is forgotten when this process ends", path, error
        )
        self._memory = _dump_of_empty()
        # Even a reader needs room for the shared memory of WAL: where there is none, the file as it stands must do.
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            with contextlib.suppress(sqlite3.Error, OSError):
                self._memory = _dump(f"{path.absolute().as_uri()}?{mode}")
                return


def _on_file(path: Path, work: Callable[[sqlite3.Connection], _T], write: bool) -> _T:
    if not path.exists():
        if not write:
            return _on_empty(work)
        _create(path)
    with closing(_connect(str(path))) as db:
        _migrate(db)
        db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        answer = work(db)
        db.execute("COMMIT")
        return answer


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=BUSY, isolation_level=None, uri=uri)


def _create(path: Path) -> None:
    """A whole new file, by a link, which fails where another process was first: nobody meets a file half made."""
    places.private_folder(path.parent, 0o755 if os.geteuid() == 0 else 0o700)
    fd, temporary = tempfile.mkstemp(prefix=f".{FILE}.", dir=path.parent)
    os.close(fd)
    try:
        with closing(_connect(temporary)) as db:
            # Kept in the file, as no other mode is: set once, before anybody else has it open.
            db.execute("PRAGMA journal_mode=WAL")
            _migrate(db)
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_version(db: sqlite3.Connection) -> None:
    if _version(db) > VERSION:
        raise sqlite3.DatabaseError(f"it is of version {_version(db)}, and this swd knows {VERSION}: update swd")


def _migrate(db: sqlite3.Connection) -> None:
    _check_version(db)
    if _version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    for step in STEPS[_version(db) :]:  # asked again: another process may have been first
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")


def _on_empty(work: Callable[[sqlite3.Connection], _T]) -> _T:
    with closing(_connect(":memory:")) as db:
        _migrate(db)
        return work(db)


def _dump(uri: str) -> str:
    with closing(_connect(uri, uri=True)) as db:
        _check_version(db)
        return "\n".join(db.iterdump()) if _version(db) == VERSION else _dump_of_empty()


def _dump_of_empty() -> str:
    return _on_empty(lambda db: "\n".join(db.iterdump()))
