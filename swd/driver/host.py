# SPDX-License-Identifier: Apache-2.0
"""The one door of the driver to what only Linux has: boot identity, namespaces, block-device ioctls.

Elsewhere every question has a sane answer: an identity that cannot be known is an empty string, which is equal to
itself, and a block device says its size through `lseek`. Nothing here opens a socket, waits, or creates a file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from dataclasses import dataclass

LINUX = sys.platform.startswith("linux")

_BLKGETSIZE64 = 0x80081272  # linux/fs.h, on the 64-bit machines that Python's ioctl numbers are the same on
_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B
_START_TIME = 22  # field of /proc/PID/stat, counted from 1 (proc(5))


@dataclass(frozen=True)
class Identity:
    """Which boot of which host, in which container and network: two readers with equal ones share a network phase."""

    boot_id: str
    pid1_start: str
    net_namespace: str


@dataclass(frozen=True)
class Geometry:
    """What the kernel says about a block device: bytes, bytes a logical block, bytes a physical block."""

    size: int
    block_size: int
    physical_block_size: int


def identity() -> Identity:
    """Three short reads below /proc; what cannot be read (hidepid, not Linux) is an empty string."""
    if not LINUX:
        return Identity(_darwin_boot(), "", "")
    return Identity(_read("/proc/sys/kernel/random/boot_id").strip(), _pid1_start(), _net_namespace())


def uptime() -> float:
    """Seconds since boot, sleep included: no clock that a first NTP answer sets can move it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""


def _pid1_start() -> str:
    # The name of the command, in parentheses, may hold spaces and parentheses itself: count after the last one.
    _, _, rest = _read("/proc/1/stat").rpartition(")")
    fields = rest.split()
    return fields[_START_TIME - 3] if len(fields) > _START_TIME - 3 else ""


def _net_namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        return ""


def _darwin_boot() -> str:
    # Wall clock minus time since boot names the boot to within the steps of the wall clock: rounded to ten minutes,
    # a step makes the file one of another boot, and then storage is asked for, which is the safe side.
    return str(round((time.time() - uptime()) / 600))


def geometry(fd: int) -> Geometry:
    """Of an open block device; `OSError` if the kernel will not say.

    Without Linux's ioctls the size is where `lseek` ends, and blocks are taken to be of 512 bytes.
    """
    if not LINUX:
        return Geometry(os.lseek(fd, 0, os.SEEK_END), 512, 512)
    (size,) = struct.unpack("=Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))
    (block,) = struct.unpack("=i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))
    (physical,) = struct.unpack("=I", fcntl.ioctl(fd, _BLKPBSZGET, bytes(4)))
    return Geometry(size, block, physical)


def write_protected(fd: int) -> bool:
    """Of an open block device; `OSError` if the kernel will not say. Without Linux's ioctl nothing is known of it."""
    return LINUX and bool(struct.unpack("=i", fcntl.ioctl(fd, _BLKROGET, bytes(4)))[0])
