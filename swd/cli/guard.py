# SPDX-License-Identifier: Apache-2.0
"""Looks before a destructive verb writes: does the unit hold something, does this host's kernel use it?

Both questions are asked of the unit itself, at its start and in its identity, never of a name. `--overwrite` answers
the first, `--force` the second. A reservation of another initiator needs no look: the target refuses, also with EBUSY.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from swd.errors import DeviceBusy, SwdError
from swd.scsi.identity import Association, parse_designators

LOOK: Final = 68 << 10  # bytes of the unit's start that hold every signature below (btrfs lies at 64 KiB)
SYSFS: Final = Path("/sys")


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


def check_content(name: str, size: int, pread: Callable[[int, int], bytes], way_out: str = "--overwrite") -> None:
    """Raise DeviceBusy (EBUSY) if the unit holds something known. `pread(length, offset)` reads it; `size` in bytes."""
    names = found(pread(min(size, LOOK), 0)) if size else []
    if names:
        held = " and ".join(names)
        raise DeviceBusy(f"{name} holds {held}: nothing was written.\nIf that may be lost, say {way_out}.")


def check_attached(name: str, identity: str, sysfs: Path | None = None) -> None:
    """Raise DeviceBusy if this host's kernel has a disk with the same designator. `identity` as `Disk.identity`."""
    disk = attached(identity, sysfs)
    if disk is not None:
        raise DeviceBusy(
            f"{name} is attached by this host's kernel as /dev/{disk} ({identity}): nothing was written.\n"
            "Two writers destroy each other's data: detach it there first, or say --force."
        )


def attached(identity: str, sysfs: Path | None = None) -> str | None:
    """The kernel's name of the disk with this designator (`naa.6001...`, `eui....`), or None. Reads sysfs only."""
    wanted = _normal(identity)
    if not wanted:
        return None
    for device in sorted((sysfs or SYSFS).glob("block/*/device")):
        if wanted in _designators(device):
            return device.parent.name
    return None


def _designators(device: Path) -> set[str]:
    """What the kernel knows of a disk's identity: its choice in words (`wwid`), and all of VPD page 83h as bytes."""
    chosen = _normal(_file(device / "wwid").decode("ascii", "replace"))
    return _from_page_83(_file(device / "vpd_pg83")) | ({chosen} - {""})


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # an attribute that this disk lacks: no evidence, and no reason to refuse
        return b""


def _from_page_83(page: bytes) -> set[str]:
    """The designators of the logical unit itself in a VPD page 83h; a page that makes no sense has none."""
    try:
        return {_normal(d.text) for d in parse_designators(page) if d.association == Association.LOGICAL_UNIT}
    except SwdError:
        return set()


def _normal(designator: str) -> str:
    """One spelling for a disk and its partitions: ours (`t10.IET_0001 (weak)`) or the kernel's (`t10.IET     0001`)."""
    whole = re.sub(r"-part[0-9]+$", "", designator).removesuffix(" (weak)")
    return "_".join(whole.lower().split())
