# SPDX-License-Identifier: Apache-2.0
"""`mount`: the kernel's own file system on a DEV, by a daemon with a FUSE file and a loop device over it.

Each step has its undoing, and any failure, Ctrl-C included, undoes what was done.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from swd.driver import known, phase, pvs, registry, volumes
from swd.errors import DeviceBusy, InvalidArgument, SwdError
from swd.export import child, fuse, kernel, mountpoints
from swd.export.daemon import Orders
from swd.export.mountpoints import Record
from swd.proto.dev import HardwarePath, IscsiDev, LvmDev, Wwid
from swd.proto.url import parse_dev

SAFE: Final = ("nosuid", "nodev")  # what a foreign disk holds is not this host's: `-o suid,dev` says otherwise
AS_IT_IS: Final[dict[str, str]] = {  # how to look at a file system without its journal
    "ext3": "noload",
    "ext4": "noload",
    "xfs": "norecovery",
    "btrfs": "rescue=nologreplay",
}


@dataclass(frozen=True, slots=True)
class Mounted:
    """What was mounted: by which loop device, and which process stands behind it."""

    dev: str
    directory: str
    fstype: str
    read_only: bool
    experimental: bool
    device: str
    pid: int
    identity: str


def mount(
    dev: str,
    directory: str,
    *,
    fstype: str | None = None,
    words: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Mounted:
    """Mount the file system on `dev` at `directory`; `words` are options as of mount(8), `options` keys of the DEV.

    Read-only unless `words` says `rw`. Raises SwdError: EPERM without root; EOPNOTSUPP or ENODEV where the host lacks
    something; EBUSY for a directory or a disk in use, or a journal that must be replayed first; EINVAL for a disk
    without a file system; and what opening the DEV raises. Nothing is left behind then.
    """
    parsed = parse_dev(pvs.lasting(parse_dev(dev)))  # the daemon works in /
    phase.gate(parsed)
    kernel.require()
    fuse.library()
    writable = [word for word in words if word in {"ro", "rw"}][-1:] == ["rw"]
    place = _directory(directory)
    record = mountpoints.claim(str(parsed), place, writable=writable)
    with contextlib.ExitStack() as undo:
        undo.callback(record.remove)
        what = f"mounts {record.dev} on {place}"
        orders = Orders(record.dev, record.folder, writable, what, _targets(parsed), _lasting(options or {}))
        facts = child.start(orders, record, undo)
        record.identity = str(facts["identity"])
        _refuse_second_writer(record)
        record.device = kernel.attach(record.file, block_size=int(facts["block_size"]), writable=writable)
        undo.callback(kernel.detach, record.device)
        record.fstype = fstype or _fstype(record)
        record.save()
        _mount(record, words)
        undo.callback(kernel.umount, place)
        record.save()
        undo.pop_all()
    return Mounted(record.dev, place, record.fstype, not writable, writable, record.device, record.pid, record.identity)


def _lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys, with names of files that mean the same from any working directory."""
    files = {key: options[key] for key in ("secret_file", "target_secret_file") if options.get(key) not in {None, "-"}}
    return {**options, **{key: os.path.abspath(path) for key, path in files.items()}}


def _directory(directory: str) -> str:
    place = os.path.realpath(directory)
    if not os.path.exists(place):
        raise SwdError(f"{directory} is not there: make it first", errno=errno.ENOENT)
    if not os.path.isdir(place):
        raise SwdError(f"{directory} is no folder", errno=errno.ENOTDIR)
    if kernel.is_mount(place):
        raise DeviceBusy(f"{directory} is a mount point already: unmount that first, or name another folder")
    return place


def _targets(dev: object) -> tuple[str, ...]:
    """Whom the daemon will hold sessions with, as far as the name tells: `logout` then refuses."""
    if isinstance(dev, IscsiDev):
        return (dev.target,)
    if isinstance(dev, (HardwarePath, Wwid)):
        return tuple(dict.fromkeys(path.target for path in known.paths(dev, registry.host())))
    if isinstance(dev, LvmDev):
        record = volumes.find(dev.vg, registry.host())
        disks = [parse_dev(pvs.place(one)[0]) for one in record.devices.values()]
        return tuple(dict.fromkeys(target for disk in disks for target in _targets(disk)))
    return ()


def _refuse_second_writer(record: Record) -> None:
    for other in mountpoints.all_of_them():
        same = other.identity and other.identity == record.identity and other.folder != record.folder
        if same and (other.writable or record.writable) and other.alive():
            raise DeviceBusy(
                f"{record.identity} is mounted on {other.directory} already{' for writing' if other.writable else ''}: "
                f"two file systems on one disk destroy it\n`swdctl umount {other.directory}` first"
            )


def _fstype(record: Record) -> str:
    """The type of the file system by blkid, or InvalidArgument saying what is there instead."""
    found = kernel.content(record.device)
    kind = found.get("TYPE", "")
    if found.get("USAGE", "filesystem") == "filesystem" and kind:
        return kind
    if "PTTYPE" in found and not kind:
        raise InvalidArgument(f"{record.dev} holds a {found['PTTYPE']} partition table: mount one of its partitions")
    if kind == "LVM2_member":
        raise InvalidArgument(f"{record.dev} holds an LVM2 physical volume: mount its volumes (`swdctl lv list`)")
    what = kind or "no file system that blkid knows"
    raise InvalidArgument(f"{record.dev} holds {what}: there is nothing to mount; -t TYPE insists on a type")


def _mount(record: Record, words: Sequence[str]) -> None:
    given = [word for word in words if word not in {"ro", "rw"}]
    extra = [] if record.writable else ["ro"]
    if (
        record.writable
        and record.fstype in {"ext2", "ext3", "ext4"}
        and not any(w.startswith("errors=") for w in given)
    ):
        extra.append("errors=remount-ro")  # not "continue": after a failed write nothing more is to be believed
    flags, data = kernel.split([*SAFE, *extra, *given])
    try:
        kernel.mount(record.device, record.directory, record.fstype, flags, data)
    except OSError as error:
        raise _refusal(record, words, error) from error


def _refusal(record: Record, words: Sequence[str], error: OSError) -> SwdError:
    what = f"the kernel could not mount {record.fstype} from {record.dev}"
    look = AS_IT_IS.get(record.fstype)
    if not record.writable and error.errno in {errno.EROFS, errno.EACCES} and look and look not in words:
        return DeviceBusy(
            f"{what}: it was not unmounted cleanly, and its journal cannot be replayed read-only\n"
            f"`-o ro,{look}` shows it without that, perhaps torn; `-o rw` replays it"
        )
    if error.errno == errno.ENODEV:
        return SwdError(f"{what}: this kernel has no such file system\n`swdctl fs` may read it", errno=errno.ENODEV)
    return SwdError(f"{what}: {error.strerror}\nthe kernel's log (dmesg) may say more", errno=error.errno)
