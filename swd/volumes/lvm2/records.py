# SPDX-License-Identifier: Apache-2.0
"""A volume group as records, made from the sections of its metadata text and checked while they are made.

What a record says holds: extents lie inside their physical volumes, segments follow each other without gap, names that
are referred to exist. What a segment's own type means is not judged here: `Segment.values` keeps the text's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.text import BadText, Section, parse

_NAME = re.compile(r"[A-Za-z0-9+_.-]{1,127}")
_UUID = re.compile(r"[A-Za-z0-9]{6}(-[A-Za-z0-9]{4}){5}-[A-Za-z0-9]{6}")
MOST_SECTORS: Final = (1 << 63) // SECTOR  # of anything: offsets fit in 63 bits


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """`name` is the text's own (pv0); sizes in bytes. `device` is where LVM saw it last, a hint."""

    name: str
    uuid: str
    status: frozenset[str]
    start: int
    extents: int
    device: str
    size: int

    @property
    def missing(self) -> bool:
        """Whether the group goes on without it: what it holds is stale even if it comes back."""
        return "MISSING" in self.status


@dataclass(frozen=True, slots=True)
class Segment:
    """Extents start..start+length-1 of a logical volume. `values`: all that the text says about it."""

    start: int
    length: int
    type: str
    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    name: str
    uuid: str
    status: frozenset[str]
    tags: tuple[str, ...]
    segments: tuple[Segment, ...]

    @property
    def extents(self) -> int:
        return self.segments[-1].start + self.segments[-1].length if self.segments else 0

    @property
    def visible(self) -> bool:
        return "VISIBLE" in self.status


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """`extent_size` in bytes; `checksum` is that of the text, by which two copies of one seqno are compared."""

    name: str
    uuid: str
    seqno: int
    status: frozenset[str]
    system_id: str
    lock_type: str
    extent_size: int
    physical: Mapping[str, PhysicalVolume]
    logical: Mapping[str, LogicalVolume]
    checksum: int = 0


def read(content: bytes, checksum: int = 0) -> VolumeGroup:
    """The volume group of a metadata text. Raises BadText (EIO) where it is none, or contradicts itself."""
    top = parse(content)
    if top.get("contents") != "Text Format Volume Group" or top.get("version") != 1:
        raise BadText("the metadata text is not of LVM2's format, version 1")
    groups = [(name, value) for name, value in top.items() if isinstance(value, dict)]
    if len(groups) != 1:
        raise BadText(f"the metadata text has {len(groups)} volume groups")
    return _group(*groups[0], checksum)


def _group(name: str, section: Section, checksum: int) -> VolumeGroup:
    where = f"volume group {name}"
    extent_sectors = _number(section, "extent_size", where, 1, 1 << 32)
    physical = {
        key: _physical(key, value, where, extent_sectors)
        for key, value in _sections(section, "physical_volumes", where).items()
    }
    logical = {
        key: _logical(key, value, where, extent_sectors)
        for key, value in _sections(section, "logical_volumes", where).items()
    }
    if len({one.uuid for one in physical.values()}) < len(physical):
        raise BadText(f"{where}: two physical volumes with one UUID")
    return VolumeGroup(
        _name(name, where),
        _uuid(section, where),
        _number(section, "seqno", where, 0, 1 << 63),
        _words(section, "status", where) | _words(section, "flags", where),
        _string(section, "system_id", where),
        _string(section, "lock_type", where),
        extent_sectors * SECTOR,
        physical,
        logical,
        checksum,
    )


def _physical(name: str, section: Section, where: str, extent_sectors: int) -> PhysicalVolume:
    where = f"{where}: {name}"
    start = _number(section, "pe_start", where, 0, MOST_SECTORS)
    extents = _number(section, "pe_count", where, 0, 1 << 32)
    if start + extents * extent_sectors >= MOST_SECTORS:
        raise BadText(f"{where}: {extents} extents cannot be")
    return PhysicalVolume(
        name,
        _uuid(section, where),
        _words(section, "status", where) | _words(section, "flags", where),
        start * SECTOR,
        extents,
        _string(section, "device", where),
        _number(section, "dev_size", where, 0, MOST_SECTORS, 0) * SECTOR,
    )


def _logical(name: str, section: Section, where: str, extent_sectors: int) -> LogicalVolume:
    where = f"{where}: {name}"
    count = _number(section, "segment_count", where, 0, 1 << 32)
    if count > len(section):
        raise BadText(f"{where}: {count} segments are not there")
    segments = tuple(_segment(section.get(f"segment{index}"), where) for index in range(1, count + 1))
    end = 0
    for one in segments:
        if one.start != end:
            raise BadText(f"{where}: its segments leave a gap at extent {end}")
        end += one.length
    if end * extent_sectors >= MOST_SECTORS:
        raise BadText(f"{where}: {end} extents cannot be")
    return LogicalVolume(
        _name(name, where),
        _uuid(section, where),
        _words(section, "status", where) | _words(section, "flags", where),
        tuple(str(tag) for tag in _list(section, "tags", where)),
        segments,
    )


def _segment(section: object, where: str) -> Segment:
    if not isinstance(section, dict):
        raise BadText(f"{where}: a segment is missing")
    kind = section.get("type")
    if not isinstance(kind, str) or not kind:
        raise BadText(f"{where}: a segment without a type")
    start = _number(section, "start_extent", where, 0, 1 << 32)
    return Segment(start, _number(section, "extent_count", where, 1, 1 << 32), kind, section)


# --- words of the text ---------------------------------------------------------------------------------------------


def number(segment: Segment, key: str, low: int, high: int, default: int | None = None) -> int:
    """A number of a segment's own; BadText if it is not there and has no default, or out of bounds."""
    return _number(segment.values, key, f"a {segment.type} segment", low, high, default)


def string(segment: Segment, key: str) -> str:
    """A word of a segment's own, such as the name of a volume; "" where it is not there."""
    return _string(segment.values, key, f"a {segment.type} segment")


def names(segment: Segment, key: str) -> list[Any]:
    return _list(segment.values, key, f"a {segment.type} segment")


def _number(section: Mapping[str, Any], key: str, where: str, low: int, high: int, default: int | None = None) -> int:
    value = section.get(key, default)
    if not isinstance(value, int) or not low <= value < high:
        raise BadText(f"{where}: {key} is {str(value)[:40]}")
    return value


def _string(section: Mapping[str, Any], key: str, where: str) -> str:
    value = section.get(key, "")
    if not isinstance(value, str):
        raise BadText(f"{where}: {key} is no string")
    return value


def _list(section: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = section.get(key, [])
    if not isinstance(value, list):
        raise BadText(f"{where}: {key} is no list")
    return value


def _words(section: Section, key: str, where: str) -> frozenset[str]:
    return frozenset(str(word) for word in _list(section, key, where))


def _sections(section: Section, key: str, where: str) -> dict[str, Section]:
    found = section.get(key, {})
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise BadText(f"{where}: {key} is not made of sections")
    return found


def _uuid(section: Section, where: str) -> str:
    uuid = section.get("id")
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise BadText(f"{where}: no UUID")
    return uuid


def _name(name: str, where: str) -> str:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise BadText(f"{where}: no name that LVM allows")
    return name
