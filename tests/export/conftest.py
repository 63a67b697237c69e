# SPDX-License-Identifier: Apache-2.0
"""Disks of the embedded target with file systems on them, and mounts that never outlive their test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.process import run
from support.served import Served, serving

from swd.cli import main
from swd.export import kernel, mountpoints

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


@pytest.fixture
def lun(tmp_path: Path) -> Iterator[Callable[..., Lun]]:
    """`lun("ext4")`: a disk with that file system; `lun("")`: one with nothing on it."""
    with contextlib.ExitStack() as stack:

        def make(fstype: str = "ext4", block_size: int = 512) -> Lun:
            image = tmp_path / "image"
            with image.open("wb") as file:
                file.truncate(SIZE.get(fstype, 8 << 20))
            if fstype:
                sector = ("-s", f"size={block_size}") if fstype == "xfs" else ()
                run(*MKFS[fstype], *sector, str(image), timeout=60)
            return Lun(stack, image, fstype, block_size)

        yield make


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def call(*words: str) -> SimpleNamespace:
        capsys.readouterr()
        status = main.run(words)
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on. Afterwards nothing of any mount of this test is left, whatever the test did."""
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    for record in mountpoints.all_of_them():
        for folder in (record.directory, record.fuse):
            while kernel.is_mount(folder):
                subprocess.run(["umount", "-l", folder], check=True)
        if record.device and kernel.backing(record.device) == record.file:
            subprocess.run(["losetup", "--detach", record.device], check=True)
        if record.alive():
            os.kill(record.pid, signal.SIGKILL)


def remains() -> list[str]:
    """What mounts of this test have left on the host: mounts, loop devices, records."""
    runtime = os.environ["SWD_RUNTIME_DIR"]
    loops = [
        str(path.parent.parent.name)
        for path in Path("/sys/block").glob("loop*/loop/backing_file")
        if path.read_text().startswith(runtime)
    ]
    places = [place for place, _, source in kernel.mounts() if place.startswith(runtime)]
    return [*loops, *places, *(str(path) for path in Path(runtime).glob("mounts/[0-9]*"))]
