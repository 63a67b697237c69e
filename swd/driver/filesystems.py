# SPDX-License-Identifier: Apache-2.0
"""File systems by the name of their DEV: opens it through `driver.plain`, and leaves the rest to `swd.volumes`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from swd.driver import plain
from swd.errors import Unsupported
from swd.volumes.filesystems.probe import probe
from swd.volumes.filesystems.record import FileSystem
from swd.volumes.filesystems.volume import Volume, open_volume

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def filesystem(dev: str, *, partition: int | None = None, dirty: bool = False, **options: object) -> AbstractFileSystem:
    """The file system on a DEV, for reading, as fsspec has it; close it, or use it in `with`. Needs the extra `fs`.

    ext2/3/4, XFS, NTFS and FAT, told by signature. `partition` is the number of one on the DEV; `dirty` reads one that
    is not clean, too; `options` are the keys of a DEV. Raises `Unsupported` (EOPNOTSUPP) for other file systems and
    features, or without the extra; `DeviceBusy` (EBUSY) for one that is not clean; `FileSystemError` (EIO) for a
    damaged one; and what `swd.open` raises.
    """
    disk = plain.open(dev, "rb", **_with(options, partition))
    try:
        if find_spec("fsspec") is None:
            raise Unsupported(
                "swd.filesystem needs fsspec, which is not installed.\n"
                "It comes with the extra: pip install 'iscsi-swd[fs]'"
            )
        volume = open_volume(disk, dev, dirty=dirty)
        from swd.volumes.filesystems.fsspec_face import SwdFileSystem

        return SwdFileSystem(volume, disk.close)
    except BaseException:
        disk.close()
        raise


@contextlib.contextmanager
def opened(dev: str, *, partition: int | None = None, dirty: bool = False, **options: object) -> Iterator[Volume]:
    """The same without fsspec: a `Volume`, closed at the end of the `with`."""
    with plain.open(dev, "rb", **_with(options, partition)) as disk:
        volume = open_volume(disk, dev, dirty=dirty)
        try:
            yield volume
        finally:
            volume.close()


def check(dev: str, *, partition: int | None = None, **options: object) -> FileSystem | None:
    """What file system is on a DEV, and whether it is clean (`.dirty`) and read by swd (`.unsupported`); None for none.

    Reads superblocks and the ends of journals, and needs no extra. Raises `FileSystemError` (EIO) for a damaged
    superblock, and what `swd.open` raises.
    """
    with plain.open(dev, "rb", **_with(options, partition)) as disk:
        return probe(disk)


def _with(options: dict[str, object], partition: int | None) -> dict[str, object]:
    return options if partition is None else {**options, "partition": partition}
