# SPDX-License-Identifier: Apache-2.0
"""What lies on a disk: partition tables, LVM's labels, metadata areas and metadata text.

Checksums are put right before swd sees them, for malice would do the same.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from harness.choices import Choices
from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.errors import MediumError, NoSuchDevice, SwdError, Unsupported
from swd.volumes import partitions
from swd.volumes.lvm2 import label, records, scan, text
from swd.volumes.lvm2.build import Builder

SIZE = 1 << 20
MOST_READ = 64 << 20  # bytes that one input may make swd read


class Sparse:
    """A disk of zeros but for some pieces; it holds that nothing is read outside of it, nor without end."""

    read_only, identity, max_transfer, physical_block_size, cache_losses = True, "fuzz", 8 << 20, 4096, 0

    def __init__(self, size: int, block_size: int = 512) -> None:
        self.block_size, self.blocks = block_size, size // block_size
        self.lock = RangeLock()
        self.pieces: dict[int, bytes] = {}
        self.read = 0

    def put(self, offset: int, data: bytes) -> None:
        self.pieces[offset] = data

    def read_blocks(self, lba: int, buffer: Any) -> None:
        view = memoryview(buffer).cast("B")
        start, end = lba * self.block_size, lba * self.block_size + len(view)
        assert 0 <= start < end <= self.blocks * self.block_size, "a read left the disk"
        self.read += len(view)
        assert self.read <= MOST_READ, "one input makes swd read without end"
        view[:] = bytes(len(view))
        for at, data in self.pieces.items():
            low, high = max(start, at), min(end, at + len(data))
            if low < high:
                view[low - start : high - start] = data[low - at : high - at]

    def write_blocks(self, _lba: int, _buffer: Any) -> None:
        raise MediumError("reading must not write")

    def batch(self, write: bool, lbas: Any, buffer: Any, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        assert not write
        assert queue_depth > 0
        starts, view = memoryview(lbas).cast("B").cast("q"), memoryview(buffer).cast("B")
        size = len(view) // len(starts)
        for number, lba in enumerate(starts):
            self.read_blocks(lba, view[number * size : (number + 1) * size])
        return []

    def flush(self) -> None: ...
    def discard(self, lba: int, blocks: int) -> None: ...
    def zero(self, lba: int, blocks: int) -> None: ...
    def close(self) -> None: ...


def master(slots: bytes) -> bytes:
    """A boot record with these four entries."""
    return bytes(446) + slots[:64].ljust(64, b"\0") + b"\x55\xaa"


def read_table(unit: Sparse) -> None:
    disk = Disk(unit, writable=False)
    try:
        table = partitions.read(disk)
    except NoSuchDevice:
        return
    for one in table.partitions:
        assert 0 <= one.start < one.start + one.size <= disk.size
        inside = partitions.view(Disk(unit, writable=False), one)
        inside.pread(512, max(0, one.size - 512))
    assert len(table.partitions) <= 65536


def mbr(data: bytes) -> None:
    """Four entries, then boot records of an extended partition, each where an entry may point."""
    choices = Choices(data)
    unit = Sparse(SIZE, choices.pick((512, 4096)))
    unit.put(0, master(choices.some(64)))
    while choices.left:
        unit.put(choices.byte() % 64 * unit.block_size, master(choices.some(64)))
    read_table(unit)


def gpt(data: bytes) -> None:
    """Two headers and their entries, the checksums right unless the input says otherwise."""
    choices = Choices(data)
    size = choices.pick((512, 4096))
    unit = Sparse(SIZE, size)
    unit.put(0, master(b"\0\0\0\0\xee" + bytes(3) + struct.pack("<II", 1, SIZE // size - 1)))
    last = SIZE // size - 1
    for lba, other in ((1, last), (choices.pick((last, 40)), 1)):
        entries_at, number, entry = choices.pick((2, lba - 4, choices.byte())), choices.byte(), 128
        if choices.byte() > 220:
            entries_at, number, entry = choices.number(8), choices.number(4), choices.number(4)
        entries = choices.some(choices.number(2) % 2048)
        if 0 <= entries_at <= last:
            unit.put(entries_at * size, entries)
        whole = entries.ljust(number * entry, b"\0")[: number * entry] if number * entry < SIZE else entries
        crc = zlib.crc32(whole) ^ (choices.byte() > 250)
        header = bytearray(
            struct.pack("<8sII4x4x", b"EFI PART", 0x10000, 92)
            + struct.pack("<QQQQ16s", lba, other, choices.pick((3, 34, 0)), choices.pick((last - 4, 1 << 63, 2)), b"d")
            + struct.pack("<QIII", entries_at & (1 << 64) - 1, number, entry, crc)
        )
        for _ in range(max(0, choices.byte() - 192) % 3):
            header[choices.byte() % len(header)] ^= choices.byte()
        header[16:20] = zlib.crc32(bytes(header[:16]) + bytes(4) + bytes(header[20:])).to_bytes(4, "little")
        unit.put(lba * size, bytes(header))
    read_table(unit)


def lvm_text(data: bytes) -> None:
    """A metadata text; where it is a group, its volumes are built over disks of zeros and read in places."""
    try:
        text.parse(data)
        group = records.read(data)
    except text.BadText:
        return
    assert data.isascii() or group
    members = {}
    for name, volume in list(group.physical.items())[:4]:
        unit = Sparse(min(max(volume.start + volume.extents * group.extent_size, 512), 1 << 40))
        device = scan.Device(name, Disk(unit, writable=False), name)
        found = label.Label(volume.uuid, 0, 1, (), (), None)
        members[name] = scan.Member(device, found, (), (group,))
    missing = tuple(name for name in group.physical if name not in members)
    try:
        builder = Builder(scan.Group(group, members, missing))
    except SwdError:
        return
    for name in list(group.logical)[:6]:
        try:
            read_volume(builder, name)
        except (text.BadText, NoSuchDevice, Unsupported, MediumError):
            continue
        except SwdError as error:
            assert type(error) is SwdError, f"{error!r}"


def read_volume(builder: Builder, name: str) -> None:
    volume = builder.find(name)
    builder.fixed(volume)
    layer = builder.view(name)
    end = volume.extents * builder.group.extent_size
    for offset in dict.fromkeys((0, end // 2 // 512 * 512, max(0, end - 512))):
        for _ in zip(range(100), layer.pieces(offset, min(4096, end - offset)), strict=False):
            pass


def lvm_disk(data: bytes) -> None:
    """A label and a metadata area with mended checksums."""
    choices = Choices(data)
    unit = Sparse(SIZE)
    header = b"A" * 32 + struct.pack("<Q", SIZE)
    if choices.byte() < 200:
        header += struct.pack("<QQQQ", SIZE // 2, 0, 0, 0) + struct.pack("<QQQQ", 4096, 65536, 0, 0)
    header += choices.some(choices.byte())
    sector = choices.byte() % 4
    body = bytearray(struct.pack("<I8s", 32, b"LVM2 001") + header.ljust(480, b"\0")[:480])
    for _ in range(choices.byte() % 3):
        body[choices.byte() % 120] ^= choices.byte()
    unit.put(
        sector * 512, b"LABELONE" + struct.pack("<QI", sector, label.checksum(bytes(body))) + bytes(body)
    )
    for start in (4096, choices.byte() * 512):
        content = choices.some(choices.number(2) % 4096)
        offset, length = choices.pick((512, 65000, choices.number(4))), choices.pick((len(content), choices.number(4)))
        inside = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, start, choices.pick((65536, choices.number(8))))
        inside += struct.pack("<QQII", offset, length, label.checksum(content), choices.byte() & 1)
        inside = inside.ljust(508, b"\0")
        unit.put(start, struct.pack("<I", label.checksum(inside)) + inside)
        unit.put(start + offset, content)
    found = scan.scan([scan.Device("a", Disk(unit, writable=False), "a")])
    assert all(isinstance(line, str) for line in found.warnings)
