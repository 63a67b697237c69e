# SPDX-License-Identifier: Apache-2.0
"""A relay before any target, which spoils what that target says by the same fault plans: the kinds of the wire.

PDUs of the initiator go through as they are (and are looked at, so that conditions on commands hold); those of the
target are taken apart, judged, and put together again with digests of their own.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from swd.proto import pdu as _pdu
from swd.target.faults import Fault, Injector, Plan
from swd.target.faults.answers import Context
from swd.target.faults.judge import Judge
from swd.target.faults.sending import End, PlannedOutbox, Sending, keys_of

_DIGEST = 4
_PARTING = 5.0  # seconds that a target has for its last words


class _Link:
    """One connection of an initiator, and the one behind it."""

    def __init__(self, initiator: socket.socket, port: int, injector: Injector, *, gentle: bool = False) -> None:
        self._initiator = initiator
        self._gentle = gentle
        self._target = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._target.settimeout(None)
        for sock in (self._initiator, self._target):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._injector = injector
        self._lock = threading.RLock()  # guards the outbox
        self._keys = {"MaxBurstLength": "262144", "MaxOutstandingR2T": "1"}
        self._digests = False
        self._deaf = threading.Event()
        self._over = threading.Event()
        self._ttt = itertools.count(0xF0000000)
        self._judge = Judge(injector, lambda: "full_feature", lambda _fault: self._deaf.set())
        self._outbox = PlannedOutbox(Counter(), self)

    def run(self) -> None:
        """Until either end is gone; then both are."""
        down = threading.Thread(target=self._guarded, args=(self._down,), daemon=True)
        down.start()
        self._guarded(self._up)
        down.join()
        self._initiator.close()
        if self._gentle:
            self._hear_out()
        self._target.close()

    def drop(self) -> None:
        self._over.set()
        to_target = socket.SHUT_WR if self._gentle else socket.SHUT_RDWR
        for sock, way in ((self._initiator, socket.SHUT_RDWR), (self._target, to_target)):
            with contextlib.suppress(OSError):
                sock.shutdown(way)

    def _hear_out(self) -> None:
        """The target has got a FIN, and what it still says is taken. Who closes a connection with words unread resets
        it, and the user-mode network of qemu, behind which LIO is, aborts on a reset that comes while its buffer is
        full (libslirp 4.7, `soread`).
        """
        deadline = time.monotonic() + _PARTING
        with contextlib.suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self._target.settimeout(left)
                if not self._target.recv(1 << 16):
                    break

    def _guarded(self, way: Callable[[], None]) -> None:
        try:
            way()
        except (OSError, ValueError):
            pass  # either end is gone, or its socket was closed under our hands
        finally:
            self.drop()

    def _up(self) -> None:
        while True:
            header = self._exactly(self._initiator, 48)
            rest = self._rest(self._initiator, header)
            for fault in self._injector.due("wire", self._judge.came(bytes(header))):
                self._injector.injected(fault)
                if fault.kind.name == "stop_reading":
                    self._deaf.set()
                elif fault.kind.name != "drop":
                    self.end("reset" if fault.kind.name == "poison" else fault.kind.name)  # type: ignore[arg-type]
            if self._deaf.is_set():
                self._over.wait()
            self._target.sendall(header + rest)

    def _down(self) -> None:
        while True:
            header = self._exactly(self._target, 48)
            rest = self._rest(self._target, header)
            length = int.from_bytes(header[5:8], "big")
            data = rest[_DIGEST * self._digests :][:length]
            record = _pdu.unpack(bytes(header))
            with self._lock:
                self._outbox.put(record, data)
                if isinstance(record, _pdu.LoginResponse):
                    self._learn(record, data)  # before the initiator does: its next PDU may have digests
                self._flush()

    def _learn(self, record: _pdu.LoginResponse, data: bytes) -> None:
        self._keys.update(keys_of(data))
        if record.transit and record.nsg == 3:
            self._digests = self._keys.get("HeaderDigest") == "CRC32C"  # both, or neither: see soak_targets
            self._outbox.header_digest = self._outbox.data_digest = self._digests

    def _flush(self) -> None:
        while self._outbox.size:
            pieces = self._outbox.pending()
            self._initiator.sendall(b"".join(pieces))
            self._outbox.sent(sum(map(len, pieces)))

    def _rest(self, sock: socket.socket, header: bytes) -> bytes:
        """What follows a header: its digest, the data, and theirs."""
        length = int.from_bytes(header[5:8], "big")
        with_digests = self._digests and header[0] & 0x3F not in (0x03, 0x23)
        padded = length + -length % 4
        return self._exactly(sock, with_digests * _DIGEST + padded + (with_digests and bool(length)) * _DIGEST)

    def _exactly(self, sock: socket.socket, count: int) -> bytes:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            self._await(sock)
            taken = sock.recv_into(view)
            if not taken:
                raise ConnectionResetError
            view = view[taken:]
        return bytes(data)

    def _await(self, sock: socket.socket) -> None:
        """Until there is something to read. Not in `recv`: a socket that a thread waits in is not reset by `close`."""
        while not self._over.is_set():
            waiter = select.poll()
            waiter.register(sock, select.POLLIN)
            if waiter.poll(20):
                return
        raise ConnectionResetError

    # --- what the outbox asks ----------------------------------------------------------------------------------------

    def judged(self, pdu: _pdu.Pdu, data: Any) -> Sending:
        return self._judge.judged(pdu, data, self._context)

    def _context(self, expected: int, max_cmd_sn: int | None) -> Context:
        agreed: Any = SimpleNamespace(
            max_burst_length=int(self._keys["MaxBurstLength"]),
            max_outstanding_r2t=int(self._keys["MaxOutstandingR2T"]),
        )
        random_bytes = self._injector.random_bytes
        return Context(
            self._digests, self._digests, agreed, expected, max_cmd_sn, random_bytes, lambda: next(self._ttt)
        )

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        def now() -> None:
            with self._lock, contextlib.suppress(OSError):
                action()
                self._flush()

        self._injector.later(seconds, now)

    def end(self, how: End) -> None:
        if how == "silence":
            self._outbox.close()
            return
        if how == "reset":
            self._initiator.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._over.set()
            self._initiator.close()
        else:
            self._flush()
        raise ConnectionResetError


class Meddler:
    """Relays from a free port of the loopback, `port`, to `target`. Plans and counts are as of `IscsiTarget`. `gentle`:
    no connection to the target is reset.
    """

    def __init__(self, target: int, *, gentle: bool = False) -> None:
        self._target = target
        self._gentle = gentle
        self._injector = Injector(Plan())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set_plan(self, *faults: Any, seed: int = 0) -> None:
        chosen = faults[0] if len(faults) == 1 and not isinstance(faults[0], Fault) else faults
        self._injector.replace(Plan(chosen, seed))

    def wait_for_fault(self, kind: str, count: int, timeout: float) -> None:
        assert self._injector.wait_for(kind, count, timeout), f"{kind} did not strike within {timeout:g} s"

    @property
    def faults_seen(self) -> dict[str, int]:
        return self._injector.counts

    def close(self) -> None:
        self._injector.stop()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                initiator, _ = self._listener.accept()
                try:
                    link = _Link(initiator, self._target, self._injector, gentle=self._gentle)
                except OSError:
                    initiator.close()
                else:
                    threading.Thread(target=link.run, daemon=True).start()
