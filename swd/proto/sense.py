# SPDX-License-Identifier: Apache-2.0
"""Sense data: from any bytes to a `Sense` record. It travels inside the SCSI Response PDU, so its parser is down here.

A target may send short sense data, none, or nonsense. Nothing here raises for that: what is missing is None or 0.
Formats: SPC-4 4.5. What the codes mean is for `swd.scsi.sense`.
"""

from __future__ import annotations

from swd.values import Sense

_FIXED = (0x70, 0x71)  # current, deferred
_DESCRIPTOR = (0x72, 0x73)
_INFORMATION_DESCRIPTOR = 0x00
_MAX_RAW = 252  # SPC-4 4.5.1: sense data is never longer


def parse(data: bytes) -> Sense | None:
    """Sense data in fixed or descriptor format. None where there is not even a sense key, or the format is unknown."""
    raw = bytes(data[:_MAX_RAW])
    if not raw:
        return None
    code = raw[0] & 0x7F
    if code in _FIXED and len(raw) > 2:
        return _parse_fixed(raw)
    if code in _DESCRIPTOR and len(raw) > 1:
        return _parse_descriptors(raw)
    return None


def from_response(segment: bytes) -> Sense | None:
    """Sense of a SCSI Response's data segment: two bytes SenseLength, then the sense data (RFC 7143 11.4.7.2).

    A SenseLength that promises more than is there is taken for what is there.
    """
    if len(segment) < 2:
        return None
    length = int.from_bytes(segment[:2], "big")
    return parse(segment[2 : 2 + length])


def _parse_fixed(raw: bytes) -> Sense:
    """SPC-4 4.5.3: key in byte 2, INFORMATION (if VALID) in 3..6, ASC and ASCQ in 12 and 13 if they are there."""
    end = min(len(raw), 8 + raw[7]) if len(raw) > 7 else len(raw)
    asc = raw[12] if end > 12 else 0
    ascq = raw[13] if end > 13 else 0
    valid = bool(raw[0] & 0x80) and len(raw) >= 7
    information = int.from_bytes(raw[3:7], "big") if valid else None
    return Sense(raw[2] & 0x0F, asc, ascq, information, raw)


def _parse_descriptors(raw: bytes) -> Sense:
    """SPC-4 4.5.2: key, ASC, ASCQ in bytes 1..3, then descriptors of a type, a length, and so many bytes."""
    asc = raw[2] if len(raw) > 2 else 0
    ascq = raw[3] if len(raw) > 3 else 0
    return Sense(raw[1] & 0x0F, asc, ascq, _information(raw), raw)


def _information(raw: bytes) -> int | None:
    end = min(len(raw), 8 + raw[7]) if len(raw) > 7 else 0
    at = 8
    while at + 2 <= end:
        kind, length = raw[at], raw[at + 1]
        body = raw[at + 2 : min(at + 2 + length, end)]
        if kind == _INFORMATION_DESCRIPTOR and len(body) >= 10 and body[0] & 0x80:
            return int.from_bytes(body[2:10], "big")
        at += 2 + length
    return None
