# SPDX-License-Identifier: Apache-2.0
"""Who a logical unit is: the designators of VPD page 83h, and which of them may be trusted how far.

*Strong*: associated with the logical unit, and NAA 2, 5 or 6 with a non-zero OUI, EUI-64/128 with one, or a UUID. Only
a strong identity says that two units behind different target names are one disk. Everything else (NAA 3 and other
locally assigned numbers, a zero OUI, T10 vendor text, serial numbers) is *weak*: two stock targets on two hosts present
identical ones, so it pins a unit only inside one target name. SPC-4 7.8.6 (designation descriptors), 7.8.6.6 (NAA).
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from swd.scsi.fields import text
from swd.scsi.inquiry import PAGE_IDENTIFICATION, page_body


class Association(enum.IntEnum):
    LOGICAL_UNIT = 0
    TARGET_PORT = 1
    TARGET_DEVICE = 2
    RESERVED = 3


class Kind(enum.IntEnum):
    """Designator types, SPC-4 table 590; UUID is of SPC-5."""

    VENDOR = 0x0
    T10 = 0x1
    EUI = 0x2
    NAA = 0x3
    RELATIVE_PORT = 0x4
    PORT_GROUP = 0x5
    UNIT_GROUP = 0x6
    MD5 = 0x7
    SCSI_NAME = 0x8
    UUID = 0xA


@dataclass(frozen=True, slots=True)
class Designator:
    """One designation descriptor: `text` such as "naa.6001405a..." or "t10.IET_00010001"; `kind` as sent."""

    kind: int
    association: int
    text: str
    strong: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one unit from another: two that differ mean two disks. `designators`: the unit's own."""

    text: str
    strong: bool
    serial: str
    designators: tuple[Designator, ...]

    def __str__(self) -> str:
        return self.text if self.strong else f"{self.text} (weak)"


def parse_designators(data: bytes) -> tuple[Designator, ...]:
    """The whole designators of VPD 83; one that is cut off at the end of the data is left out."""
    body = page_body(data, PAGE_IDENTIFICATION)
    found = []
    at = 0
    while at + 4 <= len(body):
        length = body[at + 3]
        value = body[at + 4 : at + 4 + length]
        if len(value) == length:
            found.append(_designator(body[at + 1] & 0x0F, (body[at + 1] >> 4) & 0x03, value))
        at += 4 + length
    return tuple(found)


def identify(designators: tuple[Designator, ...], serial: str) -> Identity:
    """The best designator of the logical unit itself: strong before weak, then in the order of `_RANKING`."""
    own = tuple(d for d in designators if d.association == Association.LOGICAL_UNIT)
    named = [d for d in own if d.kind in _RANKING]
    if named:
        best = min(named, key=lambda d: (not d.strong, _RANKING.index(d.kind), d.text))
        return Identity(best.text, best.strong, serial, own)
    return Identity(f"serial.{serial}" if serial else "unnamed", False, serial, own)


_RANKING: list[int] = [Kind.NAA, Kind.EUI, Kind.UUID, Kind.SCSI_NAME, Kind.T10, Kind.MD5, Kind.VENDOR]


def _designator(kind: int, association: int, value: bytes) -> Designator:
    spell, is_strong = _SPELLING.get(kind, (_hexadecimal, _never))
    strong = association == Association.LOGICAL_UNIT and is_strong(value)
    return Designator(kind, association, spell(value), strong)


def _hexadecimal(value: bytes) -> str:
    return f"hex.{value.hex()}"


def _never(_value: bytes) -> bool:
    return False


def _naa_is_strong(value: bytes) -> bool:
    """NAA 2: 8 bytes, OUI in bits 47..24. NAA 5: 8 bytes, NAA 6: 16 bytes, OUI in the 24 bits after the NAA nibble."""
    if not value:
        return False
    naa, length = value[0] >> 4, len(value)
    if naa == 2 and length == 8:
        return any(value[2:5])
    if (naa, length) in ((5, 8), (6, 16)):
        return bool(int.from_bytes(value[:4], "big") & 0x0FFFFFF0)
    return False


def _eui_is_strong(value: bytes) -> bool:
    """EUI-64 alone, with a directory identifier after it (12 bytes), or with an extension before it (16 bytes)."""
    start = 8 if len(value) == 16 else 0
    return len(value) in (8, 12, 16) and any(value[start : start + 3])


def _uuid_is_strong(value: bytes) -> bool:
    return len(value) == 18 and value[0] >> 4 == 1 and any(value[2:])


def _spell_uuid(value: bytes) -> str:
    return f"uuid.{uuid.UUID(bytes=value[2:18])}" if len(value) == 18 else _hexadecimal(value)


def _spell_words(prefix: str) -> Callable[[bytes], str]:
    return lambda value: prefix + "_".join(text(value).split())


_SPELLING: dict[int, tuple[Callable[[bytes], str], Callable[[bytes], bool]]] = {
    Kind.VENDOR: (_spell_words("vendor."), _never),
    Kind.T10: (_spell_words("t10."), _never),
    Kind.EUI: (lambda value: f"eui.{value.hex()}", _eui_is_strong),
    Kind.NAA: (lambda value: f"naa.{value.hex()}", _naa_is_strong),
    Kind.MD5: (lambda value: f"md5.{value.hex()}", _never),
    Kind.SCSI_NAME: (text, _never),
    Kind.UUID: (_spell_uuid, _uuid_is_strong),
}
