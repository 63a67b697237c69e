# SPDX-License-Identifier: Apache-2.0
"""The slots of every driver that has a Disk: `os.*` on a block device without a page cache, said once.

Whole blocks only (EINVAL), reads end at the end of the device, a write that does not fit is ENOSPC and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from swd.driver.errnos import During, translate
from swd.driver.ioctl import Request
from swd.driver.row import Buffer, Transfer, Unit
from swd.errors import InvalidArgument, MediumError, SwdError, Unsupported

if TYPE_CHECKING:
    from swd.disk import Disk


def detach(unit: Unit) -> None:
    unit.disk.close()


def open_(unit: Unit, flags: int) -> None:
    """Whatever flags the entry points let through, a disk takes; a read-only one has been refused by `attach`."""


def close(unit: Unit) -> None:
    """Nothing is kept for a descriptor."""


def read(unit: Unit, length: int, offset: int) -> bytes:
    disk = unit.disk
    _aligned(disk, offset, length)
    data = disk.pread(max(0, min(length, disk.size - offset)), offset) if offset < disk.size else b""
    unit.counters.add(reads=1, read_bytes=len(data))
    return data


def write(unit: Unit, data: Buffer, offset: int) -> int:
    disk, length = unit.disk, memoryview(data).nbytes
    _aligned(disk, offset, length)
    if not length:
        return 0
    disk.pwrite(data, offset)
    unit.counters.add(writes=1, written_bytes=length)
    return length


def strategy(unit: Unit, transfers: Sequence[Transfer]) -> list[SwdError | None]:
    """In the order of the batch; one that fails does not stop the rest. Reads must lie within the device."""
    return [_transfer(unit, transfer) for transfer in transfers]


def _transfer(unit: Unit, transfer: Transfer) -> SwdError | None:
    try:
        if transfer.write:
            write(unit, transfer.buffer, transfer.offset)
        else:
            _read_into(unit, transfer.buffer, transfer.offset)
    except OSError as error:
        return translate(error, During.IO, unit.name)
    return None


def _read_into(unit: Unit, buffer: Buffer, offset: int) -> None:
    disk, length = unit.disk, memoryview(buffer).nbytes
    _aligned(disk, offset, length)
    if offset + length > disk.size:
        raise MediumError(
            f"{unit.name}: a read of {length} bytes at {offset} goes past the end, which is at {disk.size}"
        )
    if length:
        disk.pread_into(buffer, offset)
    unit.counters.add(reads=1, read_bytes=length)


def psize(unit: Unit) -> int:
    return unit.disk.size


def flush(unit: Unit) -> None:
    unit.disk.flush()
    unit.counters.add(flushes=1)


def discard(unit: Unit, offset: int, length: int) -> None:
    _range(unit, offset, length)
    unit.disk.discard(offset=offset, length=length)


def zero(unit: Unit, offset: int, length: int) -> None:
    _range(unit, offset, length)
    unit.disk.zero(offset=offset, length=length)


def _range(unit: Unit, offset: int, length: int) -> None:
    """BLKDISCARD and BLKZEROOUT on Linux: whole blocks, inside the device, else EINVAL."""
    _aligned(unit.disk, offset, length)
    if offset + length > unit.disk.size:
        raise InvalidArgument(f"{unit.name}: the range ends behind the device, which has {unit.disk.size} bytes")


def _aligned(disk: Disk, offset: int, length: int) -> None:
    if offset % disk.block_size or length % disk.block_size:  # 520 is a block size, too
        raise InvalidArgument(
            f"{length} bytes at {offset} are not whole blocks: offset and length are multiples of {disk.block_size}"
        )


def statistics(unit: Unit) -> dict[str, object]:
    return {**unit.counters.values()}


def _flush_buffers(unit: Unit) -> None:
    unit.row.flush(unit)


# What a request gives on a disk. The entry points answer those that are the same for every driver.
_ANSWERS: Final[dict[Request, Callable[[Unit], object]]] = {
    Request.BLKGETSIZE64: psize,
    Request.BLKSSZGET: lambda unit: unit.disk.block_size,
    Request.BLKPBSZGET: lambda unit: unit.disk.physical_block_size,
    Request.BLKROGET: lambda unit: int(unit.disk.read_only),
    Request.BLKFLSBUF: _flush_buffers,
    Request.SWD_STATS_GET: statistics,
    Request.SWD_STATS_CLEAR: lambda unit: unit.counters.clear(),
}
_RANGES: Final[dict[Request, Callable[[Unit, int, int], None]]] = {
    Request.BLKDISCARD: discard,
    Request.BLKZEROOUT: zero,
}


def ioctl(unit: Unit, request: Request, arg: Any) -> object:
    """Those of a disk without SCSI behind it; `Unsupported` for the rest."""
    if request in _ANSWERS:
        return _ANSWERS[request](unit)
    if request in _RANGES:
        return _RANGES[request](unit, *arg)
    raise Unsupported(f"{unit.name}: the driver {unit.row.name} does not have {request.name}")
