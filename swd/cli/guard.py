# SPDX-License-Identifier: Apache-2.0
"""Looks before a destructive verb writes: does the unit hold something, does this host's kernel use it?

Both questions are asked of the unit itself, at its start and in its identity, never of a name. `--overwrite` answers
the first, `--force` the second. A reservation of another initiator needs no look: the target refuses, also with EBUSY.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swd.errors import DeviceBusy, SwdError
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
