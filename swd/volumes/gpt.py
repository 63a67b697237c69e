# SPDX-License-Identifier: Apache-2.0
"""The GUID partition table (UEFI 5.3): two headers, each with its own copy of the entries, all with CRC-32.

The first good pair wins. Both the header's place for the second and the last block of the disk are looked at, as a disk
that has grown has its second header somewhere in between.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple
from uuid import UUID

from swd.disk import Disk
from swd.errors import NoSuchDevice
from swd.volumes.table import Partition

MAGIC: Final = b"EFI PART"
MOST_BYTES: Final = 16 << 20  # of the entries; 65535 of them have 8 MiB

_HEADER = struct.Struct("<8s4xII4xQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_CRC_AT = 16


class _Header(NamedTuple):
    magic: bytes
    size: int
    crc: int
    at: int
    other: int
    first: int
    last: int
    disk: bytes
    entries_at: int
    entries: int
    entry_size: int
    entries_crc: int


def read(disk: Disk) -> tuple[list[Partition], list[str]]:
    """The partitions by number, and warnings. Raises `NoSuchDevice` where neither header with its entries is whole."""
    last = disk.size // disk.block_size - 1
    first, problem = _try(disk, 1)
    if first is not None:
        return first, []
    problems = [f"the first: {problem}"]
    for place in dict.fromkeys((last, _second_place(disk))):
        second, problem = _try(disk, place)
        if second is not None:
            return second, [f"the first partition table is damaged ({problems[0]}); the second one is used"]
        problems.append(f"the second, in block {place}: {problem}")
    hint = _other_block_size(disk)
    raise NoSuchDevice(f"{disk.identity}: neither copy of its partition table is whole: {'; '.join(problems)}{hint}")


def _second_place(disk: Disk) -> int:
    """Where the first header says that the second is, if it is to be believed at all."""
    block = disk.pread(disk.block_size, disk.block_size)
    if len(block) < _HEADER.size:
        return 1
    header = _Header._make(_HEADER.unpack_from(block))
    good = header.magic == MAGIC and _crc_of(block, header) == header.crc
    return header.other if good and header.other < disk.size // disk.block_size else 1


def _try(disk: Disk, lba: int) -> tuple[list[Partition] | None, str]:
    """The partitions of one copy; or None and what is wrong with it."""
    block = disk.pread(disk.block_size, lba * disk.block_size) if lba > 0 else b""
    if len(block) < _HEADER.size:
        return None, "the disk is too small"
    header = _Header._make(_HEADER.unpack_from(block))
    problem = _problem(disk, lba, block, header)
    if problem:
        return None, problem
    entries = disk.pread(header.entries * header.entry_size, header.entries_at * disk.block_size)
    if zlib.crc32(entries) != header.entries_crc:
        return None, "wrong checksum of the entries"
    return _partitions(disk, header, entries), ""


def _problem(disk: Disk, lba: int, block: bytes, header: _Header) -> str:
    blocks = disk.size // disk.block_size
    if header.magic != MAGIC:
        return "no header"
    if not _HEADER.size <= header.size <= disk.block_size or _crc_of(block, header) != header.crc:
        return "wrong checksum of the header"
    if header.at != lba:
        return f"its header belongs to block {header.at}"
    if not header.first <= header.last < blocks:
        return f"it is of a disk that ends at block {header.last}, and this one has {blocks}"
    bytes_ = header.entries * header.entry_size
    if header.entry_size < _ENTRY.size or header.entry_size % 8 or bytes_ > MOST_BYTES:
        return f"{header.entries} entries of {header.entry_size} bytes cannot be"
    if header.entries_at * disk.block_size + bytes_ > disk.size:
        return "its entries lie behind the disk"
    return ""


def _crc_of(block: bytes, header: _Header) -> int:
    covered = bytearray(block[: min(header.size, len(block))])
    covered[_CRC_AT : _CRC_AT + 4] = bytes(4)
    return zlib.crc32(covered)


def _partitions(disk: Disk, header: _Header, entries: bytes) -> list[Partition]:
    found = []
    for index in range(header.entries):
        kind, uuid, first, last, _flags, name = _ENTRY.unpack_from(entries, index * header.entry_size)
        if kind == bytes(16) or not header.first <= first <= last <= header.last:
            continue
        start, size = first * disk.block_size, (last - first + 1) * disk.block_size
        found.append(Partition(index + 1, start, size, _guid(kind), _name(name), _guid(uuid)))
    return found


def _guid(raw: bytes) -> str:
    return str(UUID(bytes_le=raw))


def _name(raw: bytes) -> str:
    return raw.decode("utf-16-le", "replace").split("\0", 1)[0]


def _other_block_size(disk: Disk) -> str:
    """An image of a disk with other blocks than it is opened with has its header elsewhere."""
    for size in (512, 4096):
        if size != disk.block_size and disk.pread(8, size) == MAGIC:
            return f"\nits table is for blocks of {size} bytes: an image file takes ?block_size={size}"
    return ""
