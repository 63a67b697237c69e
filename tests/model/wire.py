# SPDX-License-Identifier: Apache-2.0
"""PDUs and digests as RFC 7143 draws them (11.2 the header, 13.1 the digests); no rule of any exchange."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

BHS = 48
RESERVED = 0xFFFFFFFF

NOP_OUT, SCSI_COMMAND, TASK_MANAGEMENT, TEXT, DATA_OUT, LOGOUT = 0x00, 0x01, 0x02, 0x04, 0x05, 0x06
NOP_IN, SCSI_RESPONSE, TASK_MANAGEMENT_ANSWER, TEXT_ANSWER = 0x20, 0x21, 0x22, 0x24
DATA_IN, LOGOUT_ANSWER, R2T, ASYNC, REJECT = 0x25, 0x26, 0x31, 0x32, 0x3F

FINAL = 0x80
READ, WRITE = 0x40, 0x20  # of a SCSI Command
OVERFLOW, UNDERFLOW = 0x04, 0x02
ACKNOWLEDGE = 0x40  # of a Data-In
STATUS = 0x01  # of a Data-In


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC, a byte at a time: polynomial 11EDC6F41 reflected, all ones before and after (13.1)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def digest(data: bytes | bytearray) -> bytes:
    return crc32c(bytes(data)).to_bytes(4, "little")


@dataclass
class Pdu:
    """A header of 48 bytes and a data segment without its padding; fields by the offsets that section 11 gives them."""

    bhs: bytearray
    data: bytes = b""
    spoil: str = ""  # "header" or "data": its digest goes out wrong

    def number(self, offset: int) -> int:
        value: int = struct.unpack_from(">I", self.bhs, offset)[0]
        return value

    def put(self, offset: int, value: int) -> None:
        struct.pack_into(">I", self.bhs, offset, value & 0xFFFFFFFF)

    @property
    def opcode(self) -> int:
        return self.bhs[0] & 0x3F

    @property
    def immediate(self) -> bool:
        return bool(self.bhs[0] & 0x40)

    @property
    def flags(self) -> int:
        return self.bhs[1]

    @property
    def length(self) -> int:
        return int.from_bytes(self.bhs[5:8], "big")

    lun = property(lambda self: bytes(self.bhs[8:16]))
    itt = property(lambda self: self.number(16))
    ttt = property(lambda self: self.number(20))
    number_24 = property(lambda self: self.number(24))  # CmdSN out, StatSN in
    number_28 = property(lambda self: self.number(28))  # ExpStatSN out, ExpCmdSN in
    max_cmd_sn = property(lambda self: self.number(32))
    number_36 = property(lambda self: self.number(36))  # DataSN, R2TSN, ExpDataSN
    offset = property(lambda self: self.number(40))
    number_44 = property(lambda self: self.number(44))  # residual count, desired data transfer length


def pdu(opcode: int, flags: int = FINAL, *, data: bytes = b"", lun: bytes = bytes(8), **numbers: int) -> Pdu:
    """A PDU to send; further keywords: byte2, byte3, itt, ttt, and n24 to n44 by the offset of the number."""
    made = Pdu(bytearray(BHS), data)
    made.bhs[0] = opcode
    made.bhs[1] = flags
    made.bhs[2] = numbers.pop("byte2", 0)
    made.bhs[3] = numbers.pop("byte3", 0)
    made.bhs[5:8] = len(data).to_bytes(3, "big")
    made.bhs[8:16] = lun
    for name, value in numbers.items():
        made.put({"itt": 16, "ttt": 20}.get(name) or int(name[1:]), value)
    return made


def frame(made: Pdu, header_digest: bool, data_digest: bool) -> bytes:
    """The bytes of a PDU on the wire."""
    out = bytes(made.bhs)
    if header_digest:
        out += spoiled(digest(made.bhs), made.spoil == "header")
    if made.data:
        padded = made.data + bytes(-len(made.data) & 3)
        out += padded
        if data_digest:
            out += spoiled(digest(padded), made.spoil == "data")
    return out


def spoiled(value: bytes, really: bool) -> bytes:
    return bytes([value[0] ^ 0x10]) + value[1:] if really else value


class WrongDigest(Exception):
    """Which digest it was, in its argument: "header" or "data"."""


@dataclass
class Splitter:
    """Cuts a stream into PDUs: `take(data)` gives those that are complete, and raises WrongDigest."""

    header_digest: bool
    data_digest: bool
    rest: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes) -> list[Pdu]:
        self.rest += data
        found = []
        while (made := self.next()) is not None:
            found.append(made)
        return found

    def header(self) -> Pdu | None:
        """The header that stands first, its digest checked; None if it is not complete."""
        size = BHS + 4 * self.header_digest
        if len(self.rest) < size:
            return None
        bhs = self.rest[:BHS]
        if self.header_digest and bytes(self.rest[BHS:size]) != digest(bhs):
            raise WrongDigest("header")
        return Pdu(bhs)

    def next(self) -> Pdu | None:
        made = self.header()
        if made is None:
            return None
        start = BHS + 4 * self.header_digest
        padded = made.length + (-made.length & 3)
        end = start + padded + (4 if self.data_digest and made.length else 0)
        if len(self.rest) < end:
            return None
        segment = bytes(self.rest[start : start + padded])
        if end > start + padded and bytes(self.rest[start + padded : end]) != digest(segment):
            raise WrongDigest("data")
        made.data = segment[: made.length]
        del self.rest[:end]
        return made
