# SPDX-License-Identifier: Apache-2.0
"""EXTENDED COPY (LID1) and RECEIVE COPY RESULTS, from block device to block device (SPC-4 6.4, 6.18, 5.17.3).

Source and destination are units of this target, found by their NAA designator. A copy is carried out at once; its
result is kept by nexus and list identifier, for RECEIVE COPY RESULTS.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from swd.target.scsi import inquiry
from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import (
    COPY_ABORTED,
    DATA_PROTECT,
    ILLEGAL_REQUEST,
    CheckCondition,
    Outcome,
    Reply,
    Request,
    WantData,
    conflict,
    invalid_field,
    invalid_parameter,
    parameter_list_length,
)
from swd.target.scsi.reservations import READ, WRITE

if TYPE_CHECKING:
    from swd.target.scsi.nexus import NexusId
    from swd.target.scsi.unit import LogicalUnit

_HEADER, _CSCD, _SEGMENT = 16, 32, 28
MAX_CSCDS, MAX_SEGMENTS, MAX_SEGMENT_BYTES = 8, 16, 32 << 20
_MAX_DESCRIPTORS = MAX_CSCDS * _CSCD + MAX_SEGMENTS * _SEGMENT
_IDENTIFICATION, _BLOCK_TO_BLOCK = 0xE4, 0x02
_NAA, _BINARY = 0x03, 0x01
_NO_LIST_ID = 0x18  # LIST ID USAGE 11b
_LENGTH = slice(10, 14)
_FIELDS = struct.Struct(">HHHHQQ")  # indexes, reserved, blocks, LBAs
_REMEMBERED = 64  # results of a unit


class Segment(NamedTuple):
    """One segment, in blocks of the source and destination that it names by index."""

    source: int
    destination: int
    blocks: int
    from_lba: int
    to_lba: int
    count_by_destination: bool  # DC: `blocks` are those of the destination


class Results:
    """What became of the copies of one unit."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[NexusId, int], tuple[int, int, int]] = OrderedDict()

    def put(self, nexus: NexusId, list_id: int, status: int, segments: int, moved: int) -> None:
        self._known[nexus, list_id] = (status, segments, moved)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def get(self, nexus: NexusId, list_id: int) -> tuple[int, int, int]:
        """(status, segments, bytes). Raises CheckCondition for a list identifier that is not known."""
        found = self._known.get((nexus, list_id))
        if found is None:
            raise invalid_field()
        return found


def extended_copy(unit: LogicalUnit, request: Request) -> Outcome:
    length = int.from_bytes(request.cdb[_LENGTH], "big")
    if not length:
        return Reply()
    if length < _HEADER:
        raise parameter_list_length()
    return WantData(min(length, _HEADER + 64 * _MAX_DESCRIPTORS), partial(_listed, unit, request))


def _listed(unit: LogicalUnit, request: Request, data: memoryview) -> Reply:
    """All descriptors are judged before anything is copied."""
    given = bytes(data)
    if len(given) < _HEADER:
        raise parameter_list_length()
    cscd_length, segment_length = int.from_bytes(given[2:4], "big"), int.from_bytes(given[8:12], "big")
    inline = int.from_bytes(given[12:16], "big")
    if cscd_length + segment_length > _MAX_DESCRIPTORS:
        raise parameter_list_length()
    if cscd_length > MAX_CSCDS * _CSCD:
        raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x06)  # TOO MANY TARGET DESCRIPTORS
    if cscd_length % _CSCD or _HEADER + cscd_length + segment_length + inline > len(given):
        raise parameter_list_length()
    units = [_unit_of(unit, given[at : at + _CSCD]) for at in range(_HEADER, _HEADER + cscd_length, _CSCD)]
    segments = _segments(given[_HEADER + cscd_length :][:segment_length])
    list_id, keeps = given[0], given[1] & _NO_LIST_ID != _NO_LIST_ID
    if inline or (given[1] & _NO_LIST_ID == _NO_LIST_ID and list_id):
        raise invalid_parameter()
    done = moved = 0
    status = 2  # terminated with an error (SPC-4 table 241)
    try:
        for segment in segments:
            part = _copy(request, units, segment)
            if part is None:
                return conflict()
            done, moved = done + 1, moved + part
        status = 1
    finally:
        if keeps:
            unit.copies.put(request.nexus.identity, list_id, status, done, moved)
    return Reply()


