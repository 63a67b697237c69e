# SPDX-License-Identifier: Apache-2.0
"""TransportIDs of iSCSI initiator ports: bytes and back (SPC-4 7.6.4.6). Format 01b only: name, ",i,0x", ISID."""

from __future__ import annotations

from swd.errors import SwdError
from swd.proto import names

_FORMAT_AND_PROTOCOL = 0x45  # 01b: an initiator port; protocol 5: iSCSI
_SEPARATOR = ",i,0x"


class BadTransportId(SwdError):
    """No TransportID of an iSCSI initiator port."""


def encode(initiator_name: str, isid: bytes) -> bytes:
    """The TransportID of a port, padded to four bytes."""
    text = f"{initiator_name}{_SEPARATOR}{isid.hex()}".encode() + b"\0"
    text += b"\0" * (max(20 - len(text), 0) + (-max(len(text), 20) & 3))
    return bytes([_FORMAT_AND_PROTOCOL, 0]) + len(text).to_bytes(2, "big") + text


def decode(data: bytes) -> tuple[str, bytes, int]:
    """(initiator name, ISID, bytes used) of the TransportID that `data` begins with. Raises BadTransportId."""
    length = int.from_bytes(data[2:4], "big")
    if len(data) < 4 + length or data[0] != _FORMAT_AND_PROTOCOL or length % 4 or not 20 <= length <= 1024:
        raise BadTransportId("only iSCSI initiator ports are known here")
    try:
        name, separator, isid = data[4 : 4 + length].rstrip(b"\0").decode().partition(_SEPARATOR)
        port = bytes.fromhex(isid)
    except ValueError:  # no UTF-8, or no hexadecimal digits
        raise BadTransportId("the name or the ISID is no text") from None
    if not separator or len(port) != 6 or not names.valid(name):
        raise BadTransportId("the name or the ISID is wrong")
    return names.validate(name), port, 4 + length


def decode_all(data: bytes) -> list[tuple[str, bytes]]:
    """All TransportIDs of a list. Raises BadTransportId."""
    found = []
    while data:
        name, isid, used = decode(data)
        found.append((name, isid))
        data = data[used:]
    return found
