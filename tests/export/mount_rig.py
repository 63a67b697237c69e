# SPDX-License-Identifier: Apache-2.0
"""Disks of the embedded target with file systems on them, and what a mount could leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from support.process import run
from support.served import Served, serving

from swd.export import kernel

MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
CHECK = {"ext4": ("e2fsck", "-f", "-n"), "xfs": ("xfs_repair", "-n")}
SIZE = {"ext4": 64 << 20, "xfs": 304 << 20}  # mkfs.xfs makes none below 300 MiB


class Lun:
    """An image behind a target process of its own, which can be killed and started again at the same portal."""

    def __init__(self, stack: contextlib.ExitStack, image: Path, fstype: str, block_size: int) -> None:
        self._stack, self.image, self._fstype = stack, image, fstype
        self._words = ("--block-size", str(block_size), "--lun", f"file://{image}")
        self.served = self._serve("127.0.0.1:0")
        self.portal, self.name, self.dev = str(self.served.portal), self.served.name, self.served.url()

    def _serve(self, portal: str) -> Served:
        return self._stack.enter_context(serving("--portal", portal, *self._words))

    def kill(self) -> None:
        self.served.process.signal(signal.SIGKILL)
        self.served.process.finish()

    def restart(self) -> None:
        self.served = self._serve(self.portal)

    def check(self) -> None:
        """The file system on the image itself is whole, by its own tool."""
        run(*CHECK[self._fstype], str(self.image), timeout=60)


def loops() -> list[str]:
    """Loop devices over the FUSE files of this test's mounts."""
    runtime, found = os.environ["SWD_RUNTIME_DIR"], Path("/sys/block").glob("loop*/loop/backing_file")
    return [path.parent.parent.name for path in found if path.read_text().startswith(runtime)]


def remains() -> list[str]:
    """What mounts of this test have left on the host: loop devices, mounts, records."""
    runtime = os.environ["SWD_RUNTIME_DIR"]
    places = [place for place, _, _ in kernel.mounts() if place.startswith(runtime)]
    return [*loops(), *places, *(str(path) for path in Path(runtime).glob("mounts/[0-9]*"))]
