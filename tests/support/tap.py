# SPDX-License-Identifier: Apache-2.0
"""A wire tap: a relay on the loopback that keeps what both sides said, and reads it as a third party.

tgtadm does not show what a live session negotiated, and no target's word proves what is on the wire. The tap's reader
takes the text keys from the login as they passed, and checks each header and data digest after it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import swd
from swd.proto.pdu import BHS_LENGTH, Opcode
from swd.values import Portal

KEPT = 8 << 20  # bytes of each direction
_LOGIN = (Opcode.LOGIN_REQUEST, Opcode.LOGIN_RESPONSE)
_PIECE = 1 << 18


class Pdu(NamedTuple):
    opcode: int
    data: bytes


@dataclass
class Talk:
    """One direction of a connection. `keys`: the last value of each text key of the login."""

    keys: dict[str, str] = field(default_factory=dict)
    pdus: list[Pdu] = field(default_factory=list)  # after login
    header_digests: int = 0  # seen and right
    data_digests: int = 0


class BadDigest(AssertionError):
    """A digest on the wire is wrong, or there is none where one was agreed on."""


def read(raw: bytes, *, header_digest: bool, data_digest: bool) -> Talk:
    """One direction's bytes as PDUs, under the digests that are said to hold. Raises BadDigest.

    An unfinished PDU at the end is left out.
    """
    keys, at = _login(raw)
    talk = Talk(keys)
    after_header = 4 if header_digest else 0
    while at + BHS_LENGTH + after_header <= len(raw):
        bhs, body = raw[at : at + BHS_LENGTH], at + BHS_LENGTH + after_header
        length = int.from_bytes(bhs[5:8], "big")
        padded = length + (-length & 3)
        end = body + padded + (4 if data_digest and length else 0)
        if end > len(raw):
            break
        if header_digest:
            _check(bhs, raw[body - 4 : body], f"header of PDU {len(talk.pdus)}")
            talk.header_digests += 1
        if data_digest and length:
            _check(raw[body : body + padded], raw[end - 4 : end], f"data of PDU {len(talk.pdus)}")
            talk.data_digests += 1
        talk.pdus.append(Pdu(bhs[0] & 0x3F, raw[body : body + length]))
        at = end
    return talk


def _login(raw: bytes) -> tuple[dict[str, str], int]:
    """The text keys of the login PDUs that a direction begins with, and where the first other PDU begins."""
    texts, at = b"", 0
    while at + BHS_LENGTH <= len(raw) and raw[at] & 0x3F in _LOGIN:
        length = int.from_bytes(raw[at + 5 : at + 8], "big")
        texts += raw[at + BHS_LENGTH : at + BHS_LENGTH + length]
        at += BHS_LENGTH + length + (-length & 3)
    return dict(item.decode().split("=", 1) for item in texts.split(b"\0") if item), at


def _check(covered: bytes, digest: bytes, what: str) -> None:
    if swd.crc32c(covered) != int.from_bytes(digest, "little"):
        raise BadDigest(f"{what}: {digest.hex()} is not its digest")


class Tap:
    """Relays connections to `target` one after another; `said` and `heard` belong to the last one.

    `said` is what the initiator sent, `heard` what the target answered.
    """

    def __init__(self, target: Portal) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.portal = Portal(*self._listener.getsockname())
        self.said = bytearray()
        self.heard = bytearray()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                initiator, _ = self._listener.accept()
            except OSError:
                return  # closed: the end
            target = socket.create_connection((self._target.host, self._target.port))
            self._sockets += [initiator, target]
            self.said, self.heard = bytearray(), bytearray()
            for sock in (initiator, target):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((initiator, target, self.said), (target, initiator, self.heard)):
                relay = threading.Thread(target=_relay, args=ends)
                self._threads.append(relay)
                relay.start()

    def talk(self) -> tuple[Talk, Talk]:
        """What initiator and target said so far, as the target's own answers say that it is to be read."""
        heard = bytes(self.heard)
        keys, _ = _login(heard)
        digests = {
            "header_digest": keys.get("HeaderDigest") == "CRC32C",
            "data_digest": keys.get("DataDigest") == "CRC32C",
        }
        return read(bytes(self.said), **digests), read(heard, **digests)

    def close(self) -> None:
        """Ends every connection and all threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # after this there are no new connections
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()


def _relay(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    """Until either end is gone; half a close is passed on, so that a logout ends as it would without us."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            kept += piece[: max(0, KEPT - len(kept))]
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def tapped(target: Portal) -> Iterator[Tap]:
    tap = Tap(target)
    try:
        yield tap
    finally:
        tap.close()
