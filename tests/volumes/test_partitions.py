# SPDX-License-Identifier: Apache-2.0
"""Partition tables as sfdisk writes them, and as damage and malice leave them."""

from __future__ import annotations

import errno
import json
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from swd.disk import Disk
from swd.errors import MediumError, NoSuchDevice, SwdError
from swd.ioqueue import transfer
from swd.volumes import partitions
from swd.volumes.partitions import Partition

MIB = 1 << 20
GPT = "label: gpt\nstart=2048, size=4096, name=one\nstart=8192, size=2048, name=zwei-ü\nstart=12288\n"
MBR = (
    "label: dos\nstart=2048, size=2048, type=83\nstart=6144, size=20480, type=5\n"
    "start=30720, size=1024, type=8e\n\nstart=8192, size=1024\nstart=12288, size=2048\nstart=16384, size=512, type=82\n"
)

Image = Callable[..., Path]
Opened = Callable[..., Disk]


def sfdisk(path: Path, script: str) -> None:
    subprocess.run(["sfdisk", "-q", path], input=script, text=True, check=True, capture_output=True)


def as_sfdisk_sees(path: Path) -> list[tuple[int, int, int]]:
    done = subprocess.run(["sfdisk", "--json", path], text=True, check=True, capture_output=True)
    table = json.loads(done.stdout)["partitiontable"]
    return [
        (int(one["node"].removeprefix(str(path))), one["start"] * 512, one["size"] * 512)
        for one in table["partitions"]
        if one["type"] not in ("5", "f", "85")
    ]


def places(found: tuple[Partition, ...]) -> list[tuple[int, int, int]]:
    return [(one.number, one.start, one.size) for one in found]


@pytest.fixture
def gpt(image: Image) -> Path:
    path = image(16 * MIB)
    sfdisk(path, GPT)
    return path


@pytest.fixture
def mbr(image: Image) -> Path:
    path = image(16 * MIB)
    sfdisk(path, MBR)
    return path


@pytest.mark.sfdisk
def test_gpt_as_sfdisk_made_it(gpt: Path, disk: Opened) -> None:
    found = partitions.read(disk(gpt))
    assert found.scheme == "gpt"
    assert places(found.partitions) == as_sfdisk_sees(gpt)
    assert [one.name for one in found.partitions] == ["one", "zwei-ü", ""]
    assert found.partitions[0].type == "0fc63daf-8483-4772-8e79-3d69d8477de4"  # Linux file system data
    assert found.warnings == ()


@pytest.mark.sfdisk
def test_gpt_of_4096_byte_blocks(image: Image, disk: Opened) -> None:
    path = image(64 * MIB)
    keys = "g\nn\n1\n256\n767\nn\n5\n1024\n2047\nw\n"
    subprocess.run(["fdisk", "-b", "4096", path], input=keys, text=True, check=True, capture_output=True)
    found = partitions.read(disk(path, 4096))
    assert places(found.partitions) == [(1, 256 * 4096, 512 * 4096), (5, 1024 * 4096, 1024 * 4096)]
    with pytest.raises(NoSuchDevice, match=r"neither copy(.|\n)*block_size=4096"):
        partitions.read(disk(path, 512))


@pytest.mark.sfdisk
def test_mbr_and_its_logical_partitions_as_sfdisk_made_them(mbr: Path, disk: Opened) -> None:
    found = partitions.read(disk(mbr))
    assert found.scheme == "mbr"
    assert places(found.partitions) == sorted(as_sfdisk_sees(mbr))
    assert [one.number for one in found.partitions] == [1, 3, 5, 6, 7]
    assert [one.type for one in found.partitions] == ["83", "8e", "83", "83", "82"]


@pytest.mark.sfdisk
@pytest.mark.parametrize("damaged", [512 + 16, 512 + 90, 1024 + 40, 512])
def test_the_second_gpt_is_used_with_a_warning(gpt: Path, disk: Opened, damaged: int) -> None:
    whole = disk(gpt)
    before = places(partitions.read(whole).partitions)
    turned = bytes([whole.pread(1, damaged)[0] ^ 0xA5])  # GUIDs and checksums are random: any byte may be there already
    whole.pwrite(turned if damaged != 512 else bytes(512), damaged)
    found = partitions.read(whole)
    assert places(found.partitions) == before
    assert len(found.warnings) == 1
    assert "the second one is used" in found.warnings[0]


