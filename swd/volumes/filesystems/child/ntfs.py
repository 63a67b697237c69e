# SPDX-License-Identifier: Apache-2.0
"""NTFS by libfsntfs. Its own files ($MFT and the like) are not shown. Names are UTF-16 there, UTF-8 here; modes are
made up, since access lists are not Unix's; links and devices are told as Interix and Windows store them.
"""

from __future__ import annotations

import codecs
import struct
from typing import Any, Final

import pyfsntfs

from swd.volumes.filesystems.child.base import About, Damaged, DiskFile, Held, Name, NotRead

ROOT, BITMAP, FIRST_OF_USERS = 5, 6, 16
NUMBER: Final = (1 << 48) - 1  # of a file reference; above it is the generation
READ_ONLY, SYSTEM, REPARSE, COMPRESSED, ENCRYPTED = 0x1, 0x4, 0x400, 0x800, 0x4000
FILE_NAME: Final = 0x30
DOS_NAME: Final = 2  # the name space of a short name, which is no link of its own
HOLE: Final = 1
EPOCH: Final = 116_444_736_000_000_000  # 1970 in units of 100 ns since 1601
INTERIX_LINK: Final = b"IntxLNK\1"
INTERIX_DEVICE: Final = {b"IntxCHR\0": "char", b"IntxBLK\0": "block"}
codecs.lookup("utf-16-le")  # now: once its rights are gone, this process cannot load it any more
HIBERNATED: Final = (b"hibr", b"HIBR", b"wake", b"WAKE")


def open(disk: DiskFile) -> NtfsReader:
    return NtfsReader(disk)


class NtfsReader:
    root = ROOT

    def __init__(self, disk: DiskFile) -> None:
        self._volume = pyfsntfs.volume()
        self._volume.open_file_object(disk)
        self._files = Held()

    def about(self, number: int) -> About:
        file = self._file(number)
        flags = file.file_attribute_flags or 0
        folder = file.has_directory_entries_index()
        kind, device, size = ("directory", None, 0) if folder else self._kind(file, flags)
        mode = (0o777 if folder else 0o666) & (~0o222 if flags & READ_ONLY and not folder else 0o777)
        why = ""
        if flags & ENCRYPTED:
            why = "it is encrypted (EFS)"
        elif kind == "unknown":
            why = "it is a reparse point of a kind that is not read"
        return About(
            number,
            kind,
            0o777 if kind == "link" else mode,
            1 if folder else max(self._links(file), 1),
            size,
            mtime=unix(file.get_modification_time_as_integer()),
            atime=unix(file.get_access_time_as_integer()),
            device=device,
            unreadable=why,
        )

    def names(self, number: int) -> list[Name]:
        file = self._file(number)
        if not file.has_directory_entries_index():
            raise Damaged(f"file {number} is no directory")
        found, seen = [], set()
        for n in range(file.number_of_sub_file_entries):
            entry = file.get_sub_file_entry(n)
            of = entry.file_reference & NUMBER
            name = entry.name.encode("utf-8", "surrogatepass")
            if of >= FIRST_OF_USERS and (name, of) not in seen:
                seen.add((name, of))
                found.append((name, of))
        return found

    def read(self, number: int, offset: int, length: int) -> bytes:
        file = self._file(number)
        if why := self.about(number).unreadable:
            raise NotRead(f"{why}; its content is not given out")
        found: bytes = file.read_buffer_at_offset(length, offset)
        return found

    def target(self, number: int) -> bytes:
        file = self._file(number)
        flags = file.file_attribute_flags or 0
        if flags & REPARSE:
            return windows_link(file.symbolic_link_target)
        raw: bytes = file.read_buffer_at_offset(min(file.size, 8 + 2 * 4096), 0)
        return raw[8:].decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")

    def extents(self, number: int, start: int, count: int) -> list[tuple[int, bool]] | None:
        file = self._file(number)
        if (file.file_attribute_flags or 0) & COMPRESSED:
            return None  # its holes are what was compressed away
        if not file.number_of_extents:
            return None  # the content lies in the file's record
        end = min(file.number_of_extents, start + count)
        told = (file.get_extent(n) for n in range(start, end))
        return [(size, bool(flags & HOLE)) for _offset, size, flags in told]

    def free_bytes(self) -> int | None:
        bitmap, free, at = self._file(BITMAP), 0, 0
        while piece := bitmap.read_buffer_at_offset(min(1 << 20, bitmap.size - at), at) if at < bitmap.size else b"":
            free += 8 * len(piece) - bin(int.from_bytes(piece, "little")).count("1")  # noqa: FURB161  # Python 3.10 has it
            at += len(piece)
        return free * int(self._volume.cluster_block_size)

    def asleep(self) -> bool:
        for name, number in self.names(ROOT):
            if name.lower() == b"hiberfil.sys":
                file = self._file(number)
                return file.size >= 4 and file.read_buffer_at_offset(4, 0) in HIBERNATED
        return False

    def _file(self, number: int) -> Any:
        return self._files.get(number) or self._files.put(number, self._volume.get_file_entry(number))

    def _links(self, file: Any) -> int:
        attributes = (file.get_attribute(n) for n in range(file.number_of_attributes))
        return sum(a.attribute_type == FILE_NAME and getattr(a, "name_space", 0) != DOS_NAME for a in attributes)

    def _kind(self, file: Any, flags: int) -> tuple[str, tuple[int, int] | None, int]:
        """What a file is: kind, device number, size. Interix stores links and devices as small system files."""
        if flags & REPARSE:
            target = file.symbolic_link_target
            return ("link", None, len(windows_link(target))) if target else ("unknown", None, 0)
        size: int = file.size if file.has_default_data_stream() else 0
        if not flags & SYSTEM or size > 8 + 2 * 4096:
            return "file", None, size
        head = file.read_buffer_at_offset(min(size, 24), 0) if size else b""
        if head[:8] == INTERIX_LINK:
            return "link", None, len(self.target(file.file_reference & NUMBER))
        if head[:8] in INTERIX_DEVICE and len(head) == 24:
            major, minor = struct.unpack_from("<QQ", head, 8)
            return INTERIX_DEVICE[head[:8]], (major & 0xFFF, minor & 0xFFFFF), 0
        if size < 2:
            return ("fifo", "socket")[size], None, 0
        return "file", None, size


def windows_link(target: str | None) -> bytes:
    """A target as Windows writes it, with Unix's separators."""
    return (target or "").replace("\\", "/").encode("utf-8", "surrogatepass")


def unix(time: int | None) -> int:
    """Nanoseconds since 1970 from Windows's count."""
    return 0 if time is None else (time - EPOCH) * 100
