# SPDX-License-Identifier: Apache-2.0
"""swd in an event loop: the names of `swd`, as coroutines.

    async with await swd.aio.open("iscsi://192.0.2.10/iqn.2026-01.org.example:db/0") as disk:
        blocks = await asyncio.gather(*(disk.pread(4096, n * 4096) for n in range(32)))

Reads and writes of whole blocks that one command can move are queued from the loop itself: what one turn of the loop
asks for leaves in one system call, and each answer completes a future in compiled code. Everything else (opening,
unaligned ranges, long transfers, flushes, and I/O that did not end plainly well) goes through the blocking calls in a
thread of the loop's executor. asyncio and uvloop both do. A disk belongs to the loop in which it was opened.

A cancelled read or write is let go of at once: its buffer is free, and whether a write was done, or is done yet, is not
known.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from swd._asyncdisk import AsyncStraight
from swd.disk import Disk
from swd.driver import plain
from swd.driver import scan as _scan
from swd.driver.errnos import During, translated
from swd.driver.session import Session
from swd.errors import BadDescriptor, InvalidArgument
from swd.ioqueue import int64_offsets
from swd.iscsi.loopqueue import LoopQueue
from swd.iscsi.task import result_of
from swd.scsi.unit import LogicalUnit as ScsiUnit
from swd.values import Chap, Completion, LogicalUnit, Negotiated, ScsiResult, Target

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from swd.disk import Uint8Array

__all__ = ["AsyncDisk", "AsyncSession", "connect", "discover", "open", "scan"]

T = TypeVar("T")


async def open(dev: str, mode: str = "rb", **options: object) -> AsyncDisk:
    """As `swd.open`. Writes may be changed by the caller while they are under way, unless stable_writes="none"."""
    return await _in_loop(await _in_thread(partial(plain.open, dev, mode, **options), undo=Disk.close))


async def connect(portal: str, target: str, *, chap: Chap | None = None, **options: object) -> AsyncSession:
    """As `swd.connect`."""
    connecting = partial(plain.connect, portal, target, chap=chap, **options)
    return AsyncSession(await _in_thread(connecting, undo=Session.close))


async def discover(portal: str, *, chap: Chap | None = None, **options: object) -> list[Target]:
    """As `swd.discover`."""
    return await _in_thread(partial(plain.discover, portal, chap=chap, **options))


async def scan(
    portal: str | None = None, target: str | None = None, *, chap: Chap | None = None, **options: object
) -> list[LogicalUnit]:
    """As `swd.scan`."""
    return await _in_thread(partial(_scan.scan, portal, target, chap=chap, **options))


class AsyncDisk(AsyncStraight):
    """A `Disk` in an event loop; `disk` is the Disk itself, for what needs no waiting, and for threads."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._loop = asyncio.get_running_loop()
        self._copies = disk.stable_writes is not False
        self._unit: ScsiUnit | None = None
        self._held: _Held | None = None
        if isinstance(disk.unit, ScsiUnit) and isinstance(disk.unit.session, Session):
            self._unit = disk.unit
            self._held = _hold(disk.unit.session, self._loop)
            queue = self._held.queue
            self._go_straight(disk, queue.queue, self._loop, queue.arm)

    @property
    def size(self) -> int:
        return self.disk.size

    @property
    def block_size(self) -> int:
        return self.disk.block_size

    @property
    def physical_block_size(self) -> int:
        return self.disk.physical_block_size

    @property
    def identity(self) -> str:
        return self.disk.identity

    @property
    def read_only(self) -> bool:
        return self.disk.read_only

    # `pread`, `pread_into` and `pwrite` are AsyncStraight's; here is what does not go straight.

    async def _pread(self, length: int, offset: int) -> bytes:
        unit, held, length, offset = self._unit, self._held, index(length), index(offset)
        if held is None or unit is None or not self._is_plain(unit, length, offset):
            return await _in_thread(self.disk.pread, length, offset)
        size = unit.block_size
        lba, timeout = offset // size, _timeout(unit)
        queue = held.queue
        outcome = await queue.submit(queue.queue.read, unit.lun, lba, length // size, length, timeout)
        if type(outcome) is bytes:
            return outcome
        data: bytes = await self._settle_read(None, length, offset, outcome)
        return data

    async def _pread_into(self, buffer: Buffer, offset: int) -> int:
        unit, held, offset = self._unit, self._held, index(offset)
        with memoryview(buffer) as view:
            length, fillable = view.nbytes, view.c_contiguous and not view.readonly
        if not length or not fillable:
            return await _in_thread(self.disk.pread_into, buffer, offset)  # which says what is wrong
        if held is None or unit is None or not self._is_plain(unit, length, offset):
            return _filled(buffer, await _in_thread(self.disk.pread, length, offset))
        size = unit.block_size
        lba, timeout = offset // size, _timeout(unit)
        queue = held.queue
        outcome = await queue.submit(queue.queue.read_into, unit.lun, lba, length // size, buffer, timeout)
        if type(outcome) is not int:
            await self._settle_read(buffer, length, offset, outcome)
        return length

    async def _settle_read(self, buffer: Buffer | None, length: int | None, offset: int, outcome: object) -> Any:
        """What a read comes to that did not end plainly GOOD: the bytes if no buffer was given, else how many."""
        unit = self._unit
        assert unit is not None
        place = bytearray(length or 0 if buffer is None else memoryview(buffer).nbytes)
        await self._settle(partial(unit.settle, False), offset // unit.block_size, place, outcome)
        return bytes(place) if buffer is None else _filled(buffer, place)

    async def _pwrite(self, data: Buffer, offset: int) -> int:
        if self._copies and type(data) is not bytes:
            data = bytes(memoryview(data))  # of an int, bytes() would make zeros
        unit, held, offset = self._unit, self._held, index(offset)
        length = memoryview(data).nbytes
        if held is None or unit is None or not self.disk.writable or not self._is_plain(unit, length, offset):
            return await _in_thread(self.disk.pwrite, _own(data), offset)
        size = unit.block_size
        lba, blocks = offset // size, length // size
        entry = unit.lock.try_write(lba, blocks)
        if entry is None:  # somebody changes a part of one of these blocks just now
            return await _in_thread(self.disk.pwrite, _own(data), offset)
        before = unit.cache_losses
        queue = held.queue
        try:
            outcome = await queue.submit(queue.queue.write, unit.lun, lba, blocks, data, _timeout(unit))
        finally:
            entry.leave()
            self.disk._wrote(before)
        return length if type(outcome) is int else await self._settle_write(data, offset, outcome, before)

    async def _settle_write(self, data: Buffer, offset: int, outcome: object, before: int) -> int:
        """What a write comes to that did not end plainly GOOD, and has left the lock: how many bytes."""
        unit, own = self._unit, _own(data)
        assert unit is not None
        await self._settle(partial(self._write_again, unit, before), offset // unit.block_size, own, outcome)
        return len(own)

    def _write_again(self, unit: ScsiUnit, before: int, lba: int, data: bytes, result: ScsiResult) -> None:
        """In a thread. The lock is taken here: a place held since the write began would never be given back where all
        threads of the executor wait for it; and whoever is cancelled meanwhile gives up no place that is in use.
        """
        with unit.lock.write(lba, len(data) // unit.block_size):
            try:
                unit.settle(True, lba, data, result)
            finally:
                self.disk._wrote(before)

    async def flush(self) -> None:
        """As `Disk.flush`."""
        await _in_thread(self.disk.flush)

    async def discard(self, *, offset: int, length: int) -> None:
        """As `Disk.discard`."""
        await _in_thread(self.disk.discard, offset=offset, length=length)

    async def zero(self, *, offset: int, length: int) -> None:
        """As `Disk.zero`."""
        await _in_thread(self.disk.zero, offset=offset, length=length)

    async def read_many(
        self, offsets: Buffer, size: int, out: Uint8Array | None = None, *, queue_depth: int = 32, errors: Any = None
    ) -> Uint8Array:
        """As `Disk.read_many`; where this is cancelled, `out` is in use until all have ended."""
        return await _in_thread(self.disk.read_many, offsets, size, out, queue_depth=queue_depth, errors=errors)

    async def stream(self, offsets: Buffer, size: int, *, queue_depth: int = 32) -> AsyncIterator[bytes]:
        """As `Disk.stream`, as an asynchronous generator; what it gives is the caller's own. Close it (`aclosing`) if
        it is left early.
        """
        starts = iter(int64_offsets(offsets).tolist())
        if index(queue_depth) < 1:
            raise InvalidArgument(f"queue_depth is {queue_depth}: at least 1 is needed")
        ahead: deque[asyncio.Task[bytes]] = deque()
        try:
            for start in starts:
                ahead.append(asyncio.ensure_future(self.pread(size, start)))
                if len(ahead) == queue_depth:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def write_many(self, offsets: Buffer, data: Buffer, *, queue_depth: int = 32, errors: Any = None) -> None:
        """As `Disk.write_many`: `data` must not change until all have ended, though this be cancelled."""
        await _in_thread(self.disk.write_many, offsets, data, queue_depth=queue_depth, errors=errors)

    async def close(self) -> None:
        """As `Disk.close`; what is under way through this disk must have ended."""
        held, self._held = self._held, None
        self._stop()
        if held is not None:
            held.let_go()
        await _in_thread(self.disk.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncDisk of {self.disk!r}>"

    def _is_plain(self, unit: ScsiUnit, length: int, offset: int) -> bool:
        """Whether this is one command of whole blocks inside an open disk, asked for in the disk's own loop."""
        if asyncio.get_running_loop() is not self._loop:
            raise BadDescriptor("the disk belongs to another event loop: open it in this one")
        size = unit.block_size
        return (
            0 < length <= unit.max_transfer
            and offset >= 0
            and not length % size
            and not offset % size
            and offset + length <= self.disk.size
            and self.disk.is_open
            and not unit.gone
        )

    async def _settle(self, policy: Callable[..., None], lba: int, data: bytes | bytearray, outcome: object) -> None:
        """An I/O that did not end plainly GOOD: the unit's policy decides, in a thread, as for blocking calls."""
        if not isinstance(outcome, Completion):
            assert isinstance(outcome, BaseException)
            raise outcome
        await _in_thread(policy, lba, data, result_of(outcome, None))


class AsyncSession:
    """A `Session` in an event loop; `session` is the Session itself."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def unit(self, lun: int) -> AsyncDisk:
        return await _in_loop(await _in_thread(self.session.unit, lun, undo=Disk.close))

    async def luns(self) -> list[int]:
        return await _in_thread(self.session.luns)

    async def execute(
        self, cdb: bytes, *, lun: int, data_out: Buffer | None = None, data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult:
        run = partial(self.session.execute, cdb, lun=lun, data_in=data_in, timeout=timeout)
        return await _in_thread(run, data_out=None if data_out is None else bytes(memoryview(data_out)))

    async def ping(self, data: bytes = b"") -> bytes:
        return await _in_thread(self.session.ping, data)

    async def text(self, keys: dict[str, str]) -> list[tuple[str, str]]:
        return await _in_thread(self.session.text, keys)

    async def abort_task_set(self, lun: int) -> None:
        await _in_thread(self.session.abort_task_set, lun)

    async def clear_task_set(self, lun: int) -> None:
        await _in_thread(self.session.clear_task_set, lun)

    async def lun_reset(self, lun: int) -> None:
        await _in_thread(self.session.lun_reset, lun)

    async def target_warm_reset(self) -> None:
        await _in_thread(self.session.target_warm_reset)

    async def target_cold_reset(self) -> None:
        await _in_thread(self.session.target_cold_reset)

    @property
    def parameters(self) -> Negotiated:
        return self.session.parameters

    @property
    def statistics(self) -> dict[str, int]:
        return self.session.statistics

    async def logout(self) -> None:
        await _in_thread(self.session.logout)

    async def close(self, force: bool = False) -> None:
        await _in_thread(self.session.close, force)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


class _Held:
    """The queue of one session in one loop, and how many disks use it."""

    def __init__(self, key: tuple[int, int], session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.queue: LoopQueue = session.loop_queue(loop)
        self.users = 0
        self._key = key

    def let_go(self) -> None:
        self.users -= 1
        if not self.users:
            _held.pop(self._key, None)
            self.queue.close()


_held: dict[tuple[int, int], _Held] = {}  # by the ids of session and loop, which the queue keeps alive


def _hold(session: Session, loop: asyncio.AbstractEventLoop) -> _Held:
    key = (id(session), id(loop))
    held = _held.get(key)
    if held is None:
        held = _held[key] = _Held(key, session, loop)
    held.users += 1
    return held


def _own(data: Buffer) -> bytes:
    """For a thread, which goes on where its caller is cancelled, and has the buffer back at once."""
    return data if type(data) is bytes else bytes(memoryview(data))


def _filled(buffer: Buffer, data: bytes | bytearray) -> int:
    """What a thread has read, for the same reason, into memory of its own."""
    memoryview(buffer).cast("B")[: len(data)] = data
    return len(data)


def _timeout(unit: ScsiUnit) -> float:
    assert unit.timeout is not None
    return unit.timeout


async def _in_thread(
    call: Callable[..., T], *args: Any, undo: Callable[[T], object] | None = None, **options: Any
) -> T:
    """Runs a blocking call in the loop's executor. If the caller is cancelled, what the call makes is undone."""
    future = asyncio.get_running_loop().run_in_executor(None, partial(call, *args, **options))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(partial(_undo, undo))
        raise


async def _in_loop(disk: Disk) -> AsyncDisk:
    """The disk as the loop has it; closed if it cannot be, as where no descriptor is left for the loop's queue."""
    try:
        with translated(During.OPEN, disk.identity):
            return AsyncDisk(disk)
    except BaseException:
        await _in_thread(disk.close)
        raise


def _undo(undo: Callable[[Any], object] | None, future: asyncio.Future[Any]) -> None:
    """Somebody has gone away before this ended: nobody asks for its error, or wants its result."""
    if not future.cancelled() and future.exception() is None and undo is not None:
        asyncio.get_running_loop().run_in_executor(None, undo, future.result())
