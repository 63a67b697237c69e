# SPDX-License-Identifier: Apache-2.0
"""Disks with file systems, `ctl`, and mounts that never outlive their test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mount_rig import MKFS, SIZE, Lun, loops
from support.process import run

from swd.cli import main
from swd.export import kernel, mountpoints


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
        if record.alive():  # first: who then waits for it gets an error
            os.kill(record.pid, signal.SIGKILL)
        _away(record.directory)
        for loop in loops():  # by the file behind it, which has no name any more once FUSE is gone
            subprocess.run(["losetup", "--detach", f"/dev/{loop}"], check=True)
        _away(record.fuse)


def _away(folder: str) -> None:
    while kernel.is_mount(folder):
        subprocess.run(["umount", "-l", folder], check=True)
