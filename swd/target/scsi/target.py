# SPDX-License-Identifier: Apache-2.0
"""The SCSI target device: its logical units, its nexuses, and where a command goes (SAM-5 4.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from swd._targetpath import Gate
from swd.proto import lun as lun_field
from swd.target.config import TargetConfig
from swd.target.scsi import inquiry
from swd.target.scsi.nexus import ACCESS_STATE_CHANGED, CLEARED_BY_ANOTHER, DEVICE_RESET, Nexus, NexusId, NexusTable
from swd.target.scsi.reply import CheckCondition, Outcome, Request
from swd.target.scsi.unit import LogicalUnit, absent

if TYPE_CHECKING:
    from swd.target.normal import NormalSession
    from swd.target.store import ReservationFile

_REPORT_LUNS = 0xA0
_HARMLESS = frozenset(  # commands that change at most blocks, and attentions of the nexus that sent them
    {0x00, 0x03, 0x08, 0x0A, 0x12, 0x1A, 0x25, 0x28, 0x2A, 0x2F, 0x35, 0x41, 0x42, 0x5A, 0x88, 0x8A, 0x8F, 0x91, 0x93}
    | {0x9E, 0xA0, 0xA8, 0xAA, 0xAF}
)


class ScsiTarget:
    """All units of one target node, keyed by the 64-bit LUN field as it stands in a PDU."""

    def __init__(self, config: TargetConfig, portal_groups: tuple[int, ...] = ()) -> None:
        self.name = config.name
        self.groups = config.alua
        self.portal_groups = portal_groups or (config.alua.tags if config.alua else (config.portal_group,))
        self.units = {
            lun_field.field(number): LogicalUnit(self, number, lun) for number, lun in sorted(config.luns.items())
        }
        self.nexuses = NexusTable(tuple(self.units))
        self.abort: Callable[[int, Iterable[NexusId]], None] = lambda _lun, _nexuses: None  # until there is a node
        self.still: Callable[[], AbstractContextManager[Sequence[NormalSession]]] = lambda: nullcontext(())
        self.gate = Gate()  # touched after every change of what `LogicalUnit.unhindered` says
        for number, lun in config.luns.items():
            field = lun_field.field(number)
            lun.script.listen(partial(self.establish, field))
            lun.script.watch(self.gate.touch)
            lun.state.serve(self, field)
        if self.groups is not None:
            self.groups.listen(self._access_changed)

    @property
    def luns(self) -> tuple[int, ...]:
        """The LUN fields, in order of their numbers."""
        return tuple(self.units)

    def execute(self, lun: int, request: Request) -> Outcome:
        """Start a command on a unit, or say that there is none. Never raises."""
        if request.cdb[0] == _REPORT_LUNS:  # the device's own, whichever LUN it is sent to, attentions pending or not
            try:
                return inquiry.report_luns(self.luns, request.cdb)
            except CheckCondition as error:
                return error.reply
        unit = self.units.get(lun)
        outcome = unit.execute(request) if unit else absent(request)
        self.executed(lun, request.cdb)
        return outcome

    def executed(self, lun: int, cdb: bytes) -> None:
        """A command has been started, or finished: what other sessions may do could be something else now."""
        if cdb[0] not in _HARMLESS and lun in self.units:
            self.units[lun].state.touch()

    def restore(self, file: ReservationFile) -> None:
        """Take up the reservations that were kept, and keep what changes. Raises InvalidArgument."""
        for unit in self.units.values():
            name = inquiry.naa(unit.serial).hex()
            unit.state.registry.restore(file.load(name), file.unit(name))

    def reset_unit(self, lun: int) -> None:
        """What LOGICAL UNIT RESET leaves behind: an attention for every nexus, state as at power on (SAM-5 6.3.3)."""
        self.units[lun].state.reset()
        self.establish(lun, DEVICE_RESET)

    def reset(self, attention: tuple[int, int]) -> None:
        """What a reset of the whole target leaves behind, on all units and for every nexus."""
        for lun, unit in self.units.items():
            unit.state.reset()
            self.establish(lun, attention)

    def lost(self, nexus: NexusId) -> None:
        """An I_T nexus has gone: its session ended, whichever way (SAM-5 6.3.4)."""
        for unit in self.units.values():
            unit.state.lost(nexus)

    def abort_tasks_of(self, lun: int, nexuses: Iterable[NexusId]) -> None:
        """PREEMPT AND ABORT: the commands of those nexuses end without a word (SPC-4 5.12.11.5)."""
        self.abort(lun, nexuses)

    def _access_changed(self, by: int | None) -> None:
        for lun in self.units:
            for nexus in self.nexuses.all():
                if id(nexus) != by:
                    nexus.establish(lun, ACCESS_STATE_CHANGED)
        self.gate.touch()

    def cleared(self, lun: int, nexus: Nexus) -> None:
        """CLEAR TASK SET took commands of this nexus away: it is to know (SAM-5 7.4)."""
        nexus.establish(lun, CLEARED_BY_ANOTHER)
        self.gate.touch()

    def establish(
        self, lun: int, attention: tuple[int, int], concerns: Callable[[NexusId], bool] = lambda _nexus: True
    ) -> None:
        """Queue a unit attention of one unit for every nexus that it concerns."""
        self.nexuses.establish(lun, attention, concerns)
        self.gate.touch()
