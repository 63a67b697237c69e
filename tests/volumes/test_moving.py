# SPDX-License-Identifier: Apache-2.0
"""Moving bytes of a volume: writes land where they belong and nowhere else, and batches stay batches on the disks."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ram_unit import RamUnit
from support import golden

import swd
from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.driver import volumes
from swd.errors import BatchError, CacheLost, MediumError, SwdError
from swd.volumes.lvm2.build import Builder
from swd.volumes.lvm2.scan import Device, choose, scan
from swd.volumes.lvm2.unit import VolumeUnit

Volume = Callable[[str, str], tuple[Disk, list[RamUnit]]]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """A volume of a golden group over disks in memory that note what they are asked."""

    def opened(case: str, name: str) -> tuple[Disk, list[RamUnit]]:
        units, devices = [], []
        for path in golden.unpack(case, tmp_path):
            content = bytearray(path.read_bytes())
            units.append(RamUnit(len(content) // 512))
            units[-1].data = content
            devices.append(Device(path.name, Disk(units[-1], writable=True), path.name))
        builder = Builder(choose(scan(devices), case))
        disks = [member.device.disk for member in builder.found.members.values()]
        unit = VolumeUnit(builder.view(name), disks, name, read_only=False, lock=RangeLock())
        for one in units:
            one.log.clear()
        return Disk(unit, writable=True), units

    return opened


def others(case: str, name: str, units: list[RamUnit]) -> list[bytes]:
    """What the group's other volumes hold, and the labels and metadata."""
    disks = [Disk(unit, writable=False) for unit in units]
    builder = Builder(choose(scan(Device(str(i), disk, str(i)) for i, disk in enumerate(disks)), case))
    start = min(one.start for one in builder.group.physical.values())
    found = [unit.data[:start] for unit in units]
    for one in golden.manifest()[case]["volumes"]:
        if one["lv"] != name:
            unit = VolumeUnit(builder.view(one["lv"]), disks, "", read_only=True, lock=RangeLock())
            found.append(Disk(unit, writable=False).pread(one["size"], 0))
    return [bytes(one) for one in found]


@pytest.mark.parametrize(
    ("case", "name"),
    [("linear", "lin"), ("striped", "two"), ("striped", "three"), ("striped", "grown"), ("raid0", "plain")],
)
def test_writes_land_in_their_place_and_nowhere_else(volume: Volume, case: str, name: str) -> None:
    disk, units = volume(case, name)
    before = others(case, name, units)
    model = bytearray(disk.pread(disk.size, 0))
    chance = random.Random(f"{case}/{name}")
    for _ in range(60):
        length = chance.choice([1, 511, 512, 5000, 70000, 300000])
        offset = chance.randrange(disk.size - length)
        data = chance.randbytes(length)
        if chance.random() < 0.2:
            data = bytes(length)
            disk.zero(offset=offset, length=length)
        else:
            disk.pwrite(data, offset)
        model[offset : offset + length] = data
    offsets = [512 * one for one in chance.sample(range(disk.size // 512), 50)]
    block = chance.randbytes(512)
    disk.write_many(offsets, np.broadcast_to(np.frombuffer(block, np.uint8), (50, 512)))
    for offset in offsets:
        model[offset : offset + 512] = block
    disk.discard(offset=0, length=4096)
    model[:4096] = disk.pread(4096, 0)
    assert disk.pread(disk.size, 0) == model
    assert others(case, name, units) == before


def test_a_long_read_of_a_striped_volume_is_one_of_each_disk(volume: Volume) -> None:
    disk, units = volume("striped", "two")  # stripes of 4 KiB over pv0 and pv1
    disk.pread(1 << 20, 0)
    assert [unit.log for unit in units] == [[("read", 2048, 1024)], [("read", 2048, 1024)], []]


def test_a_batch_is_one_batch_of_each_disk(volume: Volume) -> None:
    disk, units = volume("striped", "two")
    offsets = np.arange(0, 1 << 20, 4096)
    np.random.default_rng(1).shuffle(offsets)
    rows = disk.read_many(offsets, 4096)
    assert [[(verb, count) for verb, _, count in unit.log] for unit in units] == [[("batch read", 128)]] * 2 + [[]]
    content = disk.pread(1 << 20, 0)
    assert all(bytes(row) == content[at : at + 4096] for row, at in zip(rows, offsets.tolist(), strict=True))


def test_a_batch_over_a_bad_block_fails_where_it_is(volume: Volume) -> None:
    disk, units = volume("striped", "two")
    units[1].bad.add(2048 + 8)  # the second stripe of pv1: bytes 12288 to 16383
    for offsets in ([0, 12288, 4096, 20480], [8192, 12288, 16384, 20480]):
        with pytest.raises(BatchError) as caught:
            disk.read_many(offsets, 4096)
        assert caught.value.results == [0, errno.EIO, 0, 0]
    with pytest.raises(MediumError):
        disk.pread(1 << 20, 0)


def test_a_lost_cache_is_told_once(volume: Volume) -> None:
    disk, units = volume("striped", "two")
    disk.pwrite(b"x", 0)
    units[0].cache_losses += 1
    with pytest.raises(CacheLost):
        disk.flush()
    disk.flush()


@pytest.fixture
def devices(tmp_path: Path) -> Callable[[str], list[str]]:
    return lambda case: [str(path) for path in golden.unpack(case, tmp_path)]


def test_writing_needs_rw_at_activation_and_a_volume_that_allows_it(devices: Callable[[str], list[str]]) -> None:
    images = devices("striped")
    volumes.activate("striped", devices=images)
    with pytest.raises(MediumError, match="--rw") as caught:
        swd.open("lvm://striped/two", "r+b")
    assert caught.value.errno == errno.EROFS
    volumes.activate("striped", devices=images, writable=True)
    with swd.open("lvm://striped/two", "r+b") as disk, swd.open("lvm://striped/two", "r+b") as same:
        assert disk.unit.lock is same.unit.lock
        disk.pwrite(b"written", 5)
        disk.flush()
        assert same.pread(12, 0) == b"two 0written"
    with open(images[0], "rb") as file:
        file.seek(1 << 20)
        assert file.read(12) == b"two 0written"


@pytest.mark.parametrize(
    ("case", "lv"),
    [
        ("raid1", "two"),
        ("raid5", "ls"),
        ("mirror", "disk"),
        ("raid0", "meta"),
        ("pvmove", "moved"),
        ("cow", "origin"),
        ("cow", "snap4"),
        ("thin", "small"),
    ],
)
def test_what_only_the_kernel_can_keep_right_is_erofs(devices: Callable[[str], list[str]], case: str, lv: str) -> None:
    volumes.activate(case, devices=devices(case), writable=True)
    with pytest.raises(SwdError, match="cannot be written") as caught:
        swd.open(f"lvm://{case}/{lv}", "r+b")
    assert caught.value.errno == errno.EROFS
