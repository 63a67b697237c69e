# SPDX-License-Identifier: Apache-2.0
"""Where a use of storage ends: through mounts, files, loop devices, FUSE, partitions, LVM and other device-mapper
devices, down to a disk, or to a device of swd.

Facts only, all of them from names, /proc and sysfs: nothing is opened, and no device is asked anything. A disk of the
kernel's own initiator is known by the session in its sysfs path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from swd.driver import phase
from swd.errors import SwdError
from swd.proto.url import parse_dev
from swd.startup.layout import MOUNTED, Use
from swd.startup.tree import Tree

Kind = Literal["swd", "kernel-iscsi", "network", "disk", "other", "unknown"]

BLOCK: Final = "/sys/class/block"
FUSE_TYPES: Final = frozenset({"fuse.swd"})  # how `swdctl mount` names its FUSE file systems
NETWORK_TYPES: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs", "9p", "afs", "fuse.sshfs"}
)
_TAGS: Final = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
    "ID": "by-id",
}
_KERNEL_SESSION: Final = re.compile(r"/session\d+/target\d")
_HARDWARE_PATH: Final = re.compile(r"255/0/\d+\.\d+\.\d+\.\d+")
_NUMBER: Final = re.compile(r"\d+:\d+")


@dataclass(frozen=True, slots=True)
class End:
    """What stands at the bottom, and by which steps it is reached from the source as written."""

    kind: Kind
    name: str
    steps: tuple[str, ...]


class Follower:
    """Follows sources on one host."""

    def __init__(self, tree: Tree, uses: Sequence[Use]) -> None:
        self._tree = tree
        self._mounts = [use for use in uses if use.role == "mount" and use.evidence == MOUNTED] or [
            use for use in uses if use.role == "mount"
        ]
        self._devices = tree.names(BLOCK)
        self._by_number = {tree.text(f"{BLOCK}/{name}/dev").strip(): name for name in self._devices}
        self._by_dm_name = {
            tree.text(f"{BLOCK}/{name}/dm/name").strip(): name for name in self._devices if name.startswith("dm-")
        }

    def ends(self, use: Use) -> tuple[End, ...]:
        """All ends of a use, each once; at least one."""
        return tuple(dict.fromkeys(self._source(use, ())))

    def _source(self, use: Use, steps: tuple[str, ...]) -> Iterator[End]:
        source = use.source
        if source in steps:
            yield End("unknown", f"{source} leads to itself", steps)
        elif name := swd_device(source):
            yield End("swd", name, steps)
        elif use.fstype in FUSE_TYPES:
            yield End("swd", source, steps)
        elif use.fstype in NETWORK_TYPES:
            yield End("network", source, steps)
        elif use.fstype == "overlay":
            yield from self._overlay(use, (*steps, source))
        else:
            yield from self._local(use, (*steps, source))

    def _local(self, use: Use, steps: tuple[str, ...]) -> Iterator[End]:
        path = self._path(use.source)
        if path.startswith("/dev/"):
            device = self._device(path) or self._by_number.get(use.number)
            if device is None:
                yield End("unknown", use.source, steps)
            else:
                yield from self._below(device, steps)
        elif path.startswith("/"):
            yield from self._file(path, steps)
        elif _NUMBER.fullmatch(use.number) and use.number in self._by_number:
            yield from self._below(self._by_number[use.number], steps)
        else:
            yield End("other", use.source, steps)

    def _path(self, source: str) -> str:
        """A source with its tag replaced by the link that udev makes for it, and its own links followed."""
        tag, sign, value = source.partition("=")
        if sign and tag in _TAGS:
            source = f"/dev/disk/{_TAGS[tag]}/{_udev_name(value.strip(chr(34)))}"
        return self._tree.resolve(source) if source.startswith("/") else source

    def _device(self, path: str) -> str | None:
        """The kernel's name of a device node, by its own name, its device-mapper name, or its number."""
        name = os.path.basename(path)
        if os.path.dirname(path) == "/dev" and name in self._devices:
            return name
        vg, slash, lv = path.removeprefix("/dev/").partition("/")
        candidates = [name] if vg == "mapper" else []
        if slash and "/" not in lv and vg not in {"mapper", "disk"}:
            candidates.append(f"{vg.replace('-', '--')}-{lv.replace('-', '--')}")  # as LVM names it
        found = [self._by_dm_name[one] for one in candidates if one in self._by_dm_name]
        return found[0] if found else self._by_number.get(self._tree.device_number(path))

    def _below(self, device: str, steps: tuple[str, ...]) -> Iterator[End]:
        """What a block device stands on: a file, other devices, the disk of a partition, or nothing."""
        if device in steps:
            yield End("unknown", f"{device} leads to itself", steps)
            return
        name = self._tree.text(f"{BLOCK}/{device}/dm/name").strip()
        here = (*steps, f"{device} ({name})" if name else device)
        folder = self._tree.resolve(f"{BLOCK}/{device}")
        backing = self._tree.text(f"{folder}/loop/backing_file").rstrip("\n").removesuffix(" (deleted)")
        below = self._tree.names(f"{folder}/slaves")
        if backing:
            yield from self._file(backing, here)
        elif below:
            for one in below:
                yield from self._below(one, here)
        elif self._tree.exists(f"{folder}/partition"):
            yield from self._below(os.path.basename(os.path.dirname(folder)), here)
        elif _KERNEL_SESSION.search(folder):
            yield End("kernel-iscsi", device, here)
        elif device.startswith(("nbd", "rbd", "drbd")):
            yield End("network", device, here)
        else:
            yield End("disk", device, here)

    def _file(self, path: str, steps: tuple[str, ...]) -> Iterator[End]:
        """A file or folder stands on whatever is mounted over it."""
        if len(steps) > len(self._devices) + len(self._mounts) + 8:
            yield End("unknown", f"{path} leads to itself", steps)
            return
        resolved = self._tree.resolve(path)
        holders = [use for use in self._mounts if _holds(use.place, resolved)]
        if not holders:
            yield End("unknown", path, steps)
            return
        longest = max(len(use.place) for use in holders)
        holder = [use for use in holders if len(use.place) == longest][-1]  # the last one hides the others
        here = steps if path in steps else (*steps, path)
        if holder.source in here:  # /dev/root, a bind mount of a folder on itself
            yield End("other", holder.source, here)
        else:
            yield from self._source(holder, here)

    def _overlay(self, use: Use, steps: tuple[str, ...]) -> Iterator[End]:
        folders = [
            folder
            for option in use.options
            if option.partition("=")[0] in {"lowerdir", "upperdir"}
            for folder in option.partition("=")[2].split(":")
            if folder.startswith("/")
        ]
        for folder in folders:
            if _holds(use.place, folder) and use.place == "/":
                yield End("other", folder, steps)  # of another namespace: it cannot be followed from in here
            else:
                yield from self._file(folder, steps)
        if not folders:
            yield End("other", use.source, steps)


def swd_device(source: str) -> str | None:
    """The DEV that a source is, if it is one that leads over the network; None for everything else."""
    if "://" not in source and not source.startswith("wwid:") and not _HARDWARE_PATH.fullmatch(source):
        return None
    with contextlib.suppress(SwdError):
        dev = parse_dev(source)
        return str(dev) if phase.is_gated(dev) else None
    return source if source.startswith(("iscsi://", "lvm://", "wwid:")) else None


def _holds(place: str, path: str) -> bool:
    return place == "/" or path == place or path.startswith(place + "/")


def _udev_name(value: str) -> str:
    """A label as udev spells it in the name of a link."""
    plain = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_")
    return "".join(char if char in plain or ord(char) > 127 else f"\\x{ord(char):02x}" for char in value)
