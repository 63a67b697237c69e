# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a unit say that it holds: partition tables, volume groups, file systems, swap space.

The one table for whoever asks: the guard of the destructive verbs, and the choice of a file system's reader. A
signature says what was once made here, not that it is whole.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LOOK: Final = 68 << 10  # bytes of the unit's start that hold every signature below (btrfs lies at 64 KiB)


class Signature(NamedTuple):
    """`magic` at byte `offset` means that the unit holds `name`. `hides`: names that it explains away."""

    name: str
    offset: int
    magic: bytes
    hides: tuple[str, ...] = ()


_MBR: Final = "an MBR partition table or boot sector"
_GPT: Final = "a GPT partition table"
_FAT: Final = "a FAT file system"
_NTFS: Final = "an NTFS file system"
_EXFAT: Final = "an exFAT file system"
_LVM: Final = "an LVM2 physical volume"
_SWAP: Final = "swap space"

SIGNATURES: Final[tuple[Signature, ...]] = (
    Signature(_GPT, 512, b"EFI PART", (_MBR,)),  # LBA 1 of 512-byte blocks (UEFI 5.3.2)
    Signature(_GPT, 4096, b"EFI PART", (_MBR,)),  # LBA 1 of 4096-byte blocks
    Signature(_FAT, 54, b"FAT12   ", (_MBR,)),
    Signature(_FAT, 54, b"FAT16   ", (_MBR,)),
    Signature(_FAT, 82, b"FAT32   ", (_MBR,)),
    Signature(_NTFS, 3, b"NTFS    ", (_MBR,)),
    Signature(_EXFAT, 3, b"EXFAT   ", (_MBR,)),
    Signature(_MBR, 510, b"\x55\xaa"),
    # LVM2 puts its label in one of the first four 512-byte sectors, whatever the block size.
    *(Signature(_LVM, sector * 512, b"LABELONE") for sector in range(4)),
    Signature("an ext2, ext3 or ext4 file system", 1024 + 56, b"\x53\xef"),
    Signature("an XFS file system", 0, b"XFSB"),
    Signature("a btrfs file system", 65536 + 64, b"_BHRfS_M"),
    Signature("a LUKS volume", 0, b"LUKS\xba\xbe"),
    Signature("a Linux RAID member", 4096, b"\xfc\x4e\x2b\xa9"),  # metadata 1.2
    # The signature ends the first page, and page sizes differ between machines.
    *(Signature(_SWAP, page - 10, b"SWAPSPACE2") for page in (4096, 8192, 16384, 65536)),
    *(Signature(_SWAP, page - 10, b"SWAP-SPACE") for page in (4096, 8192, 16384, 65536)),
)


def found(start: bytes) -> list[str]:
    """What the first bytes of a unit say that it holds; [] for nothing known. What another row explains is left out."""
    hits = [row for row in SIGNATURES if start[row.offset : row.offset + len(row.magic)] == row.magic]
    hidden = {name for row in hits for name in row.hides}
    return [name for name in dict.fromkeys(row.name for row in hits) if name not in hidden]
