# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of a mount: mount and umount, loop devices, what lies on one. One door to what only Linux has.

System calls where their errno matters, the programs of util-linux (losetup, blkid) where they know more than a call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swd.driver import host
from swd.errors import SwdError, Unsupported

LETTING_GO: Final = 5.0  # seconds that the kernel may take for what it does in the background
_PAUSE: Final = 0.02
PROGRAMS: Final = ("losetup", "blkid")
SECONDS: Final = 60  # losetup and blkid read a few blocks; the session below has its own, shorter, time-outs

# mount(2): words of mount(8) that are flags of the call; the others go to the file system as they are.
FLAGS: Final[dict[str, int]] = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "sync": 0x10,
    "dirsync": 0x80,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
CLEARS: Final[dict[str, str]] = {"rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync"}
IGNORED: Final = frozenset({"defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", ""})
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_NOFOLLOW: Final = 8  # UMOUNT_NOFOLLOW


def require() -> None:
    """Raise unless this process may mount and the host has what that takes; the message names what is missing."""
    if not host.LINUX:
        raise Unsupported("mounting by the kernel is for Linux; `swdctl fs` reads file systems anywhere")
    if os.geteuid() != 0:
        raise SwdError("only root may mount: use sudo, or read without root by `swdctl fs`", errno=errno.EPERM)
    for device, module in (("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")):
        if not (os.path.exists(device) and stat.S_ISCHR(os.stat(device).st_mode)):
            raise SwdError(f"{device} is not there: modprobe {module}, or give it to the container", errno=errno.ENODEV)
    lacking = [name for name in PROGRAMS if _program(name) is None]
    if lacking:
        raise Unsupported(f"{' and '.join(lacking)} not found: install util-linux (and mount, on Debian)")


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    program = _program(words[0]) or words[0]
    return subprocess.run(
        (program, *words[1:]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )


def attach(file: str, *, block_size: int, writable: bool) -> str:
    """A loop device over a file, with direct I/O, or SwdError: without it there would be a second cache in between,
    whose flushes and whose memory nobody counts.
    """
    words = ["losetup", "--find", "--show", "--direct-io=on", f"--sector-size={block_size}"]
    done = _run(*words, *([] if writable else ["--read-only"]), file)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SwdError(f"no loop device with direct I/O for it: {why}", errno=errno.EIO)
    device = done.stdout.strip()
    if _attribute(device, "loop/dio") != "1":
        detach(device)
        raise Unsupported(
            "this kernel's loop device refused direct I/O, and without it a second cache would lie between"
        )
    return device


def backing(device: str) -> str:
    """The file behind a loop device, "" if it has none."""
    return _attribute(device, "loop/backing_file").removesuffix(" (deleted)")


def detach(device: str) -> None:
    """Let go of a loop device's file. DeviceBusy's errno (EBUSY) if something still has it open."""
    done = _run("losetup", "--detach", device)
    if done.returncode and backing(device):
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SwdError(f"{device} could not be detached: {why}", errno=errno.EBUSY)
    deadline = time.monotonic() + LETTING_GO
    while backing(device) and time.monotonic() < deadline:  # detached as soon as the last one (udev, blkid) closes it
        time.sleep(_PAUSE)
    if backing(device):
        raise SwdError(f"{device} is still in use: `fuser -v {device}` says by whom", errno=errno.EBUSY)


def _attribute(device: str, name: str) -> str:
    try:
        return Path("/sys/block", os.path.basename(device), name).read_text().strip()
    except OSError:
        return ""


def content(device: str) -> dict[str, str]:
    """What blkid finds on a device: TYPE and USAGE of its content, PTTYPE of a partition table, and more."""
    done = _run("blkid", "--probe", "--output", "export", device)
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value for key, sign, value in pairs if sign}


def split(words: Sequence[str]) -> tuple[int, str]:
    """Options of mount(8) as flags of mount(2) and the text for the file system; of two that differ the last counts."""
    flags, rest = 0, []
    for word in words:
        if word in FLAGS:
            flags |= FLAGS[word]
        elif word in CLEARS:
            flags &= ~FLAGS[CLEARS[word]]
        elif word not in IGNORED:
            rest.append(word)
    return flags, ",".join(rest)


def mount(device: str, folder: str, fstype: str, flags: int, data: str) -> None:
    """mount(2); OSError as the kernel gives it."""
    _call("mount", device.encode(), os.fsencode(folder), fstype.encode(), ctypes.c_ulong(flags), os.fsencode(data))


def umount(folder: str, patience: float = 0.0) -> None:
    """umount2(2), no symbolic link followed; OSError as the kernel gives it. It waits until all is written.

    `patience`: for how many seconds EBUSY is not yet the last word, as the kernel lets go of files in the background.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            _call("umount2", os.fsencode(folder), _NOFOLLOW)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def sync_file_system(folder: str) -> None:
    """syncfs(2): OSError also for what could not be written since somebody last asked."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _call("syncfs", fd)
    finally:
        os.close(fd)


def sync_device(device: str) -> None:
    """Flush a block device; OSError if the device below could not."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_mount(folder: str) -> bool:
    """Whether something is mounted at exactly this folder, be it alive or not (mount table, no stat)."""
    return any(place == folder for place, _, _ in mounts())


def mounts() -> list[tuple[str, str, str]]:
    """(folder, type, source) of all mounts, in order."""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    rows = [[_ESCAPE.sub(lambda found: chr(int(found[1], 8)), field) for field in line.split()] for line in lines]
    return [(row[1], row[2], row[0]) for row in rows if len(row) >= 3]


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
