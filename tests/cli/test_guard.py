# SPDX-License-Identifier: Apache-2.0
"""The signature table by hand-made starts of disks, and sysfs by a folder that looks like one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.cli import guard
from swd.errors import DeviceBusy

# What each thing looks like on a disk, written down from its own documents and not from the table under test.
LOOKS: dict[str, dict[int, bytes]] = {
    "MBR": {510: b"\x55\xaa", 446: b"\x80\x20\x21\x00\x83"},
    "GPT": {510: b"\x55\xaa", 450: b"\xee", 512: b"EFI PART\x00\x00\x01\x00"},
    "GPT on 4096": {4096: b"EFI PART\x00\x00\x01\x00"},
    "LVM2 0": {0: b"LABELONE", 24: b"LVM2 001"},
    "LVM2 1": {512: b"LABELONE", 536: b"LVM2 001"},
    "LVM2 2": {1024: b"LABELONE"},
    "LVM2 3": {1536: b"LABELONE"},
    "ext": {1080: b"\x53\xef"},
    "XFS": {0: b"XFSB\x00\x00\x10\x00"},
    "NTFS": {0: b"\xeb\x52\x90NTFS    ", 510: b"\x55\xaa"},
    "exFAT": {0: b"\xeb\x76\x90EXFAT   ", 510: b"\x55\xaa"},
    "FAT12": {54: b"FAT12   ", 510: b"\x55\xaa"},
    "FAT16": {54: b"FAT16   ", 510: b"\x55\xaa"},
    "FAT32": {82: b"FAT32   ", 510: b"\x55\xaa"},
    "btrfs": {65536 + 64: b"_BHRfS_M"},
    "LUKS": {0: b"LUKS\xba\xbe\x00\x02"},
    "RAID": {4096: b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"},
    "swap": {4086: b"SWAPSPACE2"},
    "swap 64k": {65526: b"SWAPSPACE2"},
    "old swap": {4086: b"SWAP-SPACE"},
}
WORDS = {
    "MBR": "MBR", "GPT": "GPT", "GPT on 4096": "GPT",
    "LVM2 0": "LVM2", "LVM2 1": "LVM2", "LVM2 2": "LVM2", "LVM2 3": "LVM2",
    "ext": "ext4", "XFS": "XFS", "NTFS": "NTFS", "exFAT": "exFAT", "FAT12": "FAT", "FAT16": "FAT", "FAT32": "FAT",
    "btrfs": "btrfs", "LUKS": "LUKS", "RAID": "RAID", "swap": "swap", "swap 64k": "swap", "old swap": "swap",
}  # fmt: skip


def start(*parts: dict[int, bytes]) -> bytes:
    disk = bytearray(guard.LOOK)
    for part in parts:
        for offset, data in part.items():
            disk[offset : offset + len(data)] = data
    return bytes(disk)


@pytest.mark.parametrize("look", LOOKS)
def test_each_signature_is_found_alone(look: str) -> None:
    names = guard.found(start(LOOKS[look]))
    assert len(names) == 1
    assert WORDS[look] in names[0]


def test_every_row_lies_in_what_is_read_and_has_a_look() -> None:
    covered = {name for look in LOOKS.values() for name in guard.found(start(look))}
    assert covered == {row.name for row in guard.SIGNATURES}
    assert all(row.offset + len(row.magic) <= guard.LOOK for row in guard.SIGNATURES)


def test_two_things_are_both_named() -> None:
    names = guard.found(start(LOOKS["LVM2 1"], LOOKS["ext"]))
    assert ["LVM2" in names[0], "ext4" in names[1]] == [True, True]


def test_blank_and_short_starts_hold_nothing() -> None:
    assert guard.found(bytes(guard.LOOK)) == []
    assert guard.found(b"") == []
    assert guard.found(start(LOOKS["MBR"])[:511]) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=6000))
def test_any_bytes_are_judged(data: bytes) -> None:
    assert set(guard.found(data)) <= {row.name for row in guard.SIGNATURES}


def test_refusal_names_device_and_content_and_the_way_out() -> None:
    disk = start(LOOKS["XFS"])
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
