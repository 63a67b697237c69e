# SPDX-License-Identifier: Apache-2.0
"""A TCP conversation as a capture file: pcap of LINKTYPE_RAW (101), with IPv4 or IPv6 and TCP headers made up round
the bytes that really passed, sequence numbers and checksums right. Pure: no clock, no file.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
MAX_SEGMENT = 32768  # bytes of TCP payload in one made-up packet
_FIN, _SYN, _PSH, _ACK = 0x01, 0x02, 0x08, 0x10
_WINDOW = 65535


class Ends(NamedTuple):
    """Address and port of both ends, as the socket names them."""

    our_host: str
    our_port: int
    their_host: str
    their_port: int


class Conversation:
    """One TCP connection, as the packets that show it. `at` is seconds since the epoch."""

    def __init__(self, ends: Ends) -> None:
        self._ports = (ends.their_port, ends.our_port)  # by direction: index 1 is what we send
        their, our = (ipaddress.ip_address(host.partition("%")[0]) for host in (ends.their_host, ends.our_host))
        self._six = our.version == 6
        self._hosts = (their.packed, our.packed)
        self._next = [1, 1]  # sequence numbers: the SYNs took 0

    def begin(self, at: float) -> Iterator[bytes]:
        yield self._packet(at, True, 0, 0, _SYN)
        yield self._packet(at, False, 0, 1, _SYN | _ACK)
        yield self._packet(at, True, 1, 1, _ACK)

    def data(self, at: float, out: bool, payload: bytes, gap: int = 0) -> Iterator[bytes]:
        """`gap`: bytes of this direction before it that are not shown."""
        self._next[out] += gap
        for start in range(0, len(payload), MAX_SEGMENT):
            piece = payload[start : start + MAX_SEGMENT]
            yield self._packet(at, out, self._next[out], self._next[not out], _PSH | _ACK, piece)
            self._next[out] += len(piece)

    def end(self, at: float) -> Iterator[bytes]:
        for out in (True, False):
            yield self._packet(at, out, self._next[out], self._next[not out], _FIN | _ACK)
            self._next[out] += 1

    def _packet(self, at: float, out: bool, seq: int, ack: int, flags: int, payload: bytes = b"") -> bytes:
        source, target = self._hosts[out], self._hosts[not out]
        length = 20 + len(payload)
        fields = (self._ports[out], self._ports[not out], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, flags, _WINDOW)
        pseudo = source + target + (struct.pack(">II", length, 6) if self._six else struct.pack(">HH", 6, length))
        checksum = _checksum(pseudo + struct.pack(">HHIIBBHHH", *fields, 0, 0) + payload)
        tcp = struct.pack(">HHIIBBHHH", *fields, checksum, 0) + payload
        packet = (self._ip6(length, source, target) if self._six else _ip4(length, source, target)) + tcp
        seconds = int(at)
        head = struct.pack("=IIII", seconds, int((at - seconds) * 1e6), len(packet), len(packet))
        return head + packet

    @staticmethod
    def _ip6(length: int, source: bytes, target: bytes) -> bytes:
        return struct.pack(">IHBB", 6 << 28, length, 6, 64) + source + target


def _ip4(length: int, source: bytes, target: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + source + target
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:]


def _checksum(data: bytes) -> int:
    """RFC 1071. The sum of 16-bit words modulo 65535, which one division of the whole as a number gives too."""
    total = int.from_bytes(data + b"\0" * (len(data) & 1), "big") % 0xFFFF
    return 0xFFFF - total if total else 0xFFFF if not any(data) else 0
