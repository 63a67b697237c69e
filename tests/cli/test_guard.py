# SPDX-License-Identifier: Apache-2.0
"""The refusals of destructive verbs, and sysfs by a folder that looks like one."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd._rangelock import RangeLock
from swd.cli import guard
from swd.errors import DeviceBusy, InvalidArgument
from swd.volumes.window import Window


def test_refusal_names_device_and_content_and_the_way_out() -> None:
    disk = b"XFSB\x00\x00\x10\x00".ljust(8192, b"\0")
    with pytest.raises(DeviceBusy, match=r"mem://x holds an XFS file system(.|\n)*--overwrite") as caught:
        guard.check_content("mem://x", len(disk), lambda length, offset: disk[offset : offset + length])
    assert caught.value.errno == errno.EBUSY


def test_a_disk_smaller_than_the_look_is_read_to_its_end_only() -> None:
    asked: list[tuple[int, int]] = []

    def pread(length: int, offset: int) -> bytes:
        asked.append((length, offset))
        return bytes(length)

    guard.check_content("d", 1024, pread)
    guard.check_content("d", 0, pread)
    assert asked == [(1024, 0)]


NAA = "naa.600140512345678900000000deadbeef"


def sysfs(root: Path, *, wwid: str | None = None, page: bytes | None = None) -> Path:
    device = root / "block" / "sdq" / "device"
    device.mkdir(parents=True)
    (root / "block" / "loop0").mkdir()
    if wwid is not None:
        (device / "wwid").write_text(wwid)
    if page is not None:
        (device / "vpd_pg83").write_bytes(page)
    return root


def page_83(*designators: bytes) -> bytes:
    body = b"".join(designators)
    return b"\x00\x83" + len(body).to_bytes(2, "big") + body


def designator(value: bytes, *, kind: int, association: int = 0) -> bytes:
    return bytes([1, association << 4 | kind, 0, len(value)]) + value


@pytest.mark.parametrize("wwid", [f"{NAA}\n", NAA.upper().replace("NAA", "naa")])
def test_the_kernels_word_is_compared(tmp_path: Path, wwid: str) -> None:
    assert guard.attached(NAA, sysfs(tmp_path, wwid=wwid)) == "sdq"


def test_the_page_is_compared(tmp_path: Path) -> None:
    t10 = designator(b"IET     00010001", kind=1)
    page = page_83(t10, designator(bytes.fromhex(NAA[4:]), kind=3))
    root = sysfs(tmp_path, wwid="t10.IET     00010001", page=page)
    assert guard.attached(NAA, root) == "sdq"
    assert guard.attached("t10.IET_00010001 (weak)", root) == "sdq"
    assert guard.attached("naa.600140512345678900000000deadbee0", root) is None
    assert guard.attached("", root) is None


def test_a_designator_of_the_port_is_not_the_unit(tmp_path: Path) -> None:
    page = page_83(designator(bytes.fromhex(NAA[4:]), kind=3, association=1))
    assert guard.attached(NAA, sysfs(tmp_path, page=page)) is None


def test_a_disk_without_attributes_and_no_sysfs_at_all(tmp_path: Path) -> None:
    assert guard.attached(NAA, tmp_path / "nowhere") is None
    assert guard.attached(NAA, sysfs(tmp_path)) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_page_is_read(page: bytes) -> None:
    guard._from_page_83(page)
    assert NAA in guard._from_page_83(page_83(designator(bytes.fromhex(NAA[4:]), kind=3)) + page)


def test_an_attached_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceBusy, match=r"/dev/sdq.*(.|\n)*--force") as caught:
        guard.check_attached("iscsi://x", NAA, sysfs(tmp_path, wwid=NAA))
    assert caught.value.errno == errno.EBUSY


class Ground:
    """What `check_apart` sees of a unit behind a session, of blocks of 512 bytes."""

    block_size = 512

    blocks = 100

    def __init__(self, identity: str, *, strong: bool = True, target: str = "t", lun: int = 0) -> None:
        self.identity, self.identity_strong, self.lun = identity, strong, lun
        self.session = SimpleNamespace(parameters=SimpleNamespace(target_name=target))
        self.lock = RangeLock()
        self.physical_block_size, self.max_transfer, self.read_only = 512, 1 << 20, False


class Volume:
    """And of a logical volume."""

    def __init__(self, *disks: object) -> None:
        self.disks = [whole(disk) for disk in disks]
        self.lock = RangeLock()


def whole(unit: object, blocks: int = 100) -> Any:
    return SimpleNamespace(unit=unit, size=blocks * 512, identity="it")


def part(unit: Any, first: int, blocks: int) -> Any:
    return whole(Window(unit, first, blocks, "part"), blocks)


DISK, PATH, OTHER = Ground("naa.1"), Ground("naa.1", target="u", lun=3), Ground("naa.2")


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (whole(DISK), whole(DISK)),
        (whole(DISK), whole(PATH)),
        (whole(Ground("x", strong=False)), whole(Ground("x", strong=False))),
        (part(DISK, 0, 10), part(PATH, 9, 10)),
        (part(DISK, 9, 10), part(PATH, 0, 10)),
        (part(DISK, 50, 10), part(PATH, 55, 1)),
        (part(part(DISK, 50, 50).unit, 0, 10), part(DISK, 55, 10)),
        (whole(DISK), whole(Volume(OTHER, PATH))),
        (part(DISK, 1, 9), whole(Volume(OTHER, PATH))),
        (whole(Volume(OTHER, DISK)), whole(PATH)),
    ],
)
def test_a_copy_that_would_write_what_it_reads(source: Any, sink: Any) -> None:
    with pytest.raises(InvalidArgument, match="a and b are the same place") as caught:
        guard.check_apart(source, sink, ("a", "b"))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (whole(DISK), whole(OTHER)),
        (whole(Ground("x", strong=False)), whole(Ground("x", strong=False, target="u"))),
        (whole(Ground("x", strong=False)), whole(Ground("x", strong=False, lun=1))),
        (part(DISK, 0, 10), part(PATH, 10, 10)),
        (part(DISK, 10, 10), part(PATH, 0, 10)),
        (part(DISK, 10, 10), whole(PATH)),
        (whole(Volume(DISK)), whole(Volume(DISK))),
        (whole(DISK), whole(Volume(OTHER))),
    ],
)
def test_a_copy_that_would_not(source: Any, sink: Any) -> None:
    guard.check_apart(source, sink, ("a", "b"))
