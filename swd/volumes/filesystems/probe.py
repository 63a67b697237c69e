# SPDX-License-Identifier: Apache-2.0
"""Which file system is on a disk, and in which state: the superblocks decide, each read by its own module."""

from __future__ import annotations

from typing import Final

from swd.errors import DeviceBusy, FileSystemError, Unsupported
from swd.volumes import signatures
from swd.volumes.filesystems import ext, fat, ntfs, xfs
from swd.volumes.filesystems.record import FileSystem, Look, Readable

PARSERS: Final = (ext.parse, xfs.parse, ntfs.parse, fat.parse)
BTRFS_AT: Final = 65536
_ADVICE: Final = {
    "partition table": "\nTo go on, name a partition: --partition N.",
    "LVM2": "\nTo go on, `swdctl vg activate`, and name a volume: lvm://VG/LV.",
}


def probe(disk: Readable) -> FileSystem | None:
    """The file system on `disk`, clean or not, read by swd or not; None if there is none.

    Raises FileSystemError (EIO) where a superblock is damaged or there are two, and whatever reading raises.
    """
    found = [system for parse in PARSERS if (system := parse(Look(disk))) is not None]
    if btrfs := _btrfs(Look(disk)):
        found.append(btrfs)
    if len(found) > 1:
        kinds = " and ".join(system.kind for system in found)
        raise FileSystemError(
            f"there are the superblocks of {kinds}: one of them is a remnant.\nSee what blkid and wipefs say."
        )
    return found[0] if found else None


def demand(disk: Readable, name: str, *, dirty: bool = False) -> FileSystem:
    """The file system on `disk`, if it can be read. `name`: the DEV, for messages; `dirty`: one that is not clean, too.

    Raises Unsupported (EOPNOTSUPP) where there is none that this version reads, DeviceBusy (EBUSY) where it is not
    clean, and what `probe` raises.
    """
    system = probe(disk)
    if system is None:
        raise Unsupported(f"{name} holds no file system that swd knows{_instead(disk)}")
    if system.unsupported:
        raise Unsupported(
            f"{name} holds {system.kind}, which is not supported: {system.unsupported}.\n"
            "The kernel's own reader may know it: swdctl mount."
        )
    if system.dirty and not dirty:
        raise unclean(name, system)
    return system


def unclean(name: str, system: FileSystem) -> DeviceBusy:
    return DeviceBusy(
        f"{name} holds {system.kind} that is not clean: {system.dirty}.\n"
        "Unmount it there, or let its own fsck mend it; to read it as it lies, with what may be torn, say --dirty."
    )


def _instead(disk: Readable) -> str:
    names = signatures.found(disk.pread(min(disk.size, signatures.LOOK), 0)) if disk.size else []
    if not names:
        return ": no signature.\nIf it is a part of the disk, name it: --partition N."
    advice = next((advice for sign, advice in _ADVICE.items() if sign in names[0]), "")
    return f", but {' and '.join(names)}.{advice}"


def _btrfs(look: Look) -> FileSystem | None:
    if look.size < BTRFS_AT + 4096:
        return None
    raw = look.at(BTRFS_AT, 4096)
    if raw[64:72] != b"_BHRfS_M":
        return None
    size = int.from_bytes(raw[112:120], "little")
    used = int.from_bytes(raw[120:128], "little")
    label = raw[299:555].partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return FileSystem(
        "btrfs",
        label,
        raw[32:48].hex(),
        int.from_bytes(raw[144:148], "little"),
        size,
        max(size - used, 0),
        unsupported="btrfs is not read by this version",
        mark=look.mark(),
    )
