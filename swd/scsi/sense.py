# SPDX-License-Identifier: Apache-2.0
"""What sense data mean: the keys, and words for people. They are parsed in `swd.proto.sense`; SPC-4 4.5.

The words for ASC/ASCQ are in `asc.py`.
"""

from __future__ import annotations

import enum

from swd.scsi.asc import ASC_WORDS
from swd.values import Sense


class SenseKey(enum.IntEnum):
    """SPC-4 table 43."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ")


def is_deferred(sense: Sense) -> bool:
    """The error belongs to an earlier command (response codes 71h and 73h, SPC-4 4.5.5)."""
    return bool(sense.raw) and sense.raw[0] & 0x7F in (0x71, 0x73)


def describe(sense: Sense | None) -> str:
    """Words for people: "medium error: unrecovered read error (03h 11h/00h) at 4711"."""
    if sense is None:
        return "no sense data"
    words = ASC_WORDS.get((sense.asc, sense.ascq)) or ASC_WORDS.get((sense.asc, 0))
    text = SenseKey(sense.key & 0x0F).words + (f": {words}" if words else "")
    text += f" ({sense.key:02X}h {sense.asc:02X}h/{sense.ascq:02X}h)"
    if sense.information is not None:
        text += f" at {sense.information}"
    return f"deferred {text}" if is_deferred(sense) else text
