# SPDX-License-Identifier: Apache-2.0
"""The record of a file system that was found, and how bytes of a disk are looked at for it. Knows no format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from swd.errors import FileSystemError


class Readable(Protocol):
    """As much of a Disk as is needed here."""

    @property
    def size(self) -> int: ...

    def pread(self, length: int, offset: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What a superblock says. Sizes in bytes; `free_bytes` is None where only a count over the whole disk would tell.

    `dirty` says why the file system is not clean, and `unsupported` why swd does not read it; "" is neither. `mark`
    changes when somebody mounts it, or writes to it: it is a digest of all that was looked at.
    """

    kind: str
    label: str
    uuid: str
    block_size: int
    size_bytes: int
    free_bytes: int | None = None
    files: int | None = None
    dirty: str = ""
    unsupported: str = ""
    mark: str = field(default="", repr=False)


class Look:
    """Reads of a disk that are checked against its size, and remembered for the `mark`."""

    def __init__(self, disk: Readable) -> None:
        self._disk = disk
        self._digest = hashlib.sha256()

    @property
    def size(self) -> int:
        return self._disk.size

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises FileSystemError where the disk ends before: offsets come from the disk."""
        if offset < 0 or length < 0 or offset + length > self._disk.size:
            raise FileSystemError(
                f"the file system points to {length} bytes at {offset}, and the disk ends at {self._disk.size}.\n"
                "It is damaged, or this is a part of its disk only."
            )
        data = self._disk.pread(length, offset)
        if len(data) != length:
            raise FileSystemError(f"{length} bytes at {offset} could not be read whole: {len(data)} came")
        self._digest.update(data)
        return data

    def mark(self) -> str:
        return self._digest.hexdigest()


def text(raw: bytes, encoding: str = "utf-8") -> str:
    """A label: up to its first NUL, without the blanks that pad it; what is no text is shown as escapes."""
    return raw.decode(encoding, "backslashreplace").partition("\0")[0].rstrip()
