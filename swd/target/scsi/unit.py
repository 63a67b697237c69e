# SPDX-License-Identifier: Apache-2.0
"""The device server of one logical unit: the checks that all commands share, in the order of their precedence.

Which commands there are says `operations.TABLE`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swd.errors import InvalidArgument, MediumError
from swd.proto import lun as lun_field
from swd.target.config import Lun
from swd.target.media import Buffer, Medium
from swd.target.scsi import inquiry, ports, sanitize
from swd.target.scsi.cdb import allocation, check_range
from swd.target.scsi.copying import Results
from swd.target.scsi.nexus import Nexus
from swd.target.scsi.operations import TABLE, Operation, find, has_actions
from swd.target.scsi.reply import (
    DATA_PROTECT,
    ILLEGAL_REQUEST,
    MEDIUM_ERROR,
    NOT_READY,
    UNIT_ATTENTION,
    CheckCondition,
    Later,
    Outcome,
    Reply,
    Request,
    WantData,
    conflict,
    invalid_field,
)
from swd.target.scsi.reservations import READ, WRITE

if TYPE_CHECKING:
    from swd.target.scsi.target import ScsiTarget

__all__ = ["TABLE", "LogicalUnit", "absent", "find"]

_SANITIZE = 0x48
MAX_TRANSFER = 32 << 20  # bytes of one command: what a write may make the target hold
MAX_WRITE_SAME = 1 << 29  # bytes; also of one UNMAP
MAX_UNMAP_DESCRIPTORS = 256
MAX_ATOMIC = 1 << 20  # bytes of a WRITE ATOMIC


class LogicalUnit:
    """A `Lun` of the configuration, ready to take commands from any thread. Attributes in blocks, sizes in bytes."""

    def __init__(self, device: ScsiTarget, lun: int, config: Lun) -> None:
        self.device = device
        self.target_name = device.name
        self.lun = lun_field.field(lun)  # unit attentions are kept by field
        self.medium: Medium = config.medium
        self.block_size = config.block_size
        self.physical_block_size = max(config.physical_block_size or 0, config.block_size)
        self.blocks = config.medium.size // config.block_size
        self.read_only = config.read_only or config.medium.read_only
        self.thin = config.thin
        self.removable = config.removable
        self.script = config.script
        self.state = config.state
        self.copies = Results()
        self.vendor, self.product = config.vendor, config.product
        self.serial = config.serial or inquiry.naa(f"{self.target_name}/{lun}")[-8:].hex()
        self.max_transfer = MAX_TRANSFER // self.block_size
        self.max_write_same = MAX_WRITE_SAME // self.block_size
        self.max_unmap_descriptors = MAX_UNMAP_DESCRIPTORS
        self.max_atomic = MAX_ATOMIC // self.block_size
        self.atomic_granularity = self.physical_block_size // self.block_size
        if not self.blocks:
            raise InvalidArgument(f"LUN {lun} of {device.name} is smaller than one block of {self.block_size} bytes")

    @property
    def write_protected(self) -> bool:
        """By configuration, by a test's script, or by an initiator (SWP)."""
        return self.read_only or self.script.write_protected or self.state.write_protected

    def execute(self, request: Request) -> Outcome:
        """Start a command. Never raises: what goes wrong comes back as a Reply with CHECK CONDITION."""
        row = find(request.cdb)
        try:
            if row is None or not row.offered(self):
                known = row is None and has_actions(request.cdb[0])
                raise invalid_field() if known else CheckCondition(ILLEGAL_REQUEST, 0x20)
            if not row.attention_free and (attention := request.nexus.take(self.lun)):
                raise CheckCondition(UNIT_ATTENTION, *attention)
            refused = self._refused(row, request)
            outcome = row.handler(self, request) if refused is None else refused
        except (CheckCondition, MediumError) as error:
            return _failed(error)
        return outcome

    def _refused(self, row: Operation, request: Request) -> Reply | None:
        """What state has against a command: of the port, reservations, SANITIZE, the medium, its protection, in this
        order. Raises CheckCondition, or returns the conflict."""
        nexus, state = request.nexus.identity, self.state
        if self.device.groups is not None:
            ports.check(self.device.groups, nexus.portal_group, row.access)
        if state.registry.active and state.registry.refuses(nexus, row.need):
            return conflict()
        if not row.attention_free and (state.sanitizing is not None or state.sanitize_failed):
            sanitize.check(state, reads_medium=row.medium and request.cdb[0] != _SANITIZE)
        if row.medium and not state.present:
            raise CheckCondition(NOT_READY, 0x3A)  # MEDIUM NOT PRESENT
        if row.changes and self.write_protected:
            raise CheckCondition(DATA_PROTECT, 0x27)
        if row.changes and self.script.full:
            raise CheckCondition(DATA_PROTECT, 0x27, 0x07)  # SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 4.7.3.6)
        return None

    def unhindered(self, nexus: Nexus) -> tuple[bool, bool]:
        """Whether plain reads, and plain writes, of this nexus would now pass what `execute` checks before it acts."""
        state, identity = self.state, nexus.identity
        active = self.device.groups is None or self.device.groups.code(identity.portal_group) <= 1
        if nexus.waits(self.lun) or not active or not state.ready:
            return False, False
        free = not state.registry.active
        return (
            free or not state.registry.refuses(identity, READ),
            (free or not state.registry.refuses(identity, WRITE))
            and not (self.write_protected or self.script.full)
            and state.write_cache,
        )

    def finish(self, want: WantData, data: memoryview) -> Reply | Later:
        """End a command whose Data-Out has come. Never raises, as `execute`."""
        try:
            return want.finish(data)
        except (CheckCondition, MediumError) as error:
            return _failed(error)

    def media_range(self, lba: int, count: int) -> tuple[int, int]:
        """(offset, length) in bytes of a transfer, which lies on the medium and is not too long for one command."""
        check_range(lba, count, self.blocks)
        self.check_transfer(count)
        return lba * self.block_size, count * self.block_size

    def check_transfer(self, count: int) -> None:
        """Refuse more blocks than MAXIMUM TRANSFER LENGTH of the Block Limits page (SBC-3 6.6.3)."""
        if count > self.max_transfer:
            raise invalid_field()

    def store(self, offset: int, data: memoryview, *, durable: bool = False) -> None:
        """Write whole blocks; durable at once if that is wanted, or if there is no write cache."""
        with self.state.changes:
            self.medium.write(offset, data)
        if durable or not self.state.write_cache:
            self.medium.flush()

    def load(self, offset: int, length: int) -> Buffer:
        """A copy of blocks, as they were before or after a COMPARE AND WRITE or one of its kin: never from amid it."""
        changes = self.state.changes
        before = changes.steps
        data = bytes(self.medium.read(offset, length))
        if before & 1 or changes.steps != before:
            with self.state.lock:
                data = bytes(self.medium.read(offset, length))
        return data

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Read and write the medium in one step: plain READs, all that changes it, and others like it wait."""
        flat = self.medium.flat()
        with self.state.changes.alone():
            if flat is not None:
                flat.stop()
            try:
                yield
            finally:
                if flat is not None:
                    flat.go()

    def whole_blocks(self, length: int) -> int:
        """`length` rounded down to whole blocks."""
        return length // self.block_size * self.block_size


def _failed(error: CheckCondition | MediumError) -> Reply:
    """The store's own failure is a MEDIUM ERROR without further words (11h/00 would claim a read, 0Ch/00 a write); that
    its disk is full is SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 4.7.3.6)."""
    if isinstance(error, CheckCondition):
        return error.reply
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (CheckCondition(DATA_PROTECT, 0x27, 0x07) if full else CheckCondition(MEDIUM_ERROR, 0x00)).reply


def absent(request: Request) -> Reply:
    """What the target says for a LUN that it has not (SPC-4 6.6.2, 6.39; SAM-5 5.11)."""
    cdb = request.cdb
    if cdb[0] == 0x12 and not cdb[1] & 0x03 and not cdb[2]:
        return Reply(data=allocation(cdb, slice(3, 5), inquiry.standard(None)))
    sense = CheckCondition(ILLEGAL_REQUEST, 0x25)  # LOGICAL UNIT NOT SUPPORTED
    if cdb[0] == 0x03:
        return Reply(data=allocation(cdb, slice(4, 5), sense.reply.sense))
    return sense.reply
