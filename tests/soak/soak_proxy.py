# SPDX-License-Identifier: Apache-2.0
"""A relay of its own process that flips one byte of a data segment when it is told to.

`python soak_proxy.py PORT` relays from a free port, which it prints ("ready PORT"), to PORT of the loopback. A line
"in" (what the target sends) or "out" on standard input arms it; when the next PDU with data has been spoilt in that
direction it prints "spoilt in" or "spoilt out". Both digests are taken to be on; login PDUs are left alone.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

BHS, DIGEST = 48, 4
_LOGIN = (0x03, 0x23)


class Armed:
    """Which directions are to be spoilt once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ways: set[str] = set()

    def arm(self, way: str) -> None:
        with self._lock:
            self._ways.add(way)

    def fire(self, way: str) -> bool:
        with self._lock:
            armed = way in self._ways
            self._ways.discard(way)
        return armed


def exactly(source: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = source.recv_into(view)
        if not count:
            raise ConnectionResetError
        view = view[count:]
    return data


def pass_on(source: socket.socket, sink: socket.socket, way: str, armed: Armed) -> None:
    """PDU by PDU until either end is gone; then both are."""
    with contextlib.suppress(OSError):
        while True:
            sink.sendall(one_pdu(source, way, armed))
    for sock in (source, sink):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def one_pdu(source: socket.socket, way: str, armed: Armed) -> bytearray:
    header = exactly(source, BHS)
    length = int.from_bytes(header[5:8], "big")
    data_length = length + (-length & 3)
    if header[0] & 0x3F in _LOGIN:
        return header + exactly(source, data_length)
    rest = exactly(source, DIGEST + (data_length + DIGEST if length else 0))
    if length > BHS and armed.fire(way):
        rest[DIGEST + length // 2] ^= 0x40
        print(f"spoilt {way}", flush=True)
    return header + rest


def serve(listener: socket.socket, target: int, armed: Armed) -> None:
    while True:
        initiator, _ = listener.accept()
        try:
            onward = socket.create_connection(("127.0.0.1", target), timeout=2)
        except OSError:
            initiator.close()
            continue
        onward.settimeout(None)
        for sock in (initiator, onward):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ends in ((initiator, onward, "out"), (onward, initiator, "in")):
            threading.Thread(target=pass_on, args=(*ends, armed), daemon=True).start()


def main() -> None:
    armed = Armed()
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"ready {listener.getsockname()[1]}", flush=True)
    threading.Thread(target=serve, args=(listener, int(sys.argv[1]), armed), daemon=True).start()
    for line in sys.stdin:
        armed.arm(line.strip())


if __name__ == "__main__":
    main()
