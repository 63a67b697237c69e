# SPDX-License-Identifier: Apache-2.0
"""One logical unit, ready for use as a block device: what `swd.disk.Disk` stands on when the blocks are SCSI's.

Everything is found out at construction. After that a read or a write is one call into the session, which answers None
when all went well; only another answer comes to the policy here. A unit that has grown has more `blocks` from then on.
One whose identity turned out to have changed, or that has shrunk, is *stale*: its calls are swapped for one that
raises, so that not a byte is sent to the wrong disk.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import NoReturn

from swd import strided
from swd._rangelock import RangeLock
from swd._straight import Straight
from swd.errors import BadDescriptor, ScsiError, StaleIdentity, SwdError, Unsupported
from swd.scsi import cdb, policy
from swd.scsi.cacheloss import CacheWatch
from swd.scsi.inquiry import BlockLimits
from swd.scsi.probe import Facts, probe, reread
from swd.scsi.runner import Buffer, Runner, ScsiSession
from swd.scsi.spread import Spread
from swd.values import ScsiResult

MAX_TRANSFER = 8 << 20  # bytes of one command where the unit names no limit, or a higher one
_MAX_BLOCKS_A_COMMAND = 0xFFFF  # so that small addresses are always served by READ(10) and WRITE(10)
_MAX_SAME = 1 << 22  # blocks of one WRITE SAME where the unit names no limit: it should end within its deadline
_MAX_UNMAP = 1 << 22
_REFUSED = (errno.EOPNOTSUPP, errno.EINVAL)


class LogicalUnit:
    """A disk behind a session; implements `swd.disk.BlockUnit`. `timeout`: seconds for each attempt of a command.

    Construction raises NoSuchDevice (no such LUN), Unsupported (not a disk), ScsiError, ProtocolViolation, and what the
    session raises. All methods may be called from many threads. `lun`: a LUN number or a SAM field.
    `strict_cache_loss`: the first 29h/00 of a session that was reinstated counts as a lost cache, too.
    """

    def __init__(
        self,
        session: ScsiSession,
        lun: int,
        *,
        timeout: float | None,
        sleep: Callable[[float], object] = time.sleep,
        strict_cache_loss: bool = False,
    ) -> None:
        self.lun = lun
        self.timeout = timeout
        self.session = session
        self.lock = RangeLock()
        self._probing = Runner(session, lun, timeout=timeout, sleep=sleep)  # does not confirm what it is reading itself
        self._run = Runner(session, lun, timeout=timeout, sleep=sleep)
        self._run.reread = self._confirm
        self.watch = CacheWatch(strict=strict_cache_loss)
        self._probing.saw = self._run.saw = self.watch.saw
        self.facts: Facts = probe(self._probing)
        self.watch.settle()
        self.watch.write_cache = self.facts.mode.write_cache is True
        self.blocks = self.facts.capacity.blocks
        self.block_size = self.facts.capacity.block_size
        self.physical_block_size = self.facts.capacity.physical_block_size
        self.read_only = self.facts.mode.write_protected
        self.identity = self.facts.identity.text
        self.max_transfer = _max_transfer(self.facts)
        self._has_write_same = True
        self._unmapping = _zeros_by_unmapping(self.facts)  # set the UNMAP bit of WRITE SAME
        self._has_cache = True
        self._refusal: Callable[[], SwdError] | None = None
        self._read, self._write, self._batch = session.read_blocks, session.write_blocks, session.batch
        self._spread: Spread | None = None
        self.way = session.straight(lun, timeout)
        if self.way is not None:
            self.way.take_writes(self.lock, self.watch)
        self.straight: Straight | None = self.way

    @property
    def cache_losses(self) -> int:
        """How often unflushed writes may have gone so far (see `swd.scsi.cacheloss`), on whatever session."""
        if self._spread is None:
            return self.watch.losses
        return sum(unit.watch.losses for unit in self._spread.units)

    def spread_over(self, others: tuple[LogicalUnit, ...]) -> None:
        """From now on reads and writes take turns on this unit and on `others`: the same disk on other sessions. No
        straight way is taken any more: that is one session's. A stream has its own turn, and stays where it is.
        """
        self.straight = None
        self._spread = Spread((self, *others))

    @property
    def identity_strong(self) -> bool:
        """Whether `identity` may be compared over different target names (see `swd.scsi.identity`)."""
        return self.facts.identity.strong

    def execute(
        self, cdb: bytes, *, data_out: Buffer = b"", data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult:
        """Run any CDB: unit attentions and BUSY are retried, the last result is returned whatever its status is."""
        self._refuse_if_gone()
        return self._run.raw(cdb, data_out=data_out if len(data_out) else None, data_in=data_in, timeout=timeout)

    def read_blocks(self, lba: int, buffer: Buffer) -> None:
        """Fill `buffer` (bytes, whole blocks, at most `max_transfer`) from block `lba` on; undefined after an error."""
        self.turn().read_here(lba, buffer)

    def read_here(self, lba: int, buffer: Buffer) -> None:
        """As `read_blocks`, on this session."""
        blocks = len(buffer) // self.block_size
        result = self._read(self.lun, lba, blocks, buffer, self.timeout)
        if result is not None:
            self.settle(False, lba, buffer, result)

    def write_blocks(self, lba: int, buffer: Buffer) -> None:
        """Write `buffer` (bytes, whole blocks, at most `max_transfer`) from block `lba` on."""
        self.turn().write_here(lba, buffer)

    def write_here(self, lba: int, buffer: Buffer) -> None:
        """As `write_blocks`, on this session."""
        blocks = len(buffer) // self.block_size
        result = self._write(self.lun, lba, blocks, buffer, self.timeout)
        if result is not None:
            self.settle(True, lba, buffer, result)

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        """Many I/Os of one size: `lbas` is a C-contiguous int64 buffer, I/O i has the i-th equal part of `buffer`.

        Returns those that failed, after the policy has tried the odd ones one by one: (index, error).
        """
        if self._spread is not None and memoryview(lbas).nbytes:
            return self._spread.batch(write, lbas, buffer, queue_depth=queue_depth)
        return self.batch_here(write, lbas, buffer, queue_depth=queue_depth)

    def turn(self) -> LogicalUnit:
        """The unit whose turn it is."""
        return self if self._spread is None else self._spread.turn()

    def batch_here(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        """As `batch`, on this session."""
        starts = memoryview(lbas).cast("B").cast("q")
        if not len(starts):
            return []
        size = memoryview(buffer).nbytes // len(starts)
        odd = self._batch(
            write, self.lun, lbas, size // self.block_size, buffer, queue_depth=queue_depth, timeout=self.timeout
        )
        failures: list[tuple[int, SwdError]] = []
        for index, result in odd:
            if isinstance(result, SwdError):
                failures.append((index, result))
                continue
            try:
                self.settle(write, starts[index], strided.nth(buffer, index, len(starts)), result)
            except SwdError as error:
                failures.append((index, error))
        return failures

    def flush(self) -> None:
        """SYNCHRONIZE CACHE. A unit that lacks the command and has no write cache switched on has nothing to flush."""
        self._refuse_if_gone()
        if not self._has_cache:
            return
        for command in (cdb.synchronize_cache_10(), cdb.synchronize_cache_16()):
            try:
                self._run.check(command)
                return
            except ScsiError as error:
                if error.errno not in _REFUSED:
                    raise
                refusal = error
        if self.facts.mode.write_cache:
            raise refusal
        self._has_cache = False

    def zero(self, lba: int, blocks: int) -> None:
        """Make the blocks read as zeros: WRITE SAME(16), or written zeros where the unit does not have it.

        The unit may deallocate them where it says that such blocks read as zeros (LBPME, LBPRZ, LBPWS).
        """
        self._refuse_if_gone()
        limit = min(self.facts.limits.max_write_same or _MAX_SAME, _MAX_SAME)
        for first, count in _pieces(lba, blocks, limit):
            if not (self._has_write_same and self._write_same(first, count)):
                self._write_zeros(first, count)

    def discard(self, lba: int, blocks: int) -> None:
        """UNMAP: the unit may forget the blocks; what they read as then is not said. Unsupported where it cannot.

        Only the whole granules of VPD B0 in the range are sent: of others a unit forgets nothing (SBC-3 4.7.3.4).
        """
        self._refuse_if_gone()
        if not (self.facts.capacity.thin and self.facts.provisioning.unmap):
            raise Unsupported("the unit has no UNMAP (VPD page B2h, LBPME): it cannot discard; zero the range instead")
        for first, count in _granules(lba, blocks, self.facts.limits):
            parameters = cdb.unmap_parameters(first, count)
            self._run.check(cdb.unmap(len(parameters)), data_out=parameters)

    def close(self) -> None:
        """Refuse further I/O. The session is its owner's to close."""
        self._refuse(lambda: BadDescriptor("the logical unit is closed: open the device again"))

    def settle(self, write: bool, lba: int, buffer: Buffer, result: ScsiResult) -> None:
        """Bring a transfer that did not end plainly GOOD to an end: it returns with all bytes moved, or raises.

        Also for those who send their READs and WRITEs by themselves.
        """
        blocks = len(buffer) // self.block_size
        command = (cdb.write if write else cdb.read)(lba, blocks)

        def again() -> ScsiResult:
            call = self._write if write else self._read
            return call(self.lun, lba, blocks, buffer, self.timeout) or _ALL_GOOD

        last, verdict = self._run.settle(command, result, again)
        if verdict.error is not None:
            raise verdict.error
        if last.status != policy.GOOD and not write:
            last = self._read_counted(command, buffer)
        if last.residual:
            raise policy.short_transfer(last, command)

    def _read_counted(self, command: bytes, buffer: Buffer) -> ScsiResult:
        """Read once more in a way that counts the bytes, after a recovered error (or another odd status that is none).

        Only GOOD is held against what really came (RFC 7143 11.4.5): after another status whose residual count says
        that nothing is missing, half of the buffer may be unfilled.
        """
        view = memoryview(buffer).cast("B")
        data = self._run.check(command, data_in=len(view))
        if len(data) == len(view):
            view[:] = data
        return ScsiResult(policy.GOOD, residual=len(view) - len(data))

    def _write_same(self, lba: int, blocks: int) -> bool:
        """False: the unit does not have the command (and is not asked again)."""
        try:
            command = cdb.write_same_16(lba, blocks, unmap=self._unmapping)
            self._run.check(command, data_out=bytes(self.block_size))
        except ScsiError as error:
            if error.errno not in _REFUSED:
                raise
            if self._unmapping and error.errno == errno.EINVAL:  # it has the command, but perhaps not the bit
                self._unmapping = False
                return self._write_same(lba, blocks)
            self._has_write_same = False
            return False
        return True

    def _write_zeros(self, lba: int, blocks: int) -> None:
        size = self.block_size
        most = max(1, min(self.max_transfer, 1 << 20) // size)
        zeros = memoryview(bytes(min(blocks, most) * size))
        for first, count in _pieces(lba, blocks, most):
            self.write_blocks(first, zeros[: count * size])

    def confirm(self, session: ScsiSession) -> StaleIdentity | None:
        """Whether another disk answers now, asked through `session`: its error, for good. Raises what the session
        raises.
        """
        if self._refusal is not None:
            return None
        run = Runner(session, self.lun, timeout=self.timeout)
        run.saw = self.watch.saw
        self.watch.begin()
        try:
            self._confirm(run)
        except StaleIdentity as error:
            return error
        self.watch.settle()
        return None

    def _confirm(self, run: Runner | None = None) -> None:
        """After what may mean another disk: raise StaleIdentity, for good, unless designators, serial, size and block
        size are the same. A disk may have grown, if it is certain that it is still the same one: after a re-login
        (`run`) a weak identity does not say that.
        """
        identity, capacity = reread(run or self._probing)
        if (identity, capacity.block_size) == (self.facts.identity, self.block_size):
            grown = capacity.blocks > self.blocks and (run is None or identity.strong)
            if grown or capacity.blocks == self.blocks:
                self.blocks = capacity.blocks
                return
        now = f"{identity}, {capacity.blocks} blocks of {capacity.block_size} bytes"
        was = f"{self.facts.identity}, {self.blocks} blocks of {self.block_size} bytes"
        reason = f"another disk, or one of another size, answers now ({now}; it was {was})\nclose it and open it anew"
        self._refuse(lambda: StaleIdentity(reason))
        raise StaleIdentity(reason)

    def _refuse(self, refusal: Callable[[], SwdError]) -> None:
        def refuse(*_args: object, **_options: object) -> NoReturn:
            raise refusal()

        self._refusal = refusal
        if self.way is not None:
            self.way.shut()
        self._read = self._write = self._batch = refuse

    @property
    def gone(self) -> bool:
        """Whether every call is refused: closed, or another disk than the one that was opened."""
        return self._refusal is not None

    def _refuse_if_gone(self) -> None:
        if self._refusal is not None:
            raise self._refusal()


_ALL_GOOD = ScsiResult(policy.GOOD)


def _zeros_by_unmapping(facts: Facts) -> bool:
    """Whether what WRITE SAME unmaps reads as zeros (SBC-3 4.7.4.5), so that zeroing may give storage back."""
    return facts.capacity.thin and facts.capacity.reads_zeros and facts.provisioning.write_same_unmaps


def _max_transfer(facts: Facts) -> int:
    """Bytes of the largest READ or WRITE: the unit's limit, ours, and what a 16-bit count holds; at least one block."""
    size = facts.capacity.block_size
    limit = facts.limits.max_transfer or _MAX_BLOCKS_A_COMMAND
    return max(1, min(limit, MAX_TRANSFER // size, _MAX_BLOCKS_A_COMMAND)) * size


def _pieces(lba: int, blocks: int, limit: int) -> list[tuple[int, int]]:
    """(first block, count) of consecutive pieces of at most `limit` blocks."""
    return [(at, min(limit, lba + blocks - at)) for at in range(lba, lba + blocks, limit)]


def _granules(lba: int, blocks: int, limits: BlockLimits) -> list[tuple[int, int]]:
    """The whole unmap granules in a range, as pieces that one UNMAP may have; none where there is no whole one."""
    grain, skew = limits.unmap_granularity or 1, limits.unmap_alignment
    first = lba + (skew - lba) % grain
    end = lba + blocks - (lba + blocks - skew) % grain
    most = min(limits.max_unmap_blocks or _MAX_UNMAP, _MAX_UNMAP)
    return _pieces(first, max(0, end - first), most - most % grain or most)
