# SPDX-License-Identifier: Apache-2.0
"""The 48-byte basic header segment of each PDU as a frozen record, packed and unpacked from one table of fields.

Pure: bytes in, records out. Used by login, discovery and the embedded target; the full-feature data path has its
own C-level accessors in `_wire.pxd`, and golden bytes in the tests hold the two together. Digests, padding and data
segments belong to the caller, who sets `data_segment_length`. Layouts: RFC 7143 section 11.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

from swd.errors import ProtocolViolation
from swd.values import RESERVED_TAG

BHS_LENGTH = 48
MAX_DATA_SEGMENT = (1 << 24) - 1  # DataSegmentLength is 24 bits (11.2.1.6)


class Opcode(enum.IntEnum):
    """RFC 7143 11.2.1.2."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK_REQUEST = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


class Number(NamedTuple):
    """An unsigned big-endian integer, or raw bytes, of `size` bytes at byte `offset`."""

    name: str
    offset: int
    size: int


class Bits(NamedTuple):
    """Some bits of one byte, shifted down; a single bit is a bool."""

    name: str
    offset: int
    mask: int


# Fields that several PDUs have in the same place.
IMMEDIATE = Bits("immediate", 0, 0x40)
FINAL = Bits("final", 1, 0x80)
LUN = Number("lun", 8, 8)
ITT = Number("itt", 16, 4)
TTT = Number("ttt", 20, 4)
CMD_SN = Number("cmd_sn", 24, 4)
EXP_STAT_SN = Number("exp_stat_sn", 28, 4)
STAT_SN = Number("stat_sn", 24, 4)
EXP_CMD_SN = Number("exp_cmd_sn", 28, 4)
MAX_CMD_SN = Number("max_cmd_sn", 32, 4)
DATA_SN = Number("data_sn", 36, 4)
BUFFER_OFFSET = Number("buffer_offset", 40, 4)
RESIDUAL_COUNT = Number("residual_count", 44, 4)
ISID = Number("isid", 8, 6)
TSIH = Number("tsih", 14, 2)
CID = Number("cid", 20, 2)
_EVERY = (Number("total_ahs_length", 4, 1), Number("data_segment_length", 5, 3))

