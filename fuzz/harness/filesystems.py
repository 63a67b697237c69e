# SPDX-License-Identifier: Apache-2.0
"""Superblocks, boot sectors and journals of file systems, and device-mapper's superblocks on the legs of an array.

A sound one is made first, then the input spoils it in places; checksums are put right before swd looks, mostly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from harness.choices import Choices
from harness.disks import Sparse
from harness.texts import harmless
from swd._crc32c import crc32c
from swd.disk import Disk
from swd.errors import DeviceBusy, FileSystemError, Unsupported
from swd.volumes.filesystems import fat, probe, xfs_log
from swd.volumes.filesystems.record import FileSystem, Look
from swd.volumes.lvm2 import superblock

SIZE = 1 << 20
KINDS = {"ext2", "ext3", "ext4", "xfs", "ntfs", "fat12", "fat16", "fat32", "exfat", "btrfs"}
MOST_MARKED = 16 << 20  # bytes that the table of free clusters may have here
Block = dict[int, bytes]


def put(block: bytearray, *fields: tuple[int, str, int | bytes]) -> bytearray:
    for offset, form, value in fields:
        struct.pack_into(form, block, offset, value)
    return block


def spoil(block: bytearray, choices: Choices, most: int = 6) -> bytearray:
    """Up to `most` fields of it say something else."""
    for _ in range(choices.byte() % (most + 1)):
        at, new = choices.number(2) % len(block), choices.some(1 + choices.byte() % 8)
        block[at : at + len(new)] = new[: len(block) - at]
    return block


def ext(choices: Choices) -> Block:
    block = put(
        bytearray(1024), (0, "<I", 1024), (4, "<I", SIZE // 1024), (12, "<I", 700), (16, "<I", 900), (32, "<I", 8192),
        (40, "<I", 1024), (56, "<H", 0xEF53), (58, "<H", 1), (76, "<I", 1), (92, "<I", 4),
        (96, "<I", choices.pick((0x2, 0x42, 0x2C2))), (100, "<I", choices.pick((1, 0x400, 0x44B))), (120, "16s", b"l"),
    )  # fmt: skip
    spoil(block, choices)
    if choices.byte() < 240:
        put(block, (1020, "<I", crc32c(bytes(block[:1020])) ^ 0xFFFFFFFF))
    return {1024: bytes(block)}


def xfs(choices: Choices) -> Block:
    """With a log of 64 KiB at block 64; its blocks are of round 1 up to a place, and end in a record."""
    block = put(
        bytearray(512), (0, "4s", b"XFSB"), (4, ">I", 4096), (8, ">Q", 256), (32, "16s", b"u" * 16), (48, ">Q", 64),
        (84, ">I", 256), (88, ">I", 1), (96, ">I", 16), (100, ">H", choices.pick((0xB4A5, 0xB4A4))), (102, ">H", 512),
        (104, ">H", 512), (106, ">H", 8), (108, "12s", b"label"), (120, ">B", 12), (123, ">B", 3), (124, ">B", 8),
        (128, ">Q", 64), (136, ">Q", 9), (144, ">Q", 100), (216, ">I", 3),
    )  # fmt: skip
    spoil(block, choices)
    if choices.byte() < 240:
        put(block, (224, "<I", 0))
        put(block, (224, "<I", crc32c(bytes(block))))
    head, size = choices.byte() % 128, 128
    log = bytearray()
    for number in range(size):
        log += struct.pack(">I", 2 if number < head else 1).ljust(512, b"\0")
    at = max(0, head - 2) * 512
    put(
        log, (at, "4s", b"\xfe\xed\xba\xbe"), (at + 4, ">I", 2),
        (at + 8, ">I", choices.pick((2, 1))), (at + 12, ">I", 512), (at + 40, ">I", 1), (at + 320, ">I", 32768),
    )  # fmt: skip
    if at + 522 <= len(log):
        put(log, (at + 520, "2s", b"\xaa\x20"))
    return {0: bytes(block), 64 * 4096: bytes(spoil(log, choices))}


def record(magic: bytes, attributes: bytes, size: int = 1024) -> bytearray:
    """A record of the MFT, or a restart page, with a sequence of updates that agrees."""
    count = size // 512 + 1
    block = bytearray(magic + struct.pack("<HH", 48, count)).ljust(size, b"\0")
    put(block, (20, "<H", 72), (48, "<H", 1))
    block[72 : 72 + len(attributes)] = attributes
    for end in range(512, size + 1, 512):
        put(block, (end - 2, "<H", 1))
    return block


def attribute(kind: int, value: bytes) -> bytes:
    length = 24 + -(-len(value) // 8) * 8
    return struct.pack("<IIBBHHHIHH", kind, length, 0, 0, 0, 0, 0, len(value), 24, 0) + value.ljust(length - 24, b"\0")


def ntfs(choices: Choices) -> Block:
    boot = put(
        bytearray(512), (3, "8s", b"NTFS    "), (11, "<H", 512), (13, "<B", 8), (40, "<Q", SIZE // 512), (48, "<Q", 4),
        (64, "<b", -10), (72, "<Q", 77),
    )  # fmt: skip
    information = bytes(8) + struct.pack("<BBH", 3, 1, choices.pick((0, 0, 1, 0x4000)))
    volume = attribute(0x60, "name".encode("utf-16-le")) + attribute(0x70, information) + b"\xff" * 4
    run = put(bytearray(72), (0, "<I", 0x80), (4, "<I", 72), (8, "<B", 1), (32, "<H", 64), (64, "4s", b"\x11\x04\x20"))
    journal = record(b"RSTR", b"", 4096)
    put(journal, (16, "<I", 4096), (24, "<H", 80), (80, "<Q", 5), (92, "<H", choices.pick((0xFFFF, 0))), (94, "<H", 2))
    emptied = b"\xff" * 4096
    mft, records = 4 * 4096, [record(b"FILE", volume), record(b"FILE", bytes(run) + b"\xff" * 4)]
    return {
        0: bytes(spoil(boot, choices, 3)),
        mft + 3 * 1024: bytes(spoil(records[0], choices)),
        mft + 2 * 1024: bytes(spoil(records[1], choices)),
        32 * 4096: bytes(spoil(journal, choices)) if choices.byte() < 200 else emptied,
        33 * 4096: bytes(spoil(journal, choices)),
    }


def fat_of(choices: Choices) -> Block:
    """FAT12, FAT16 or FAT32; the two large ones claim more than the disk has, or have clusters of one sector."""
    bits = choices.pick((12, 16, 32))
    boot = put(
        bytearray(512), (11, "<H", 512), (13, "<B", 1), (14, "<H", 1), (16, "<B", 1), (17, "<H", 16 * (bits < 32)),
        (510, "2s", b"\x55\xaa"),
    )  # fmt: skip
    if bits == 32:
        put(boot, (32, "<I", 70000), (36, "<I", 600), (82, "8s", b"FAT32   "), (71, "11s", b"LABEL"))
    else:
        total, table = (2048, 8) if bits == 12 else (10000, 64)
        name = b"FAT12   " if bits == 12 else b"FAT16   "
        put(boot, (19, "<H", total), (22, "<H", table), (54, "8s", name), (43, "11s", b"LABEL"))
    table = spoil(bytearray(b"\xff" * 4096), choices)
    return {0: bytes(spoil(boot, choices)), 512: bytes(table)}


def btrfs(choices: Choices) -> Block:
    block = put(
        bytearray(4096), (64, "8s", b"_BHRfS_M"), (112, "<Q", SIZE), (120, "<Q", 65536), (144, "<I", 4096),
        (299, "8s", b"label"),
    )  # fmt: skip
    return {65536: bytes(spoil(block, choices))}


MAKERS: tuple[Callable[[Choices], Block], ...] = (ext, xfs, ntfs, fat_of, btrfs)


def superblocks(data: bytes) -> None:
    """One file system, now and then with a second one's traces; or sectors that are the input's alone."""
    choices = Choices(data)
    sizes = (SIZE, SIZE, SIZE, 1 << 26, 512, 4096, 65536)
    unit = Sparse(choices.pick(sizes), choices.pick((512, 512, 4096)) if choices.bit() else 512)
    if unit.blocks == 0:
        return
    how = choices.byte()
    if how >= 250:
        unit.put(0, choices.some(1 << 12))
    else:
        for maker in (MAKERS[how % 5], *((MAKERS[how // 5 % 5],) if how >= 225 else ())):
            for offset, piece in maker(choices).items():
                unit.put(offset, piece)
    look_at(unit)


def look_at(unit: Sparse) -> None:
    disk = Disk(unit, writable=False)
    try:
        found = probe.probe(disk)
    except FileSystemError as error:
        assert harmless(str(error).replace("\n", " "))
        return
    assert probe.probe(disk) == found, "looking twice gives two answers"
    for dirty in (False, True):
        try:
            demanded = probe.demand(disk, "name", dirty=dirty)
        except (Unsupported, DeviceBusy) as error:
            assert error.errno in (95, 16)
        else:
            assert demanded == found
            assert not demanded.unsupported
            assert dirty or not demanded.dirty
    if found is not None:
        sound(found, disk)


def sound(found: FileSystem, disk: Disk) -> None:
    assert found.kind in KINDS
    assert found.size_bytes >= 0
    assert found.free_bytes is None or 0 <= found.free_bytes <= found.size_bytes
    assert found.files is None or found.files >= 0
    assert len(found.mark) == 64
    if found.unsupported:
        return
    assert 0 < found.size_bytes <= disk.size
    assert not found.block_size & (found.block_size - 1)
    if found.kind.startswith("fat") and disk.size <= MOST_MARKED:
        try:
            assert 0 <= fat.free_bytes(disk) <= found.size_bytes
        except FileSystemError:
            pass


def arrays(data: bytes) -> None:
    """The superblock of an array's leg, its bitmap, and an XFS log that is nothing but the input."""
    choices = Choices(data)
    head = bytearray(b"DmRd" + struct.pack("<III", choices.bit(), 3, choices.byte() % 4) + bytes(4080))
    found = superblock.parse(bytes(spoil(head, choices, 12)))
    if found is not None:
        assert all(0 <= leg < 256 for leg in found.failed)
    body = bytearray(b"bitm" + struct.pack("<I16sQQQIII", 4, b"", 1, 1, 1 << 20, 0, 65536, 5) + bytes(4032))
    bits = superblock.bitmap(bytes(spoil(body, choices, 8))[: choices.pick((4096, 256, 64))])
    if bits is not None:
        assert bits.chunk > 0
        assert isinstance(bits.dirty(choices.number(8), choices.number(8)), bool)
    unit = Sparse(1 << 16)
    unit.put(0, choices.rest())
    try:
        clean = xfs_log.is_clean(Look(Disk(unit, writable=False)), 0, 1 << 16)
    except FileSystemError:
        return
    assert isinstance(clean, bool)
