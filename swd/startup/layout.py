# SPDX-License-Identifier: Apache-2.0
"""Which uses of storage a host has: what it mounts, where it swaps, where it dumps, by its own files.

Facts only: nothing here knows what is allowed. Formats are those of fstab(5), proc_pid_mountinfo(5), proc_swaps(5),
kdump.conf(5), kdump-tools(8) and kernel-command-line(7); a line that makes no sense is passed over, as the programs
that own these files do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from swd.startup.tree import Tree

Role = Literal["mount", "swap", "dump", "resume"]

FSTAB: Final = "/etc/fstab"
MOUNTINFO: Final = "/proc/self/mountinfo"
SWAPS: Final = "/proc/swaps"
CMDLINE: Final = "/proc/cmdline"
KDUMP_CONF: Final = "/etc/kdump.conf"  # Fedora and its kin
KDUMP_TOOLS: Final = "/etc/default/kdump-tools"  # Debian and its kin
KDUMP_SYSCONFIG: Final = "/etc/sysconfig/kdump"  # SUSE

MOUNTED: Final = "mounted now"
IN_USE: Final = "in use now"

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_ASSIGNMENT: Final = re.compile(r"""^\s*(\w+)=(?:"([^"]*)"|'([^']*)'|(\S*))""", re.MULTILINE)
_DUMP_FILE_SYSTEMS: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "minix", "raw", "vfat", "f2fs"})


@dataclass(frozen=True, slots=True)
class Use:
    """One use of storage. `place` is a mount point, or "swap", "dump", "resume"; `source` as it is written.

    `number` is the kernel's `8:1` where it told it, `priority` that of swap space, `evidence` where this was read.
    """

    role: Role
    place: str
    source: str
    fstype: str = ""
    options: tuple[str, ...] = ()
    evidence: str = ""
    number: str = ""
    priority: int | None = None


def uses(tree: Tree, fstab: str | None = None) -> tuple[Use, ...]:
    """All of them: boot first, then fstab, what is there now, and dumps. `fstab`: a file of this process's own host."""
    return (*_boot(tree), *_fstab(tree, fstab), *mounted(tree), *_swaps(tree), *_dumps(tree))


def _boot(tree: Tree) -> Iterator[Use]:
    """What the kernel's command line names: these are needed before anything of the host runs."""
    words = {"root": ("mount", "/"), "mount.usr": ("mount", "/usr"), "resume": ("resume", "resume")}
    for word in tree.text(CMDLINE).split():
        key, sign, value = word.partition("=")
        if sign and value and key in words:
            role: Role = "resume" if key == "resume" else "mount"
            yield Use(role, words[key][1], value, evidence=f"{CMDLINE}: {key}=")
        elif key == "pstore_blk.blkdev" and value:
            yield Use("dump", "dump", value, evidence=f"{CMDLINE}: {key}=")


def _fstab(tree: Tree, fstab: str | None) -> Iterator[Use]:
    name = FSTAB if fstab is None else fstab
    text = tree.text(FSTAB) if fstab is None else Tree().text(os.path.abspath(fstab))
    for number, line in enumerate(text.splitlines(), 1):
        fields = [_unescaped(field) for field in line.split()]
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        source, place, fstype = fields[:3]
        options = tuple(fields[3].split(",")) if len(fields) > 3 else ()
        evidence = f"{name} line {number}"
        if fstype == "swap":
            yield Use("swap", "swap", source, fstype, options, evidence, priority=_priority(options))
        elif place.startswith("/"):
            yield Use("mount", _place(place), source, fstype, options, evidence)


def mounted(tree: Tree) -> Iterator[Use]:
    """What is mounted now, in the order in which it was."""
    for line in tree.text(MOUNTINFO).splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not dash or len(left) < 6 or len(right) < 2:
            continue
        place, source = _unescaped(left[4]), _unescaped(right[1])
        options = (*left[5].split(","), *(right[2].split(",") if len(right) > 2 else ()))
        yield Use("mount", _place(place), source, right[0], options, MOUNTED, number=left[2])


def _swaps(tree: Tree) -> Iterator[Use]:
    for line in tree.text(SWAPS).splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 5 and fields[4].lstrip("-").isdigit():
            yield Use("swap", "swap", _unescaped(fields[0]), evidence=IN_USE, priority=int(fields[4]))


def _dumps(tree: Tree) -> Iterator[Use]:
    """Where a crashed kernel's memory goes. A target over NFS or ssh is no block device, and not ours."""
    if tree.exists(KDUMP_CONF):
        yield from _kdump_conf(tree.text(KDUMP_CONF))
    settings = _assignments(tree.text(KDUMP_TOOLS))
    if settings.get("USE_KDUMP", "0") == "1" and not (settings.get("NFS") or settings.get("SSH")):
        yield Use("dump", "dump", settings.get("KDUMP_COREDIR") or "/var/crash", evidence=KDUMP_TOOLS)
    for target in _assignments(tree.text(KDUMP_SYSCONFIG)).get("KDUMP_SAVEDIR", "").split():
        scheme, sign, path = target.partition("://")
        if not sign or scheme == "file":
            yield Use("dump", "dump", path or scheme, evidence=KDUMP_SYSCONFIG)


def _kdump_conf(text: str) -> Iterator[Use]:
    path, elsewhere, targets = "/var/crash", False, []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 2 or fields[0].startswith("#"):
            continue
        if fields[0] == "path":
            path = fields[1]
        elif fields[0] in _DUMP_FILE_SYSTEMS:
            targets.append(fields[1])
        elif fields[0] in {"nfs", "ssh", "nfs4"}:
            elsewhere = True
    if not (targets or elsewhere):
        targets = [path]  # no target: the file system that holds the path
    for target in targets:
        yield Use("dump", "dump", target, evidence=KDUMP_CONF)


def _assignments(text: str) -> dict[str, str]:
    """The `NAME=value` lines of a file that a shell reads; the last one of a name counts."""
    return {name: "".join(values) for name, *values in _ASSIGNMENT.findall(text)}


def _unescaped(field: str) -> str:
    """`\\040` and its kin, as fstab and the kernel write blanks."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)


def _place(path: str) -> str:
    return "/" + os.path.normpath(path).lstrip("/")


def _priority(options: tuple[str, ...]) -> int | None:
    for option in options:
        key, _, value = option.partition("=")
        if key in {"pri", "priority"} and value.isdigit():
            return int(value)
    return None