@pytest.mark.sfdisk
def test_the_second_gpt_is_found_on_a_disk_that_has_grown(gpt: Path, disk: Opened) -> None:
    whole = disk(gpt)
    before = places(partitions.read(whole).partitions)
    whole.pwrite(b"\xa5", 1024 + 40)  # the entries; the header, which knows where the second is, is whole
    with gpt.open("r+b") as file:
        file.truncate(20 * MIB)
    assert places(partitions.read(disk(gpt)).partitions) == before


@pytest.mark.sfdisk
def test_two_damaged_gpts_are_enxio(gpt: Path, disk: Opened) -> None:
    whole = disk(gpt)
    whole.pwrite(b"\xa5", 520)
    whole.pwrite(b"\xa5", whole.size - 500)
    with pytest.raises(NoSuchDevice, match="neither copy"):
        partitions.read(whole)


@pytest.mark.sfdisk
def test_a_gpt_counts_only_where_the_mbr_says_so(gpt: Path, disk: Opened) -> None:
    whole = disk(gpt)
    whole.pwrite(b"\x83", 450)
    assert partitions.read(whole).scheme == "mbr"
    whole.pwrite(bytes(512), 0)
    assert partitions.read(whole) == partitions.Table("")


def extended(image: Path, records: dict[int, list[tuple[int, int, int]]]) -> None:
    """Boot records by block, each with entries of (type, start, count)."""
    with image.open("r+b") as file:
        for block, entries in records.items():
            body = b"".join(struct.pack("<B3xB3xII", 0, *entry) for entry in entries).ljust(64, b"\0")
            file.seek(block * 512 + 446)
            file.write(body + b"\x55\xaa")


@pytest.mark.parametrize(
    ("records", "numbers"),
    [
        ({10: [(0x83, 1, 1), (5, 0, 50)]}, [5]),  # to itself
        ({10: [(0x83, 1, 1), (5, 20, 50)], 30: [(0x83, 1, 1), (5, 0, 50)]}, [5, 6]),  # back to the first
        ({10: [(0x83, 1, 1), (5, 0xFFFFFFF0, 50)]}, [5]),  # behind the disk
        ({10: [(0, 0, 0), (5, 20, 50)], 30: [(0, 0, 0), (5, 0, 50)]}, []),
        ({10 + i: [(0x83, 1, 1), (5, i + 1, 1)] for i in range(400)}, [*range(5, 256)]),
        ({10 + i: [(0, 0, 0), (5, i + 1, 1)] for i in range(400)}, []),
        ({10: [(0x83, 1, 1), (5, 20, 50)]}, [5]),  # to a block that is no boot record
    ],
)
def test_a_chain_of_boot_records_ends(
    image: Image, disk: Opened, records: dict[int, list[tuple[int, int, int]]], numbers: list[int]
) -> None:
    path = image(MIB)
    extended(path, {0: [(5, 10, 1000)], **records})
    found = partitions.read(disk(path))
    assert [one.number for one in found.partitions] == numbers


def test_partitions_behind_the_end_are_cut_or_left_out(image: Image, disk: Opened) -> None:
    path = image(MIB)
    extended(path, {0: [(0x83, 2000, 100), (0x83, 2048, 1), (0x83, 1, 2047)]})
    found = partitions.read(disk(path))
    assert places(found.partitions) == [(1, 2000 * 512, 48 * 512), (3, 512, 2047 * 512)]
    assert found.warnings == (
        "partition 1 ends behind the disk, and is cut there",
        "partition 2 begins behind the disk, and is left out",
    )


@pytest.mark.parametrize(
    ("block", "scheme"),
    [(b"", ""), (bytes(510) + b"\x55\xaa", "mbr"), (b"\xeb".ljust(446, b"x") + b"code" * 16 + b"\x55\xaa", "")],
)
def test_what_is_no_table_has_no_partitions(image: Image, disk: Opened, block: bytes, scheme: str) -> None:
    whole = disk(image(MIB))
    whole.pwrite(block, 0)
    assert partitions.read(whole) == partitions.Table(scheme)
    with pytest.raises(NoSuchDevice) as caught:
        partitions.find(whole, 1)
    assert caught.value.errno == errno.ENXIO


