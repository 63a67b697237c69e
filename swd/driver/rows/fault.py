# SPDX-License-Identifier: Apache-2.0
"""`fault://?plan=PLAN&on=DEV`: any device behind a fault plan, for those who test what stands on a Disk.

The plan is that of the embedded target (`docs/faults.md`), but there is no wire here: only kinds that end, delay or
falsify a command mean something, and only conditions that speak of commands, blocks, time and counting. What fails,
fails with the error that an iSCSI unit would give after its retries. Each open counts and rolls its dice by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from swd import strided
from swd.disk import Disk
from swd.driver.row import Unit, Wanted
from swd.driver.rows import _block
from swd.errors import ConnectionLost, DeadlineExceeded, InvalidArgument, SwdError, Unsupported
from swd.proto.sense import parse as parse_sense
from swd.proto.url import FaultDev
from swd.scsi import cdb, policy
from swd.target.faults import KINDS, Fault, Injector, Plan
from swd.target.faults.conditions import Event
from swd.values import ScsiResult

if TYPE_CHECKING:
    from swd._rangelock import RangeLock
    from swd.driver.ioctl import Request
    from swd.ioqueue import BlockUnit, Buffer

_ON_A_WIRE: Final = ("pdu", "state", "connection", "lun")  # conditions that nothing here could meet
_BUSY, _TASK_SET_FULL, _CONFLICT, _CHECK_CONDITION = 0x08, 0x28, 0x18, 0x02
_FLUSH, _UNMAP, _WRITE_SAME = 0x35, 0x42, 0x93


def attach(dev: FaultDev, wanted: Wanted) -> Unit:
    """Raises what reading the plan and attaching the other device do; `Unsupported` for kinds that need a wire."""
    from swd.driver.devsw import find

    plan = Plan.load(dev.plan)
    for number, fault in enumerate(plan.faults, 1):
        _check(f"{dev.plan}: fault {number}", fault)
    row = find(dev.on)
    inner = row.attach(dev.on, wanted)
    try:
        faulty = FaultyUnit(inner.disk.unit, Injector(plan))
        disk = Disk(
            faulty,
            writable=wanted.writable,
            on_close=lambda: row.detach(inner),
            stable_writes=inner.disk.stable_writes,
        )
        return Unit(find(dev), str(dev), wanted.writable, disk, kept=inner)
    except BaseException:
        row.detach(inner)
        raise


def ioctl(unit: Unit, request: Request, arg: Any) -> object:
    """Those of a disk, with the faults that were injected among the statistics; others go to the device behind."""
    try:
        answer = _block.ioctl(unit, request, arg)
    except Unsupported:
        return unit.kept.row.ioctl(unit.kept, request, arg)
    if isinstance(answer, dict):
        faulty = unit.disk.unit
        assert isinstance(faulty, FaultyUnit)
        answer["faults"] = faulty.injector.counts
    return answer


def _check(place: str, fault: Fault) -> None:
    if not fault.kind.block:
        able = ", ".join(sorted(kind.name for kind in KINDS.values() if kind.block))
        raise Unsupported(f"{place}: {fault.kind.name} needs a wire; a DEV can have {able}")
    for name in _ON_A_WIRE:
        if getattr(fault.when, name) is not None:
            raise InvalidArgument(f"{place}: {name} says nothing of a DEV: leave it out")


class FaultyUnit:
    """A `BlockUnit` that does what another does, but for the plan."""

    def __init__(self, unit: BlockUnit, injector: Injector) -> None:
        self.unit = unit
        self.injector = injector
        self.block_size = unit.block_size
        self.blocks = unit.blocks
        self.physical_block_size = unit.physical_block_size
        self.read_only = unit.read_only
        self.identity = unit.identity
        self.max_transfer = unit.max_transfer
        self.lock: RangeLock = unit.lock

    @property
    def cache_losses(self) -> int:
        return self.unit.cache_losses

    def read_blocks(self, lba: int, buffer: Buffer) -> None:
        self._read(lba, memoryview(buffer).cast("B"), self._due(False, lba, memoryview(buffer).nbytes))

    def write_blocks(self, lba: int, buffer: Buffer) -> None:
        self._write(lba, memoryview(buffer).cast("B"), self._due(True, lba, memoryview(buffer).nbytes))

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        """As one batch where no fault strikes, else one I/O after the other."""
        starts = memoryview(lbas).cast("B").cast("q")
        if not len(starts):
            return []
        size = memoryview(buffer).nbytes // len(starts)
        due = [self._due(write, lba, size) for lba in starts]
        if not any(due):
            return self.unit.batch(write, lbas, buffer, queue_depth=queue_depth)
        one, failures = self._write if write else self._read, []
        parts = strided.each(buffer, len(starts))
        for index, (lba, faults, part) in enumerate(zip(starts, due, parts, strict=True)):
            try:
                one(lba, part, faults)
            except SwdError as error:
                failures.append((index, error))
        return failures

    def flush(self) -> None:
        self._whole(bytes([_FLUSH, *bytes(9)]), 0, 0, self.unit.flush)

    def discard(self, lba: int, blocks: int) -> None:
        self._whole(bytes([_UNMAP, *bytes(9)]), lba, blocks, lambda: self.unit.discard(lba, blocks))

    def zero(self, lba: int, blocks: int) -> None:
        self._whole(bytes([_WRITE_SAME, *bytes(15)]), lba, blocks, lambda: self.unit.zero(lba, blocks))

    def close(self) -> None:
        """Whoever attached the other unit lets it go."""

    def _due(self, write: bool, lba: int, length: int) -> list[Fault]:
        blocks = length // self.block_size
        return self._strikes((cdb.write if write else cdb.read)(lba, blocks)[0], lba, blocks)

    def _strikes(self, opcode: int, lba: int, blocks: int) -> list[Fault]:
        self.blocks = self.unit.blocks  # it may have grown
        return self.injector.due("block", Event("", "", 0, None, opcode, (lba, blocks)))

    def _read(self, lba: int, view: memoryview, faults: list[Fault]) -> None:
        command = cdb.read(lba, len(view) // self.block_size)
        self._suffer(command, faults)
        self.unit.read_blocks(lba, view)
        for fault in self._of(faults, "wrong_data"):
            view[fault.settings["byte"] % len(view)] ^= 0x40
        for _ in self._of(faults, "short_read"):
            raise policy.short_transfer(ScsiResult(0, b"", None, len(view) // 2), command)

    def _write(self, lba: int, view: memoryview, faults: list[Fault]) -> None:
        self._suffer(cdb.write(lba, len(view) // self.block_size), faults)
        if not self._of(faults, "lost_write"):
            self.unit.write_blocks(lba, view)

    def _whole(self, command: bytes, lba: int, blocks: int, call: Callable[[], None]) -> None:
        self._suffer(command, self._strikes(command[0], lba, blocks))
        call()

    def _of(self, faults: list[Fault], name: str) -> list[Fault]:
        """Those of one kind, counted: they are about to happen."""
        found = [fault for fault in faults if fault.kind.name == name]
        for fault in found:
            self.injector.injected(fault)
        return found

    def _suffer(self, command: bytes, faults: list[Fault]) -> None:
        """What comes before the I/O or in its place. Raises the error of the first that ends the command."""
        for fault in faults:
            make = _ENDS.get(fault.kind.name)
            if fault.kind.name in _DELAYS:
                self.injector.injected(fault)
                threading.Event().wait(fault.settings["seconds"])
            elif make is not None:
                self.injector.injected(fault)
                raise make(command, fault)


def _status(code: int) -> Callable[[bytes, Fault], SwdError]:
    return lambda command, _fault: policy.error_for(ScsiResult(code, b"", None, 0), command)


def _check_condition(command: bytes, fault: Fault) -> SwdError:
    raw = fault.settings["sense"].raw[: fault.settings["bytes"]]
    return policy.error_for(ScsiResult(_CHECK_CONDITION, b"", parse_sense(raw), 0), command)


def _lost(_command: bytes, fault: Fault) -> SwdError:
    return ConnectionLost(f"the connection was lost and did not come back: so says the fault plan ({fault.kind.name})")


_DELAYS: Final = ("slow", "delay")
_ENDS: Final[dict[str, Callable[[bytes, Fault], SwdError]]] = {
    "busy": _status(_BUSY),
    "task_set_full": _status(_TASK_SET_FULL),
    "reservation_conflict": _status(_CONFLICT),
    "status": lambda command, fault: _status(fault.settings["code"])(command, fault),
    "check_condition": _check_condition,
    "close": _lost,
    "reset": _lost,
    "poison": _lost,
    "no_answer": lambda _command, _fault: DeadlineExceeded("no answer in time: so says the fault plan"),
}
