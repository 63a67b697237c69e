# SPDX-License-Identifier: Apache-2.0
"""Frames between us and the child that runs a reader library: one byte of kind, four of length, the payload.

Both sides use this module, and neither believes the other: every length has a limit, and what is said in words is
JSON. Nothing that arrives can name a class or a function.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final

HEAD: Final = struct.Struct(">cI")
RANGE: Final = struct.Struct(">QI")  # offset and length of a block request

CALL: Final = b"C"  # to the child: an operation and its arguments, JSON
REPLY: Final = b"R"  # from the child: its answer, JSON
DATA: Final = b"D"  # from the child: its answer, bytes of a file
ERROR: Final = b"E"  # from the child: it could not; JSON
WANT: Final = b"W"  # from the child: a range of the disk
BLOCK: Final = b"B"  # to the child: that range
FAILED: Final = b"F"  # to the child: that range could not be read

LARGEST: Final = 1 << 20  # bytes of a frame's payload


class Broken(Exception):
    """The other side is gone, or says what makes no sense."""


class Channel:
    """Frames over a stream socket. `socket.timeout` passes through."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, kind: bytes, payload: bytes) -> None:
        try:
            self.sock.sendall(HEAD.pack(kind, len(payload)) + payload)
        except TimeoutError:
            raise
        except OSError as error:
            raise Broken(str(error)) from error

    def say(self, kind: bytes, words: object) -> None:
        """JSON; a str may carry bytes that are no UTF-8 as lone surrogates (PEP 383)."""
        self.send(kind, json.dumps(words).encode("ascii"))

    def receive(self) -> tuple[bytes, bytes]:
        kind, length = HEAD.unpack(self._exactly(HEAD.size))
        if length > LARGEST:
            raise Broken(f"a frame of {length} bytes")
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        parts, missing = [], length
        while missing:
            try:
                part = self.sock.recv(missing)
            except TimeoutError:
                raise
            except OSError as error:
                raise Broken(str(error)) from error
            if not part:
                raise Broken("the socket was closed")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def words(payload: bytes) -> Any:
    """The JSON of a frame. Raises Broken."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Broken("no JSON") from error
