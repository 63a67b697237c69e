# SPDX-License-Identifier: Apache-2.0
"""Makes the files of a host below a folder: /etc, /proc, and a sysfs with disks, partitions, dm and loops."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ATA = "pci0000:00/ata1/host0/target0:0:0/0:0:0:0"
SESSION = "platform/host3/session1/target3:0:0/3:0:0:0"  # what the kernel's initiator makes


@dataclass(frozen=True)
class Host:
    """`mounts`: (source, place, fstype[, options]); `dm`: node -> (name, devices below); `loops`: name -> file."""

    fstab: str = ""
    mounts: Sequence[tuple[str, ...]] = ()
    swaps: Sequence[tuple[str, int]] = ()
    cmdline: str = ""
    disks: Mapping[str, str] = field(default_factory=lambda: {"sda": ATA})
    partitions: Sequence[str] = ("sda1", "sda2", "sda3")
    dm: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    loops: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=lambda: {"/bin": "usr/bin"})  # path -> target
    files: Mapping[str, str] = field(default_factory=dict)


def make(host: Host, top: Path) -> Path:
    _write(top, "/etc/fstab", host.fstab)
    _write(top, "/proc/cmdline", host.cmdline)
    _write(top, "/proc/self/mountinfo", "".join(_mount(top, number, *row) for number, row in enumerate(host.mounts)))
    rows = "".join(f"{name} partition 1048572 0 {priority}\n" for name, priority in host.swaps)
    _write(top, "/proc/swaps", f"Filename Type Size Used Priority\n{rows}")
    for name, where in host.disks.items():
        _block(top, name, f"{where}/block/{name}")
    for name in host.partitions:
        disk = name.rstrip("0123456789")
        folder = _block(top, name, f"{host.disks[disk]}/block/{disk}/{name}")
        _write(top, f"{folder}/partition", "1\n")
    for name, (label, below) in host.dm.items():
        folder = _block(top, name, f"virtual/block/{name}")
        _write(top, f"{folder}/dm/name", f"{label}\n")
        _link(top, f"/dev/mapper/{label}", f"../{name}")
        for one in below:
            _link(top, f"{folder}/slaves/{one}", f"/sys/class/block/{one}")
    for name, backing in host.loops.items():
        folder = _block(top, name, f"virtual/block/{name}")
        _write(top, f"{folder}/loop/backing_file", f"{backing}\n")
    for path, target in host.links.items():
        _link(top, path, target)
    for path, text in host.files.items():
        _write(top, path, text)
    return top


def _mount(top: Path, number: int, source: str, place: str, fstype: str, options: str = "rw") -> str:
    escaped = place.replace(" ", "\\040")
    return f"{30 + number} 1 0:{40 + number} / {escaped} rw,relatime shared:1 - {fstype} {source} {options}\n"


def _block(top: Path, name: str, where: str) -> str:
    folder = f"/sys/devices/{where}"
    _write(top, f"{folder}/dev", f"8:{sum(map(ord, name))}\n")
    _link(top, f"/sys/class/block/{name}", "../../devices/" + where)
    return folder


def _write(top: Path, path: str, text: str) -> None:
    place = top / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def _link(top: Path, path: str, target: str) -> None:
    place = top / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, place)
