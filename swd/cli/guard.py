# SPDX-License-Identifier: Apache-2.0
"""Looks before a destructive verb writes: does the unit hold something, does this host's kernel use it, is it what is
being read?

All are asked of the unit itself, at its start and in its identity, never of a name. `--overwrite` answers the first,
`--force` the second, nothing the third. A reservation of another initiator needs no look: the target refuses, also with
EBUSY.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from swd.errors import DeviceBusy, InvalidArgument, SwdError
from swd.scsi.identity import Association, parse_designators
from swd.volumes.signatures import LOOK, found

if TYPE_CHECKING:
    from swd.disk import Disk

SYSFS: Final = Path("/sys")


def check_content(name: str, size: int, pread: Callable[[int, int], bytes], way_out: str = "--overwrite") -> None:
    """Raise DeviceBusy (EBUSY) if the unit holds something known. `pread(length, offset)` reads it; `size` in bytes."""
    names = found(pread(min(size, LOOK), 0)) if size else []
    if names:
        held = " and ".join(names)
        raise DeviceBusy(f"{name} holds {held}: nothing was written.\nIf that may be lost, say {way_out}.")


def identities(disk: Disk) -> Iterator[str]:
    """Those of the disk, and of the disks that it stands on, as a logical volume does."""
    yield disk.identity
    for below in getattr(disk.unit, "disks", ()):
        yield from identities(below)


def check_apart(source: Disk, sink: Disk, names: tuple[str, str]) -> None:
    """Raise InvalidArgument (EINVAL) if a copy of all of `source` to the start of `sink` would write what it reads: the
    same unit by whatever name or path, partitions of one disk that overlap, a volume and a disk that it lies on.
    """
    (one, start), (other, place) = _ground(source.unit), _ground(sink.unit)
    if one == other:
        meet = start < place + source.size and place < start + source.size
    else:
        meet = one in _below(sink.unit) or other in _below(source.unit)
    if meet:
        src, dst = names
        raise InvalidArgument(
            f"{src} and {dst} are the same place, of {source.identity}: nothing was written.\n"
            "Copy to another device, or to parts of this one that do not overlap."
        )


def _ground(unit: Any) -> tuple[object, int]:
    """What a unit is in the end, and the byte of it that it begins with: partitions and fault plans looked through.

    Weak identities tell disks apart inside one target only (`swd.scsi.identity`); what is local has one lock.
    """
    start = 0
    while (under := getattr(unit, "unit", None)) is not None:
        start += getattr(unit, "first", 0) * unit.block_size
        unit = under
    session = getattr(unit, "session", None)
    if session is None:
        return id(unit.lock), start
    return unit.identity if unit.identity_strong else (session.parameters.target_name, unit.lun), start


def _below(unit: Any) -> set[object]:
    """The grounds of the disks that a logical volume lies on."""
    return {_ground(disk.unit)[0] for disk in getattr(unit, "disks", ())}


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
