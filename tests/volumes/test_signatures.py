# SPDX-License-Identifier: Apache-2.0
"""The signature table by hand-made starts of disks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.volumes import signatures

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
    disk = bytearray(signatures.LOOK)
    for part in parts:
        for offset, data in part.items():
            disk[offset : offset + len(data)] = data
    return bytes(disk)


@pytest.mark.parametrize("look", LOOKS)
def test_each_signature_is_found_alone(look: str) -> None:
    names = signatures.found(start(LOOKS[look]))
    assert len(names) == 1
    assert WORDS[look] in names[0]


def test_every_row_lies_in_what_is_read_and_has_a_look() -> None:
    covered = {name for look in LOOKS.values() for name in signatures.found(start(look))}
    assert covered == {row.name for row in signatures.SIGNATURES}
    assert all(row.offset + len(row.magic) <= signatures.LOOK for row in signatures.SIGNATURES)


def test_two_things_are_both_named() -> None:
    names = signatures.found(start(LOOKS["LVM2 1"], LOOKS["ext"]))
    assert ["LVM2" in names[0], "ext4" in names[1]] == [True, True]


def test_blank_and_short_starts_hold_nothing() -> None:
    assert signatures.found(bytes(signatures.LOOK)) == []
    assert signatures.found(b"") == []
    assert signatures.found(start(LOOKS["MBR"])[:511]) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=6000))
def test_any_bytes_are_judged(data: bytes) -> None:
    assert set(signatures.found(data)) <= {row.name for row in signatures.SIGNATURES}
