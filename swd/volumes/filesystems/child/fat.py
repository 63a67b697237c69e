# SPDX-License-Identifier: Apache-2.0
"""FAT12, FAT16, FAT32 by libfsfat. A file's number is the place of its directory entry on the disk, from where its
times are read: the library's are a month late. FAT's times have no zone: they are taken as UTC.
"""

from __future__ import annotations

import calendar
import codecs
import struct
from typing import Any, Final

import pyfsfat

from swd.volumes.filesystems.child.base import About, Damaged, DiskFile, Held, Name, NotRead, exactly
from swd.volumes.filesystems.fat import shape_of

ROOT: Final = 0
READ_ONLY, VOLUME_LABEL, FOLDER = 0x01, 0x08, 0x10
BASE_IN_LOWER_CASE, EXTENSION_IN_LOWER_CASE = 0x08, 0x10  # in byte 12 of an entry, as Windows NT has it
FORMATS: Final = {2: 12, 3: 16, 4: 32}  # the library's numbers of the formats -> bits of a table's entry
UNKNOWN: Final = "\ufffd"
codecs.lookup("cp437")  # now: once its rights are gone, this process cannot load it any more


def open(disk: DiskFile) -> FatReader:
    return FatReader(disk)


class FatReader:
    root = ROOT

    def __init__(self, disk: DiskFile) -> None:
        self._disk = disk
        self._volume = pyfsfat.volume()
        self._volume.open_file_object(disk)
        self._files = Held()
        bits = shape_of(exactly(disk, 0, 512)).bits
        if FORMATS.get(self._volume.file_system_format) != bits:
            raise NotRead(f"near the limits between FAT12, FAT16 and FAT32 libfsfat takes a FAT{bits} for another")

    def about(self, number: int) -> About:
        if number == ROOT:
            return About(ROOT, "directory", 0o777, 1, 0)
        entry = exactly(self._disk, number, 32)
        flags = entry[11]
        access, _high, time, date, _low, size = struct.unpack_from("<HHHHHI", entry, 18)
        folder = bool(flags & FOLDER)
        return About(
            number,
            "directory" if folder else "file",
            0o777 if folder else 0o444 if flags & READ_ONLY else 0o666,
            1,
            0 if folder else size,
            mtime=unix(date, time),
            atime=unix(access, 0),
        )

    def names(self, number: int) -> list[Name]:
        folder, found = self._file(number), []
        if number != ROOT and not exactly(self._disk, number, 32)[11] & FOLDER:
            raise Damaged(f"the entry at {number} is no directory")
        for n in range(folder.number_of_sub_file_entries):
            entry = folder.get_sub_file_entry(n)
            if not (entry.file_attribute_flags or 0) & VOLUME_LABEL:
                found.append((self._name(entry).encode("utf-8", "surrogatepass"), entry.identifier))
        return [(name, of) for name, of in found if name not in (b".", b"..")]

    def read(self, number: int, offset: int, length: int) -> bytes:
        found: bytes = self._file(number).read_buffer_at_offset(length, offset)
        return found

    def target(self, _number: int) -> bytes:
        raise Damaged("FAT has no symbolic links")

    def extents(self, _number: int, _start: int, _count: int) -> list[tuple[int, bool]] | None:
        return None  # FAT has no holes

    def free_bytes(self) -> int | None:
        return None  # the table is counted on our side

    def asleep(self) -> bool:
        return False

    def _name(self, entry: Any) -> str:
        """The long name; or the short one, for whose letters beyond ASCII the library has only U+FFFD."""
        name: str = entry.name
        return name if UNKNOWN not in name else short_name(exactly(self._disk, entry.identifier, 32)) or name

    def _file(self, number: int) -> Any:
        found = self._files.get(number)
        if found is None:
            found = self._volume.root_directory if number == ROOT else self._volume.get_file_entry_by_identifier(number)
            if found is None:
                raise Damaged(f"no directory entry at {number}")
            self._files.put(number, found)
        return found


def short_name(entry: bytes) -> str:
    """An 8.3 name in code page 437, as Linux takes it; "" where that is all ASCII, and so not what was unknown."""
    raw = (b"\xe5" if entry[0] == 5 else entry[:1]) + entry[1:11]
    if raw.isascii():
        return ""
    base, extension = raw[:8].decode("cp437").rstrip(), raw[8:].decode("cp437").rstrip()
    base = base.lower() if entry[12] & BASE_IN_LOWER_CASE else base
    extension = extension.lower() if entry[12] & EXTENSION_IN_LOWER_CASE else extension
    return f"{base}.{extension}" if extension else base


def unix(date: int, time: int) -> int:
    """Nanoseconds since 1970; 0 for what is no date."""
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    if not 1 <= month <= 12 or not day:
        return 0
    moment = (year, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2)
    return calendar.timegm((*moment, 0, 0, 0)) * 10**9
