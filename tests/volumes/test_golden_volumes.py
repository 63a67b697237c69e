# SPDX-License-Identifier: Apache-2.0
"""Every logical volume of the golden images reads as device-mapper read it, or is refused as it must be."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import golden

import swd
from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.errors import MediumError, SwdError
from swd.volumes import partitions
from swd.volumes.lvm2.build import Builder, why_group_not_writable
from swd.volumes.lvm2.scan import Device, Group, choose, scan
from swd.volumes.lvm2.unit import VolumeUnit

CASES = sorted(set(golden.manifest()) - {"story"})  # whose 432 MiB the test of the start-up reads
Found = Callable[..., Group]
# What the manifest says in words: which disks make volumes of the half synchronised group unreadable when they go.
HALF_SYNCED = {
    ("halfsynced", "five"): [("pv0",), ("pv1",), ("pv2",)],
    ("halfsynced", "six"): [("pv0",), ("pv1",), ("pv2",), ("pv3",), ("pv4",)],
    ("halfsynced", "one"): [("pv3",)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture
def group(folder: Path) -> Iterator[Found]:
    """The volume group of a case, without some of its images."""
    disks: list[Disk] = []

    def found(case: str, without: tuple[str, ...] = ()) -> Group:
        (folder / case).mkdir(exist_ok=True)
        paths = [path for path in golden.unpack(case, folder / case) if path.name not in without]
        disks.extend(swd.open(f"file://{path}") for path in paths)
        devices = [
            Device(f"{path.name} {part.identity}", part, part.identity)
            for path, disk in zip(paths, disks[-len(paths) :], strict=True)
            for part in (disk, *(partitions.view(disk, one) for one in partitions.read(disk).partitions))
        ]
        return choose(scan(devices), golden.manifest()[case]["vg"])

    yield found
    for disk in disks:
        disk.close()


def opened(builder: Builder, name: str) -> Disk:
    disks = [member.device.disk for member in builder.found.members.values()]
    builder.find(name)
    unit = VolumeUnit(builder.view(name), disks, name, read_only=True, lock=RangeLock())
    return Disk(unit, writable=False)


@pytest.mark.parametrize(
    ("case", "without"), [(case, without) for case in CASES for without in golden.losses(case)], ids=str
)
def test_volumes_read_as_device_mapper_read_them(group: Found, case: str, without: tuple[str, ...]) -> None:
    builder = Builder(group(case, without))
    refused = {one["lv"] for one in golden.manifest()[case]["refused"]}
    for volume in golden.manifest()[case]["volumes"]:
        if tuple(volume["without"]) != without or volume["lv"] in refused:
            continue
        with opened(builder, volume["lv"]) as disk:
            assert disk.size == volume["size"]
            content = disk.pread(disk.size, 0)
            assert hashlib.sha256(content).hexdigest() == volume["sha256"], volume["lv"]
            step = 3 * 512
            offsets = range(0, disk.size - step, max(7, disk.size // 512 // 150) * 512)
            rows = disk.read_many(offsets, step)  # across edges of all kinds
            assert all(bytes(row) == content[at : at + step] for row, at in zip(rows, offsets, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_what_must_not_be_read_is_refused(group: Found, case: str) -> None:
    for refused in golden.manifest()[case]["refused"]:
        for without in HALF_SYNCED.get((case, refused["lv"]), [()]):
            with pytest.raises(SwdError) as caught:
                builder = Builder(group(case, without))
                if refused["errno"] == "EROFS":
                    raise MediumError(why_group_not_writable(builder.found) or "", errno=errno.EROFS)
                with opened(builder, refused["lv"]) as disk:
                    disk.pread(disk.size, 0)
            assert caught.value.reason
            assert caught.value.errno == getattr(errno, refused["errno"]), (refused, without, caught.value)
