# SPDX-License-Identifier: Apache-2.0
"""PDUs of RFC 7143 as seen by a target: the 48-byte header as one struct, CRC32C, text. Checks nothing: what a script
asks for is what goes out, right or wrong."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

RESERVED = 0xFFFFFFFF

# opcode, flags, two more bytes, AHS words and data length, LUN (login: ISID, TSIH), ITT, and the seven words 20 to 44.
_BHS = struct.Struct(">BBBBIQI7I")


class Op(enum.IntEnum):
    NOP_OUT = 0x00
    COMMAND = 0x01
    TASK_MANAGEMENT = 0x02
    LOGIN = 0x03
    TEXT = 0x04
    DATA_OUT = 0x05
    LOGOUT = 0x06
    NOP_IN = 0x20
    RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC = 0x32
    REJECT = 0x3F


@dataclass(frozen=True)
class Pdu:
    """A PDU that came from the initiator. `words[n]` is the 32-bit word at byte 20 + 4n."""

    opcode: int
    flags: int
    immediate: bool
    lun: int
    itt: int
    words: tuple[int, ...]
    cdb: bytes
    data: bytes

    @property
    def cmd_sn(self) -> int:
        return self.words[1]

    @property
    def ttt(self) -> int:
        return self.words[0]

    @property
    def expected(self) -> int:
        """ExpectedDataTransferLength of a SCSI Command."""
        return self.words[0]

    @property
    def data_sn(self) -> int:
        return self.words[4]

    @property
    def offset(self) -> int:
        return self.words[5]

    @property
    def final(self) -> bool:
        return bool(self.flags & 0x80)

    @property
    def stages(self) -> tuple[int, int]:
        """CSG and NSG of a Login Request."""
        return self.flags >> 2 & 3, self.flags & 3

    @property
    def keys(self) -> dict[str, str]:
        return dict(item.split("=", 1) for item in self.data.decode().rstrip("\0").split("\0") if item)


def header(
    opcode: int, flags: int, length: int, *, b2: int = 0, b3: int = 0, ahs: int = 0, lun: int = 0, itt: int = RESERVED,
    words: tuple[int, ...] = (0,) * 7,
) -> bytes:  # fmt: skip
    return _BHS.pack(opcode, flags, b2, b3, ahs << 24 | length, lun, itt, *(word & RESERVED for word in words))


def lengths(bhs: bytes) -> tuple[int, int]:
    """Bytes of the additional header segments and of the data segment."""
    return bhs[4] * 4, int.from_bytes(bhs[5:8], "big")


def parse(bhs: bytes, data: bytes) -> Pdu:
    opcode, flags, _, _, _, lun, itt, *words = _BHS.unpack(bhs)
    return Pdu(opcode & 0x3F, flags, bool(opcode & 0x40), lun, itt, tuple(words), bhs[32:48], data)


def text(keys: dict[str, str]) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in keys.items())


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def framed(bhs: bytes, data: bytes, *, header_digest: bool, data_digest: bool) -> bytes:
    """The PDU as it goes over the wire (RFC 7143 11.2)."""
    head = bhs + (crc32c(bhs) if header_digest else b"")
    if not data:
        return head
    body = padded(data)
    return head + body + (crc32c(body) if data_digest else b"")


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_row(byte) for byte in range(256)]


def crc32c(data: bytes) -> bytes:
    """The digest as it goes over the wire, least significant byte first (RFC 7143 13.1, RFC 3720 B.4)."""
    crc = RESERVED
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ RESERVED).to_bytes(4, "little")