@pytest.mark.sfdisk
def test_a_partition_is_a_disk_within_its_bounds(gpt: Path, disk: Opened) -> None:
    whole = disk(gpt)
    content = random.Random(1).randbytes(16 * MIB - 4 * MIB)
    whole.pwrite(content, 4 * MIB)
    one, _ = partitions.find(whole, 2)
    part = partitions.view(whole, one)
    assert (one.start, one.size) == (4 * MIB, MIB)
    assert part.size == MIB
    assert part.identity.endswith("-part2")
    assert part.pread(2 * MIB, 0) == content[:MIB]
    assert part.pread(10, MIB) == b""
    assert bytes(part.read_many([MIB - 512, 0], 512).reshape(-1)) == content[MIB - 512 : MIB] + content[:512]
    part.pwrite(b"written", MIB - 7)
    assert whole.pread(8, 5 * MIB - 7) == b"written" + content[MIB : MIB + 1]
    with pytest.raises(MediumError) as caught:
        part.pwrite(b"12", MIB - 1)
    assert caught.value.errno == errno.ENOSPC
    part.zero(offset=0, length=4096)
    assert whole.pread(4097, 4 * MIB) == bytes(4096) + content[4096:4097]
    part.write_many([512, 1024], b"a" * 512 + b"b" * 512)
    assert whole.pread(1024, 4 * MIB + 512) == b"a" * 512 + b"b" * 512


@pytest.mark.sfdisk
@pytest.mark.parametrize("lba", [-1, 2048, 2047])
def test_what_stands_on_a_window_cannot_leave_it(gpt: Path, disk: Opened, lba: int) -> None:
    """A Disk checks its bounds; a window that stands below something else must, too."""
    whole = disk(gpt)
    window = partitions.view(whole, partitions.find(whole, 2)[0]).unit
    for write in (False, True):
        with pytest.raises(MediumError):
            transfer(window, write, lba, memoryview(bytearray(1024)))
        with pytest.raises(MediumError):
            window.batch(write, memoryview(struct.pack("2q", 0, lba)).cast("q"), bytearray(2048), queue_depth=1)
    for act in (window.zero, window.discard):
        with pytest.raises(MediumError):
            act(lba, 2)


@pytest.mark.sfdisk
def test_a_window_and_its_disk_share_a_lock(gpt: Path, disk: Opened) -> None:
    whole = disk(gpt)
    part = partitions.view(whole, partitions.find(whole, 2)[0])
    first = 4 * MIB // 512
    with part.unit.lock.modify(3, 1):
        assert whole.unit.lock.try_write(first + 3, 1) is None
        assert part.unit.lock.try_write(3, 1) is None
        assert part.unit.lock.entries == whole.unit.lock.entries == 1
        elsewhere = whole.unit.lock.try_write(first + 4, 1)
        assert elsewhere is not None
        elsewhere.leave()


def sealed(block: bytearray, at: int) -> None:
    """Puts the right checksum on a GPT header, so that malice gets past it."""
    block[at + 16 : at + 20] = bytes(4)
    block[at + 16 : at + 20] = struct.pack("<I", zlib.crc32(block[at : at + 92]))


@pytest.mark.sfdisk
def test_mutated_tables_raise_nothing_but_swd_errors(gpt: Path, mbr: Path, image: Image, disk: Opened) -> None:
    chance = random.Random(20260101)
    path = image(16 * MIB, "mutant")
    whole = disk(path)
    for number in range(300):
        source = bytearray((gpt if number % 2 else mbr).read_bytes()[: 17 * 1024])
        for _ in range(chance.randint(1, 8)):
            source[chance.choice([446, 512, 1024]) + chance.randrange(100)] = chance.randrange(256)
        if number % 4 == 1:
            sealed(source, 512)
        whole.pwrite(source, 0)
        try:
            for one in partitions.read(whole).partitions:
                assert 0 <= one.start < one.start + one.size <= whole.size
        except SwdError:
            pass
