# SPDX-License-Identifier: Apache-2.0
"""The boot sector of NTFS, the flags of its $Volume and the restart pages of its $LogFile (Linux: fs/ntfs3/ntfs.h and
fslog.c): what it is, and whether it is clean. Whether Windows sleeps in it (hiberfil.sys) only the reader can tell.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from swd.errors import FileSystemError
from swd.volumes.filesystems.record import FileSystem, Look, text

SECTOR: Final = 512
LOGFILE, VOLUME = 2, 3  # numbers of records in the MFT
VOLUME_NAME, VOLUME_INFORMATION, DATA = 0x60, 0x70, 0x80  # types of attributes
FLAGS_DIRTY: Final = 0x0001
FLAGS_UNFINISHED: Final = (
    0x0002 | 0x0004 | 0x4000 | 0x8000
)  # resize of the log, upgrade, chkdsk running, chkdsk changed
NO_CLIENT: Final = 0xFFFF
IS_CLEAN: Final = 0x0002


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes in bytes; `mft` is where the master file table begins."""

    sector: int
    cluster: int
    record: int
    mft: int
    total: int


def parse(look: Look) -> FileSystem | None:
    """The file system at the start of the disk; None if there is none. Raises FileSystemError for a damaged one."""
    if look.size < SECTOR:
        return None
    raw = look.at(0, SECTOR)
    if raw[3:11] != b"NTFS    ":
        return None
    shape = _shape(raw)
    volume = _attributes(_record(look, shape, VOLUME))
    information = _resident(volume.get(VOLUME_INFORMATION, b""))
    if len(information) < 12:
        raise FileSystemError("the $Volume record of NTFS has no flags.\nRun chkdsk on a copy of it.")
    too_long = shape.total > look.size
    return FileSystem(
        kind="ntfs",
        label=text(_resident(volume.get(VOLUME_NAME, b"")), "utf-16-le"),
        uuid=f"{int.from_bytes(raw[72:80], 'little'):016X}",
        block_size=shape.cluster,
        size_bytes=shape.total,
        dirty=_dirty(look, shape, int.from_bytes(information[10:12], "little")),
        unsupported=f"it claims {shape.total} bytes, and the disk has {look.size}" if too_long else "",
        mark=look.mark(),
    )


def _shape(raw: bytes) -> Shape:
    sector, per_cluster = struct.unpack_from("<HB", raw, 11)
    total, mft = struct.unpack_from("<QQ", raw, 40)
    (per_record,) = struct.unpack_from("<b", raw, 64)
    per_cluster = per_cluster if per_cluster <= 128 else 1 << min(256 - per_cluster, 31)
    cluster = sector * per_cluster
    record = per_record * cluster if per_record > 0 else 1 << min(-per_record, 31)
    right = sector in (512, 1024, 2048, 4096) and 512 <= cluster <= 2 << 20 and not cluster & (cluster - 1)
    if not right or not 512 <= record <= 64 << 10 or record & (record - 1) or not total:
        raise FileSystemError("the NTFS boot sector makes no sense (sizes).\nRun chkdsk on a copy of it.")
    return Shape(sector, cluster, record, mft * cluster, total * sector)


def _record(look: Look, shape: Shape, number: int) -> bytes:
    """A record of the MFT's first run, which always holds the first sixteen."""
    return _fixed(look.at(shape.mft + number * shape.record, shape.record), b"FILE")


def _fixed(raw: bytes, magic: bytes) -> bytes:
    """The block with the last two bytes of each sector put back (update sequence array). Raises if it was torn."""
    start, count = struct.unpack_from("<HH", raw, 4)
    if raw[:4] != magic or not count or start + 2 * count > len(raw) or (count - 1) * 512 > len(raw):
        raise FileSystemError(f"NTFS: no {magic.decode()} record where one should be.\nRun chkdsk on a copy of it.")
    block, check = bytearray(raw), raw[start : start + 2]
    for n in range(1, count):
        end = n * 512
        if raw[end - 2 : end] != check:
            raise FileSystemError(
                f"NTFS: a {magic.decode()} record was written in part only.\nRun chkdsk on a copy of it."
            )
        block[end - 2 : end] = raw[start + 2 * n : start + 2 * n + 2]
    return bytes(block)


def _attributes(record: bytes) -> dict[int, bytes]:
    """The first attribute without a name of each type, whole."""
    found: dict[int, bytes] = {}
    (at,) = struct.unpack_from("<H", record, 20)
    while at + 16 <= len(record):
        kind, length = struct.unpack_from("<II", record, at)
        if kind == 0xFFFFFFFF or length < 16 or at + length > len(record):
            break
        if not record[at + 9]:
            found.setdefault(kind, record[at : at + length])
        at += length
    return found


def _resident(attribute: bytes) -> bytes:
    """The value of an attribute that lies in its record; b"" for another."""
    if len(attribute) < 24 or attribute[8]:
        return b""
    length, start = struct.unpack_from("<IH", attribute, 16)
    return attribute[start : start + length]


def _first_run(attribute: bytes, cluster: int) -> tuple[int, int]:
    """Offset and length in bytes of the first run of an attribute outside of its record; (0, 0) for another."""
    if len(attribute) < 64 or not attribute[8]:
        return 0, 0
    (at,) = struct.unpack_from("<H", attribute, 32)
    sizes = attribute[at] if at < len(attribute) else 0
    count, place = sizes & 15, sizes >> 4
    if not count or not place or at + 1 + count + place > len(attribute):
        return 0, 0
    run = attribute[at + 1 : at + 1 + count + place]
    start = int.from_bytes(run[count:], "little", signed=True)
    return start * cluster, int.from_bytes(run[:count], "little") * cluster


def _dirty(look: Look, shape: Shape, flags: int) -> str:
    if flags & FLAGS_DIRTY:
        return "its dirty flag is set: it is mounted somewhere, was not unmounted, or needs chkdsk"
    if flags & FLAGS_UNFINISHED:
        return f"Windows has not finished something in it (flags 0x{flags:04x})"
    offset, length = _first_run(_attributes(_record(look, shape, LOGFILE)).get(DATA, b""), shape.cluster)
    if length < 8192:
        return "its journal cannot be found"
    return _journal(look, offset)


def _journal(look: Look, offset: int) -> str:
    """Two restart pages stand at the journal's start; the younger one holds."""
    first = look.at(offset, 4096)
    if first[:4] in (b"\xff\xff\xff\xff", b"CHKD"):
        return ""  # emptied by a clean unmount of ntfs-3g, or by chkdsk
    page = int.from_bytes(first[16:20], "little")
    areas = []
    for start in (0, page if page in (4096, 8192, 16384, 65536) else 4096):
        try:
            areas.append(_restart(_fixed(look.at(offset + start, 4096), b"RSTR")))
        except FileSystemError:
            continue
    if not areas:
        return "its journal cannot be read"
    _lsn, client, flags = max(areas)
    if client != NO_CLIENT and not flags & IS_CLEAN:
        return "its journal must be replayed: it is mounted somewhere, or was not unmounted"
    return ""


def _restart(page: bytes) -> tuple[int, int, int]:
    """Log sequence number, first client in use, flags."""
    (at,) = struct.unpack_from("<H", page, 24)
    if at + 16 > len(page):
        raise FileSystemError("NTFS: a restart page makes no sense")
    lsn, _clients, _free, client, flags = struct.unpack_from("<QHHHH", page, at)
    return lsn, client, flags