def _unit_of(unit: LogicalUnit, descriptor: bytes) -> LogicalUnit | None:
    """The unit that an identification descriptor names; None if no unit here has that designator, and for the null
    device. LU ID TYPE has no meaning in this form of descriptor."""
    if descriptor[0] != _IDENTIFICATION:
        raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x07)  # UNSUPPORTED TARGET DESCRIPTOR TYPE CODE
    if descriptor[1] & 0x1F:  # PERIPHERAL DEVICE TYPE: block
        raise invalid_parameter()
    if descriptor[1] & 0x20:  # NUL
        return None
    code_set, kind, size = descriptor[4] & 0x0F, descriptor[5] & 0x3F, descriptor[7]
    name = descriptor[8 : 8 + size]
    if (code_set, kind) != (_BINARY, _NAA):
        return None
    return next((one for one in unit.device.units.values() if inquiry.naa(one.serial) == name), None)


def _segments(data: bytes) -> list[Segment]:
    found: list[Segment] = []
    while data:
        if data[0] != _BLOCK_TO_BLOCK:
            raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x09)  # UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE
        if len(data) < _SEGMENT or int.from_bytes(data[2:4], "big") != _SEGMENT - 4:
            raise invalid_parameter()
        if len(found) == MAX_SEGMENTS:
            raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x08)  # TOO MANY SEGMENT DESCRIPTORS
        source, destination, _, blocks, from_lba, to_lba = _FIELDS.unpack(data[4:_SEGMENT])
        found.append(Segment(source, destination, blocks, from_lba, to_lba, bool(data[1] & 0x02)))
        data = data[_SEGMENT:]
    return found


def _copy(request: Request, units: list[LogicalUnit | None], segment: Segment) -> int | None:
    """Bytes copied; None for a reservation of somebody else's. Raises CheckCondition (COPY ABORTED)."""
    source, target = _at(units, segment.source), _at(units, segment.destination)
    if source is None or target is None:
        raise CheckCondition(COPY_ABORTED, 0x0D, 0x02)  # COPY TARGET DEVICE NOT REACHABLE
    me = request.nexus.identity
    if source.state.registry.refuses(me, READ) or target.state.registry.refuses(me, WRITE):
        return None
    if target.write_protected:
        raise CheckCondition(DATA_PROTECT, 0x27)
    length = segment.blocks * (target if segment.count_by_destination else source).block_size
    offset, to = segment.from_lba * source.block_size, segment.to_lba * target.block_size
    if length % source.block_size or length % target.block_size or length > MAX_SEGMENT_BYTES:
        raise invalid_parameter()
    if offset + length > source.blocks * source.block_size or to + length > target.blocks * target.block_size:
        raise CheckCondition(COPY_ABORTED, 0x00)  # the segment's own error has no code of its own
    if length:
        with target.state.lock:
            target.store(to, memoryview(bytes(source.medium.read(offset, length))))
    return length


def _at(units: list[LogicalUnit | None], index: int) -> LogicalUnit | None:
    return units[index] if index < len(units) else None


def copy_status(unit: LogicalUnit, request: Request) -> Reply:
    """RECEIVE COPY RESULTS, COPY STATUS: transfer count in bytes."""
    status, segments, moved = unit.copies.get(request.nexus.identity, request.cdb[2])
    data = (8).to_bytes(4, "big") + bytes([status]) + segments.to_bytes(2, "big") + b"\0" + moved.to_bytes(4, "big")
    return Reply(data=allocation(request.cdb, _LENGTH, data))


def operating_parameters(_unit: LogicalUnit, request: Request) -> Reply:
    body = b"\x01" + bytes(3)  # SNLID: a list identifier may be left out
    body += MAX_CSCDS.to_bytes(2, "big") + MAX_SEGMENTS.to_bytes(2, "big") + _MAX_DESCRIPTORS.to_bytes(4, "big")
    body += MAX_SEGMENT_BYTES.to_bytes(4, "big") + bytes(12)  # no inline, held or stream data
    body += bytes(2) + (1).to_bytes(2, "big") + bytes([1, 9, 0, 0]) + bytes(3)  # one at a time; 512-byte granularity
    body += bytes([2, _BLOCK_TO_BLOCK, _IDENTIFICATION])
    return Reply(data=allocation(request.cdb, _LENGTH, len(body).to_bytes(4, "big") + body))
