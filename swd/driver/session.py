# SPDX-License-Identifier: Apache-2.0
"""`swd.Session`: the session of the iSCSI rank, with the disks that are reached through it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from swd import messages
from swd.disk import Disk
from swd.driver import known, places
from swd.driver.errnos import During, translated
from swd.driver.row import host_registry
from swd.errors import ConnectionLost, SwdError
from swd.iscsi import session as _session
from swd.proto import lun as _lun
from swd.proto.options import Options
from swd.proto.recovery import Path
from swd.scsi import opcodes
from swd.scsi.probe import list_luns
from swd.scsi.unit import LogicalUnit
from swd.values import Chap, Portal, ScsiResult

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from swd.driver.registry import Registry

_log = logging.getLogger(__name__)


class Session(_session.Session):
    """A session with a target: raw commands, and its logical units as disks. Usable from many threads.

    All disks of one logical unit share its range lock, so that their unaligned writes do not undo each other.
    """

    def __init__(
        self,
        portal: Portal,
        target_name: str,
        *,
        chap: Chap | None,
        options: Options,
        initiator_name: str,
        registry: Callable[[], Registry] = host_registry,
    ) -> None:
        self._registry = registry
        self._probing = threading.Lock()  # held while a unit is probed, so that it is probed once
        self._units_lock = threading.Lock()  # guards _units; nobody waits under it, for recovery takes it, too
        self._units: dict[int, _Held] = {}
        self._changed: dict[int, SwdError] = {}  # units that are another disk now
        super().__init__(portal, target_name, chap=chap, options=options, initiator_name=initiator_name)

    def unit(self, lun: int, *, writable: bool | None = None, on_close: Callable[[], None] | None = None) -> Disk:
        """The disk behind a LUN (a number 0..16383, or the 64-bit SAM field). `on_close` is called once, by its
        `close`.

        `writable` None: unless the unit is write protected. Raises `NoSuchDevice` where the target has no such unit,
        `Unsupported` where it is no disk, and `MediumError` with EROFS for writing to one that is write protected.
        """
        field = _lun.field(lun)
        held = self._hold(field)
        try:
            writable = not held.unit.read_only if writable is None else writable
            stable = {"copy": True, "none": False}.get(self.options.stable_writes or "")
            let_go = functools.partial(self._let_go, field, held, on_close)
            return Disk(held.unit, writable=writable, on_close=let_go, stable_writes=stable)
        except BaseException:
            self._let_go(field, held, None)
            raise

    def _hold(self, field: int) -> _Held:
        with self._probing:
            held = self._held(field)
            if held is None:
                if self._changed.pop(field, None):  # whoever opens it anew wants the disk that is there now
                    self._bar(dict(self._changed))
                with translated(During.OPEN, f"LUN {_lun.text(field)}"):
                    held = _Held(self._probe(field))
                with self._units_lock:
                    self._units[field] = held
            return held

    def _held(self, field: int) -> _Held | None:
        """A unit that is in use already, and is by one more now."""
        with self._units_lock:
            held = self._units.get(field)
            if held is not None:
                held.users += 1
            return held

    def _probe(self, field: int) -> LogicalUnit:
        strict = self.options.cache_loss == "strict"
        return LogicalUnit(self, field, timeout=self.options.timeout, strict_cache_loss=strict)

    def _let_go(self, field: int, held: _Held, then: Callable[[], None] | None) -> None:
        with self._units_lock:
            held.users -= 1
            last = held.users == 0
            if last:
                del self._units[field]
        if last:
            held.unit.close()
        if then is not None:
            then()

    def _in_use(self) -> dict[int, LogicalUnit]:
        with self._units_lock:
            return {field: held.unit for field, held in self._units.items()}

    def _standby_paths(self) -> list[Path]:
        """Asked when the link is lost. Where the registry cannot be asked there are none."""
        try:
            return known.standby(self._in_use(), self._registry())
        except SwdError:
            return []

    def _fence_units(self) -> None:
        for field in self._in_use():
            if field not in self._changed and not self._aborts(_session.LUN_RESET, field):
                raise ConnectionLost(
                    f"LUN {_lun.text(field)} at {self.portal} could not be reset: no replay without that"
                )

    def _verify_units(self) -> None:
        """Asks each unit in use whether it is still the disk that was opened; those that are not get nothing more."""
        for field, unit in self._in_use().items():
            error = unit.confirm(_Ahead(self))
            if error is not None:
                self._changed[field] = error
                self.tally.add("stale_identity")
                messages.say(_log, "SWD_LOG_STALE_IDENTITY", portal=self.portal, lun=_lun.text(field), why=error)
        self._bar(dict(self._changed))

    def _patience(self, cdb: bytes) -> int:
        return opcodes.lookup(cdb).patience if cdb else 1

    def _keep_headers(self) -> None:
        """The last headers into a file (0600) of the run-time folder, one a process; where that cannot be, nothing."""
        headers = self.last_headers()
        folder = places.runtime_folder()
        place = folder / f"last-headers-{os.getpid()}.txt"
        lines = [f"{at:.6f} {direction:>3} {bhs.hex(' ', 4)}" for direction, at, bhs in headers]
        text = f"{self!r}\nmonotonic s, direction, header\n" + "\n".join(lines) + "\n"
        with contextlib.suppress(OSError):
            places.private_folder(folder, 0o755 if os.geteuid() == 0 else 0o700)
            places.write_atomically(place, text.encode(), 0o600)
            messages.say(_log, "SWD_LOG_LAST_HEADERS", portal=self.portal, count=len(headers), place=place)

    def luns(self) -> list[int]:
        """The LUNs that the target reports: numbers, or SAM fields where no number spells one."""
        with translated(During.IO, "REPORT LUNS"):
            return [field if (number := _lun.number(field)) is None else number for field in list_luns(self)]


class _Ahead:
    """The session as recovery sees it: commands that go before everything that waits."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.read_blocks, self.write_blocks, self.batch = session.read_blocks, session.write_blocks, session.batch

    def straight(self, _lun: int, _timeout: float | None = None) -> None:
        """There is none ahead of the others."""

    def execute(
        self, cdb: bytes, *, lun: int, data_out: Buffer | None = None, data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult:
        return self._session.execute(cdb, lun=lun, data_out=data_out, data_in=data_in, timeout=timeout, ahead=True)


class _Held:
    """A logical unit and how many disks stand on it."""

    def __init__(self, unit: LogicalUnit) -> None:
        self.unit = unit
        self.users = 1