P = TypeVar("P", bound="Pdu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """Base of all records: `pack()` gives 48 bytes, `unpack(bhs)` reads them."""

    opcode: ClassVar[Opcode]
    layout: ClassVar[tuple[Number | Bits, ...]]

    data_segment_length: int = 0
    total_ahs_length: int = 0  # in four-byte words (11.2.1.5)

    def pack(self) -> bytes:
        bhs = bytearray(BHS_LENGTH)
        bhs[0] = self.opcode
        for place in (*self.layout, *_EVERY):
            value = getattr(self, place.name)
            if isinstance(place, Bits):
                bhs[place.offset] |= int(value) * (place.mask & -place.mask) & place.mask
            elif isinstance(value, bytes):
                bhs[place.offset : place.offset + place.size] = value.ljust(place.size, b"\0")
            else:
                bhs[place.offset : place.offset + place.size] = value.to_bytes(place.size, "big")
        return bytes(bhs)

    @classmethod
    def unpack(cls: type[P], bhs: bytes) -> P:
        """The record in a header of this class's opcode; wrong length or opcode raises ProtocolViolation."""
        if len(bhs) != BHS_LENGTH or bhs[0] & 0x3F != cls.opcode:
            raise ProtocolViolation(f"the header is no {cls.__name__}: {bhs[:4].hex()}", clause="11.2.1")
        values: dict[str, object] = {}
        for place in (*cls.layout, *_EVERY):
            if isinstance(place, Bits):
                low = place.mask & -place.mask
                value = (bhs[place.offset] & place.mask) // low
                values[place.name] = bool(value) if place.mask == low else value
            else:
                raw = bhs[place.offset : place.offset + place.size]
                values[place.name] = raw if place.name in _RAW else int.from_bytes(raw, "big")
        return cls(**values)  # type: ignore[arg-type]  # names and types come from the same table


_RAW = {"isid", "cdb", "snack_raw"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiCommand(Pdu):
    """11.3."""

    opcode = Opcode.SCSI_COMMAND
    layout = (
        IMMEDIATE,
        FINAL,
        Bits("read", 1, 0x40),
        Bits("write", 1, 0x20),
        Bits("attributes", 1, 0x07),
        LUN,
        ITT,
        Number("expected_data_transfer_length", 20, 4),
        CMD_SN,
        EXP_STAT_SN,
        Number("cdb", 32, 16),
    )
    immediate: bool = False
    final: bool = True
    read: bool = False
    write: bool = False
    attributes: int = 1  # SIMPLE (11.3.1)
    lun: int = 0
    itt: int
    expected_data_transfer_length: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0
    cdb: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiResponse(Pdu):
    """11.4."""

    opcode = Opcode.SCSI_RESPONSE
    layout = (
        FINAL,
        Bits("bidi_overflow", 1, 0x10),
        Bits("bidi_underflow", 1, 0x08),
        Bits("overflow", 1, 0x04),
        Bits("underflow", 1, 0x02),
        Number("response", 2, 1),
        Number("status", 3, 1),
        ITT,
        Number("snack_tag", 20, 4),
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        Number("exp_data_sn", 36, 4),
        Number("bidi_residual_count", 40, 4),
        RESIDUAL_COUNT,
    )
    final: bool = True
    bidi_overflow: bool = False
    bidi_underflow: bool = False
    overflow: bool = False
    underflow: bool = False
    response: int = 0
    status: int = 0
    itt: int
    snack_tag: int = 0
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    exp_data_sn: int = 0
    bidi_residual_count: int = 0
    residual_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementRequest(Pdu):
    """11.5."""

    opcode = Opcode.TASK_MANAGEMENT_REQUEST
    layout = (
        IMMEDIATE,
        FINAL,
        Bits("function", 1, 0x7F),
        LUN,
        ITT,
        Number("referenced_task_tag", 20, 4),
        CMD_SN,
        EXP_STAT_SN,
        Number("ref_cmd_sn", 32, 4),
        Number("exp_data_sn", 36, 4),
    )
    immediate: bool = True
    final: bool = True
    function: int
    lun: int = 0
    itt: int
    referenced_task_tag: int = RESERVED_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0
    ref_cmd_sn: int = 0
    exp_data_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementResponse(Pdu):
    """11.6."""

    opcode = Opcode.TASK_MANAGEMENT_RESPONSE
    layout = (FINAL, Number("response", 2, 1), ITT, STAT_SN, EXP_CMD_SN, MAX_CMD_SN)
    final: bool = True
    response: int = 0
    itt: int
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOut(Pdu):
    """11.7.2."""

    opcode = Opcode.DATA_OUT
    layout = (FINAL, LUN, ITT, TTT, EXP_STAT_SN, DATA_SN, BUFFER_OFFSET)
    final: bool = True
    lun: int = 0
    itt: int
    ttt: int = RESERVED_TAG
    exp_stat_sn: int = 0
    data_sn: int = 0
    buffer_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIn(Pdu):
    """11.7.1."""

    opcode = Opcode.DATA_IN
    layout = (
        FINAL,
        Bits("acknowledge", 1, 0x40),
        Bits("overflow", 1, 0x04),
        Bits("underflow", 1, 0x02),
        Bits("status_present", 1, 0x01),
        Number("status", 3, 1),
        LUN,
        ITT,
        TTT,
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        DATA_SN,
        BUFFER_OFFSET,
        RESIDUAL_COUNT,
    )
    final: bool = True
    acknowledge: bool = False
    overflow: bool = False
    underflow: bool = False
    status_present: bool = False
    status: int = 0
    lun: int = 0
    itt: int
    ttt: int = RESERVED_TAG
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    data_sn: int = 0
    buffer_offset: int = 0
    residual_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class R2T(Pdu):
    """11.8."""

    opcode = Opcode.R2T
    layout = (
        FINAL,
        LUN,
        ITT,
        TTT,
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        Number("r2t_sn", 36, 4),
        BUFFER_OFFSET,
        Number("desired_data_transfer_length", 44, 4),
    )
    final: bool = True
    lun: int = 0
    itt: int
    ttt: int
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    r2t_sn: int = 0
    buffer_offset: int
    desired_data_transfer_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncMessage(Pdu):
    """11.9."""

    opcode = Opcode.ASYNC_MESSAGE
    layout = (
        FINAL,
        LUN,
        ITT,
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        Number("async_event", 36, 1),
        Number("async_vcode", 37, 1),
        Number("parameter1", 38, 2),
        Number("parameter2", 40, 2),
        Number("parameter3", 42, 2),
    )
    final: bool = True
    lun: int = 0
    itt: int = RESERVED_TAG
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    async_event: int
    async_vcode: int = 0
    parameter1: int = 0
    parameter2: int = 0
    parameter3: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest(Pdu):
    """11.10."""

    opcode = Opcode.TEXT_REQUEST
    layout = (IMMEDIATE, FINAL, Bits("continued", 1, 0x40), LUN, ITT, TTT, CMD_SN, EXP_STAT_SN)
    immediate: bool = False
    final: bool = True
    continued: bool = False
    lun: int = 0
    itt: int
    ttt: int = RESERVED_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResponse(Pdu):
    """11.11."""

    opcode = Opcode.TEXT_RESPONSE
    layout = (FINAL, Bits("continued", 1, 0x40), LUN, ITT, TTT, STAT_SN, EXP_CMD_SN, MAX_CMD_SN)
    final: bool = True
    continued: bool = False
    lun: int = 0
    itt: int
    ttt: int = RESERVED_TAG
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest(Pdu):
    """11.12; always immediate (bit 0x40)."""

    opcode = Opcode.LOGIN_REQUEST
    layout = (
        IMMEDIATE,
        Bits("transit", 1, 0x80),
        Bits("continued", 1, 0x40),
        Bits("csg", 1, 0x0C),
        Bits("nsg", 1, 0x03),
        Number("version_max", 2, 1),
        Number("version_min", 3, 1),
        ISID,
        TSIH,
        ITT,
        CID,
        CMD_SN,
        EXP_STAT_SN,
    )
    immediate: bool = True
    transit: bool = False
    continued: bool = False
    csg: int = 0
    nsg: int = 0
    version_max: int = 0
    version_min: int = 0
    isid: bytes
    tsih: int = 0
    itt: int = 0
    cid: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResponse(Pdu):
    """11.13."""

    opcode = Opcode.LOGIN_RESPONSE
    layout = (
        Bits("transit", 1, 0x80),
        Bits("continued", 1, 0x40),
        Bits("csg", 1, 0x0C),
        Bits("nsg", 1, 0x03),
        Number("version_max", 2, 1),
        Number("version_active", 3, 1),
        ISID,
        TSIH,
        ITT,
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        Number("status_class", 36, 1),
        Number("status_detail", 37, 1),
    )
    transit: bool = False
    continued: bool = False
    csg: int = 0
    nsg: int = 0
    version_max: int = 0
    version_active: int = 0
    isid: bytes
    tsih: int = 0
    itt: int = 0
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    status_class: int = 0
    status_detail: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRequest(Pdu):
    """11.14."""

    opcode = Opcode.LOGOUT_REQUEST
    layout = (IMMEDIATE, FINAL, Bits("reason", 1, 0x7F), ITT, CID, CMD_SN, EXP_STAT_SN)
    immediate: bool = True
    final: bool = True
    reason: int = 0
    itt: int
    cid: int = 0
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutResponse(Pdu):
    """11.15."""

    opcode = Opcode.LOGOUT_RESPONSE
    layout = (
        FINAL,
        Number("response", 2, 1),
        ITT,
        STAT_SN,
        EXP_CMD_SN,
        MAX_CMD_SN,
        Number("time2wait", 40, 2),
        Number("time2retain", 42, 2),
    )
    final: bool = True
    response: int = 0
    itt: int
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    time2wait: int = 0
    time2retain: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnackRequest(Pdu):
    """11.16."""

    opcode = Opcode.SNACK_REQUEST
    layout = (
        FINAL,
        Bits("type", 1, 0x0F),
        LUN,
        ITT,
        TTT,
        EXP_STAT_SN,
        Number("beg_run", 40, 4),
        Number("run_length", 44, 4),
    )
    final: bool = True
    type: int = 0
    lun: int = 0
    itt: int
    ttt: int = RESERVED_TAG
    exp_stat_sn: int = 0
    beg_run: int = 0
    run_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(Pdu):
    """11.17; the data segment holds the header of the rejected PDU."""

    opcode = Opcode.REJECT
    layout = (FINAL, Number("reason", 2, 1), ITT, STAT_SN, EXP_CMD_SN, MAX_CMD_SN, DATA_SN)
    final: bool = True
    reason: int
    itt: int = RESERVED_TAG
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    data_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NopOut(Pdu):
    """11.18."""

    opcode = Opcode.NOP_OUT
    layout = (IMMEDIATE, FINAL, LUN, ITT, TTT, CMD_SN, EXP_STAT_SN)
    immediate: bool = False
    final: bool = True
    lun: int = 0
    itt: int = RESERVED_TAG
    ttt: int = RESERVED_TAG
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NopIn(Pdu):
    """11.19."""

    opcode = Opcode.NOP_IN
    layout = (FINAL, LUN, ITT, TTT, STAT_SN, EXP_CMD_SN, MAX_CMD_SN)
    final: bool = True
    lun: int = 0
    itt: int = RESERVED_TAG
    ttt: int = RESERVED_TAG
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0


RECORDS: dict[int, type[Pdu]] = {record.opcode: record for record in Pdu.__subclasses__()}


def unpack(bhs: bytes) -> Pdu:
    """The record for any header; an unknown opcode raises ProtocolViolation."""
    record = RECORDS.get(bhs[0] & 0x3F)
    if record is None:
        raise ProtocolViolation(f"unknown opcode 0x{bhs[0] & 0x3F:02x}", clause="11.2.1.2")
    return record.unpack(bhs)


def padded(data: bytes) -> bytes:
    """The data segment with its padding to four bytes (11.1)."""
    return data + b"\0" * (-len(data) & 3)
