# SPDX-License-Identifier: Apache-2.0
"""The real components that parts of the suite need: how each is looked for, and the command that adds it.

A test names its needs by marker (`@pytest.mark.tgt`), or calls `require("tgt")`. Where the component is absent the
test is skipped, and the end of the run says so; where `SWD_REQUIRE` (a comma list) names the component, any skip of
such a test is a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Component:
    """`absent()` says in a few words why the component cannot be used here, or gives None; `add` is the command that
    adds it."""

    absent: Callable[[], str | None]
    add: str


def _programs(*names: str) -> str | None:
    lacking = [name for name in names if shutil.which(name) is None]
    return f"no {' '.join(lacking)} in PATH" if lacking else None


def _fails(command: Sequence[str]) -> str | None:
    """None if the command ends with 0, else its complaint."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    complaint = done.stderr.strip() or f"status {done.returncode}"
    return f"`{' '.join(command)}`: {complaint.splitlines()[-1]}" if done.returncode else None


def _no_qemu() -> str | None:
    if lacking := _programs("qemu-img"):
        return lacking
    # Port 1 of the loopback refuses; without the block driver qemu-img does not get as far.
    probe = ["qemu-img", "info", "iscsi://127.0.0.1:1/iqn.2026-01.org.example:probe/0"]
    complaint = subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30).stderr
    return "qemu-img has no iscsi block driver" if "Unknown protocol" in complaint else None


def _no_netns() -> str | None:
    return _programs("unshare", "ip", "nsenter") or _fails(["unshare", "-n", "ip", "link", "set", "lo", "up"])


def _no_strace() -> str | None:
    return _programs("strace") or _fails(["strace", "-qq", "-o", os.devnull, "true"])


def _no_fuse() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    missing = [path for path in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(path)]
    if missing:
        return f"no {' '.join(missing)}"
    if lacking := _programs("losetup", "blkid", "fstrim", "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair", "fio"):
        return lacking
    return _fails([sys.executable, "-c", "from swd.export import fuse; fuse.library()"])


COMPONENTS = {
    "tgt": Component(lambda: _programs("tgtd", "tgtadm"), "make test-deps, or: apt-get install tgt"),
    "libiscsi": Component(
        lambda: _programs("iscsi-inq", "iscsi-ls", "iscsi-perf"), "make test-deps, or: apt-get install libiscsi-bin"
    ),
    "qemu": Component(_no_qemu, "make test-deps, or: apt-get install qemu-utils qemu-block-extra"),
    "tshark": Component(lambda: _programs("tshark"), "make test-deps, or: apt-get install tshark"),
    "netns": Component(_no_netns, "as root: make test-deps test, or: apt-get install iproute2 util-linux"),
    "arm64": Component(
        lambda: _programs("aarch64-linux-gnu-gcc", "qemu-aarch64"),
        "make test-deps, or: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
    ),
    "systemd": Component(lambda: _programs("systemd-analyze"), "make test-deps, or: apt-get install systemd"),
    "fuse": Component(
        _no_fuse, "as root: make test-deps test, or: apt-get install fuse3 e2fsprogs xfsprogs fio; modprobe fuse loop"
    ),
    "mkfs": Component(
        lambda: _programs("mkfs.ext4", "debugfs", "mkfs.xfs", "xfs_repair", "mkntfs", "mkfs.fat", "mcopy", "blkid"),
        "make test-deps, or: apt-get install e2fsprogs xfsprogs ntfs-3g dosfstools mtools",
    ),
    "strace": Component(_no_strace, "make test-deps, or: apt-get install strace"),
    "sfdisk": Component(lambda: _programs("sfdisk", "fdisk"), "make test-deps, or: apt-get install fdisk"),
}


SKIPPED: Counter[str] = Counter()  # component -> tests that went without it


@functools.cache
def absent(name: str) -> str | None:
    """Why component `name` cannot be used here; None when it can. Looked up once a run."""
    return COMPONENTS[name].absent()


def required() -> frozenset[str]:
    """The components that `SWD_REQUIRE` says must be here."""
    names = frozenset(name.strip() for name in os.environ.get("SWD_REQUIRE", "").split(",") if name.strip())
    if unknown := names - COMPONENTS.keys():
        raise pytest.UsageError(f"SWD_REQUIRE: {', '.join(sorted(unknown))}: not one of {' '.join(COMPONENTS)}")
    return names


def require(name: str) -> None:
    """Go on if component `name` is here; skip if it is absent; fail if it is absent but required."""
    reason = absent(name)
    if reason is None:
        return
    if name in required():
        pytest.fail(f"{name} is required (SWD_REQUIRE) and absent: {reason}; {COMPONENTS[name].add}", pytrace=False)
    SKIPPED[name] += 1
    pytest.skip(f"{name}: {reason}")
