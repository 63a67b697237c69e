# SPDX-License-Identifier: Apache-2.0
"""A metadata area: a header, and a circular buffer in which each new text of the volume group follows the one before.

The header names the text in force; a second name, for a text that was about to be committed, is not used, as LVM would
not. A text that passes the end of the buffer goes on behind the header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from swd.volumes.lvm2.label import Extent, Source, checksum

HEADER: Final = 512
MOST_TEXT: Final = 16 << 20  # bytes; a volume group of 10,000 volumes has about 5 MiB
IGNORED: Final = 1
_MAGIC = b" LVM2 x[5A%r0N*>"
_HEADER = struct.Struct("<I16sIQQ")
_LOCATION = struct.Struct("<QQII")


@dataclass(frozen=True, slots=True)
class Text:
    """The metadata text in force, with its checksum; None where the area holds none (no group, or ignored)."""

    content: bytes | None
    checksum: int = 0
    ignored: bool = False


def read(disk: Source, area: Extent) -> Text | str:
    """What an area holds; or in words what is wrong with it."""
    header = disk.pread(HEADER, area.start)
    if len(header) < HEADER:
        return "it lies behind the end of the disk"
    crc, magic, version, start, size = _HEADER.unpack_from(header)
    if checksum(header[4:]) != crc:
        return "wrong checksum of the header"
    if magic != _MAGIC or version != 1:
        return "no header of version 1"
    if start != area.start or size <= HEADER or start + size > disk.size:
        return f"its header is of an area of {size} bytes at {start}"
    offset, length, crc, flags = _LOCATION.unpack_from(header, _HEADER.size)
    ignored = bool(flags & IGNORED)
    if not offset or not length or ignored:
        return Text(None, ignored=ignored)
    if not HEADER <= offset < size or length > min(size - HEADER, MOST_TEXT):
        return f"its text cannot be {length} bytes at {offset}"
    content = _circular(disk, start, size, offset, length)
    if checksum(content) != crc:
        return "wrong checksum of the text"
    return Text(content.rstrip(b"\0"), crc)


def _circular(disk: Source, start: int, size: int, offset: int, length: int) -> bytes:
    first = min(length, size - offset)
    content = disk.pread(first, start + offset)
    return content + disk.pread(length - first, start + HEADER) if first < length else content
