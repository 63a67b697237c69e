# SPDX-License-Identifier: Apache-2.0
"""Tracing: while a `Trace` is on, every iSCSI connection of the process leaves its bytes in a capture file.

Login passes through Python and is written at once, the values of CHAP_R and CHAP_C masked (same length, so that it
decodes). The full-feature phase is recorded in C on the pump's tape and written when that is half full, when the
connection ends, and at the end of the trace. A connection that is older than the trace shows from its next PDU on.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from typing import IO, TYPE_CHECKING, Protocol

from swd._fastpath import Pump
from swd.errors import DeviceBusy, SwdError
from swd.iscsi.pcap import HEADER, Conversation, Ends
from swd.proto.pdu import BHS_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

_RECORD = struct.Struct("=dQIHH")  # as _watch.h has it
_SECRETS = re.compile(rb"(CHAP_[RC]=(?:0[xXbB])?)([^\0]*)")


class Traced(Protocol):
    def trace(self, trace: Trace | None) -> None: ...


class Trace:
    """A capture file that is being written. Use `start` and `stop`."""

    def __init__(self, path: str, *, with_chap: bool) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: IO[bytes] = os.fdopen(fd, "wb", buffering=0)  # a forked child has nothing to flush
        self._file.write(HEADER)
        self._lock = threading.Lock()
        self._epoch = time.time() - time.monotonic()
        self.with_chap = with_chap
        self.lost = 0

    def write(self, packets: Iterable[bytes]) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(b"".join(packets))

    def wall(self, monotonic: float) -> float:
        return self._epoch + monotonic

    def close(self) -> None:
        with self._lock:
            self._file.close()


def _in_child() -> None:
    """The trace is the parent's."""
    global _current
    _current = None


class Tap:
    """What a trace sees of one connection."""

    def __init__(self, trace: Trace, sock: socket.socket) -> None:
        self._trace = trace
        self._talk = Conversation(_ends(sock))
        self._login = {True: _Masker(trace.with_chap), False: _Masker(trace.with_chap)}
        self._seen = {True: 0, False: 0}  # bytes of the full-feature phase, each way
        trace.write(self._talk.begin(time.time()))

    def login(self, out: bool, data: bytes) -> None:
        """Bytes of the login phase, as they were sent or came."""
        for pdu in self._login[out].feed(data):
            self._trace.write(self._talk.data(time.time(), out, pdu))

    def record(self, at: float, out: bool, offset: int, data: bytes) -> None:
        """A record of the tape."""
        gap, self._seen[out] = offset - self._seen[out], offset + len(data)
        self._trace.write(self._talk.data(self._trace.wall(at), out, data, gap))

    def end(self) -> None:
        for out, masker in self._login.items():
            self._trace.write(self._talk.data(time.time(), out, masker.rest()))
        self._trace.write(self._talk.end(time.time()))


class _Masker:
    """Puts PDUs together, and hides what CHAP's answers and challenges are. A pair may run over several PDUs."""

    def __init__(self, with_chap: bool) -> None:
        self._plain = with_chap
        self._bytes = bytearray()
        self._begun = b""  # of a pair that the next PDU goes on with

    def feed(self, data: bytes) -> Iterable[bytes]:
        self._bytes += data
        while len(self._bytes) >= BHS_LENGTH:
            length = int.from_bytes(self._bytes[5:8], "big")
            whole = BHS_LENGTH + 4 * self._bytes[4] + length + (-length & 3)
            if len(self._bytes) < whole:
                return
            pdu, self._bytes = bytes(self._bytes[:whole]), self._bytes[whole:]
            yield pdu if self._plain else self._masked(pdu, BHS_LENGTH + 4 * pdu[4], length)

    def _masked(self, pdu: bytes, start: int, length: int) -> bytes:
        text = self._begun + pdu[start : start + length]
        hidden = _SECRETS.sub(lambda found: found[1] + b"*" * len(found[2]), text)[len(self._begun) :]
        self._begun = text[text.rfind(b"\0") + 1 :]
        return pdu[:start] + hidden + pdu[start + length :]

    def rest(self) -> bytes:
        """Part of a PDU: the header alone, for what follows cannot be judged."""
        return bytes(self._bytes if self._plain else self._bytes[:BHS_LENGTH])


class Recorder:
    """The tape of one session's pump, over all its connections, and the taps that its records go to."""

    def __init__(self, trace: Trace, pump: Pump, tap: Tap | None) -> None:
        self._trace = trace
        self._pump = pump
        self._lock = threading.Lock()
        self._taps: list[Tap | None] = [tap]
        self._first: int | None = None  # connection number of _taps[0]
        pump.begin_tape(self.drain)

    def next_connection(self, tap: Tap | None) -> None:
        """The session has come back, on a connection with this tap."""
        with self._lock:
            self._taps.append(tap)
        self.drain()

    def drain(self, *, last: bool = False) -> None:
        """Writes what the tape holds."""
        with self._lock:
            data, lost = self._pump.take_tape(last=last)
            self._trace.lost += lost
            at = 0
            while at < len(data):
                moment, offset, length, out, connection = _RECORD.unpack_from(data, at)
                at += _RECORD.size + length
                tap = self._tap(connection)
                if tap is not None:
                    tap.record(moment, bool(out), offset, data[at - length : at])

    def _tap(self, connection: int) -> Tap | None:
        if self._first is None:
            self._first = connection
        number = connection - self._first
        return self._taps[number] if number < len(self._taps) else None

    def end(self) -> None:
        self.drain(last=True)
        for tap in self._taps:
            if tap is not None:
                tap.end()


def _ends(sock: socket.socket) -> Ends:
    ours, theirs = sock.getsockname(), sock.getpeername()
    if len(ours) < 2 or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return Ends("127.0.0.1", 1, "127.0.0.1", 3260)  # a socket pair, in tests
    return Ends(ours[0], ours[1], theirs[0], theirs[1])


_lock = threading.Lock()
_current: Trace | None = None
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def current() -> Trace | None:
    return _current


def tap_for(sock: socket.socket) -> Tap | None:
    """A tap for a connection that has just been made, if a trace is on."""
    trace = _current
    return None if trace is None else Tap(trace, sock)


def start(path: str, sessions: Iterable[Traced], *, with_chap: bool = False) -> Trace:
    """Begins to trace this process into a new file (0600). DeviceBusy if a trace is on, SwdError if the file cannot
    be made.
    """
    global _current
    with _lock:
        if _current is not None:
            raise DeviceBusy("this process is being traced already: end that trace first")
        try:
            _current = Trace(path, with_chap=with_chap)
        except OSError as error:
            raise SwdError(f"cannot write the trace {path}: {error.strerror}", errno=error.errno) from error
        for session in sessions:
            session.trace(_current)
        return _current


def stop(sessions: Iterable[Traced]) -> int:
    """Ends the trace; returns how many bytes it lacks."""
    global _current
    with _lock:
        trace, _current = _current, None
        if trace is None:
            return 0
        for session in sessions:
            session.trace(None)
        trace.close()
        return trace.lost
