# SPDX-License-Identifier: Apache-2.0
"""A pump over a socket pair, and at the other end a thread that plays the target by a script."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from swd._engine import Engine
from swd._fastpath import Pump
from swd.proto import pdu
from swd.proto.pdu import BHS_LENGTH
from swd.values import RESERVED_TAG, Event, Negotiated

BLOCK = 512
SLOWER = float(os.environ.get("SWD_TEST_SLOWER", "1"))  # as support.pace, which the children of tests do not find
PATIENCE = 20.0 * SLOWER  # seconds that a peer waits before the test has failed
CANARY = b"\x55"
TEST_UNIT_READY = bytes(6)
READ_ONE = bytes.fromhex("28 00 00000007 00 0001 00")  # block 7
AGREED = Negotiated(
    max_cmd_sn=1 << 20,
    max_recv_data_segment_length=1 << 20,
    target_max_recv_data_segment_length=65536,
    max_burst_length=1 << 24,
    first_burst_length=65536,
    max_outstanding_r2t=4,
)


def block(lba: int) -> bytes:
    """What stands in a block: its number, again and again."""
    return struct.pack(">Q", lba) * (BLOCK // 8)


def content(lba: int, blocks: int) -> bytes:
    return b"".join(map(block, range(lba, lba + blocks)))


def place(command: pdu.ScsiCommand) -> tuple[int, int]:
    """(LBA, blocks) of a READ or WRITE of 10 or 16 bytes."""
    layout = ">xxQLxx" if command.cdb[0] in (0x88, 0x8A) else ">xxLxHxxxxxxx"
    lba, blocks = struct.unpack(layout, command.cdb)
    return lba, blocks


class Peer:
    """The target's end: `receive` and `send` whole PDUs; numbers are filled in."""

    def __init__(self, sock: socket.socket, agreed: Negotiated) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.file = sock.makefile("rb")
        self.agreed = agreed
        self.stat_sn = agreed.exp_stat_sn
        self.later: list[tuple[pdu.Pdu, bytes]] = []  # came while a write was taken
        self.disk: dict[int, bytes] = {}  # what was written: LBA of the command, bytes

    def play(self, script: Callable[[Peer], object]) -> None:
        """Runs a script; where it goes wrong, the connection ends at once, and nobody waits in vain."""
        try:
            script(self)
        except BaseException:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            raise

    def receive(self) -> tuple[pdu.Pdu, bytes] | None:
        """The next PDU and its data; None at the end of the stream."""
        return self.later.pop(0) if self.later else self.read()

    def read(self) -> tuple[pdu.Pdu, bytes] | None:
        bhs = self.file.read(BHS_LENGTH)
        if len(bhs) < BHS_LENGTH:
            return None
        record = pdu.unpack(bhs)
        data = self.file.read(record.data_segment_length + (-record.data_segment_length & 3))
        return record, data[: record.data_segment_length]

    def command(self) -> pdu.ScsiCommand:
        """The next PDU, which must be a SCSI Command."""
        received = self.receive()
        assert received is not None
        assert isinstance(received[0], pdu.ScsiCommand), received
        return received[0]

    def packed(self, record: pdu.Pdu, data: bytes = b"") -> bytes:
        """The bytes of a PDU with the target's next numbers."""
        numbers = {"stat_sn": self.stat_sn, "exp_cmd_sn": 1, "max_cmd_sn": self.agreed.max_cmd_sn}
        record = dataclasses.replace(record, data_segment_length=len(data), **numbers)  # type: ignore[arg-type]
        uses_one = getattr(record, "status_present", True) and not isinstance(record, pdu.R2T)
        if uses_one and not (isinstance(record, pdu.NopIn) and record.itt == RESERVED_TAG):
            self.stat_sn += 1
        return record.pack() + pdu.padded(data)

    def send(self, record: pdu.Pdu, data: bytes = b"") -> None:
        self.sock.sendall(self.packed(record, data))

    def good(self, command: pdu.ScsiCommand) -> None:
        self.send(pdu.ScsiResponse(itt=command.itt))

    def answer(self, command: pdu.ScsiCommand) -> None:
        """A read in one Data-In with its status."""
        self.sock.sendall(self.packed(pdu.DataIn(itt=command.itt, status_present=True), content(*place(command))))

    def take(self, command: pdu.ScsiCommand, immediate: bytes) -> None:
        """A write: asks for all that is missing at once, puts it together, ends it."""
        data = bytearray(immediate)
        missing = command.expected_data_transfer_length - len(data)
        if missing:
            self.send(pdu.R2T(itt=command.itt, ttt=9, buffer_offset=len(data), desired_data_transfer_length=missing))
        while len(data) < command.expected_data_transfer_length:
            received = self.read()
            assert received is not None
            record, part = received
            if not isinstance(record, pdu.DataOut):
                self.later.append(received)
                continue
            assert record.itt == command.itt
            assert record.buffer_offset == len(data)
            data += part
        self.disk[place(command)[0]] = bytes(data)
        self.good(command)

    def serve(self) -> None:
        """Answers whatever comes, until the initiator hangs up."""
        with contextlib.suppress(ConnectionError):
            self.serve_all()

    def serve_all(self) -> None:
        while (received := self.receive()) is not None:
            record, data = received
            if isinstance(record, pdu.NopOut):
                if record.itt != RESERVED_TAG:
                    self.send(pdu.NopIn(itt=record.itt), data)
            elif isinstance(record, pdu.ScsiCommand) and record.write:
                self.take(record, data)
            elif isinstance(record, pdu.ScsiCommand) and record.read:
                self.answer(record)
            elif isinstance(record, pdu.ScsiCommand):
                self.good(record)

    def serve_reads(self, count: int) -> None:
        """`count` reads of one block, many to a system call: parsed and answered without the records."""
        rest = b""
        while count:
            rest += self.sock.recv(1 << 20)
            out = []
            for at in range(0, len(rest) - BHS_LENGTH + 1, BHS_LENGTH):
                (itt, lba) = struct.unpack_from(">16xL14xL", rest, at)
                out.append(struct.pack(">BBxxL8xLLLLLLL4x", 0x25, 0x81, BLOCK, itt, RESERVED_TAG, self.stat_sn, 1,
                                       self.agreed.max_cmd_sn, 0, 0) + block(lba))  # fmt: skip
                self.stat_sn += 1
            rest = rest[len(out) * BHS_LENGTH :]
            count -= len(out)
            self.sock.sendall(b"".join(out))


class Played(threading.Thread):
    """Runs a script; what goes wrong in it is raised by `join`."""

    def __init__(self, script: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.script = script
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.script()
        except BaseException as error:  # noqa: BLE001  # `join` raises it
            self.error = error

    def join(self, timeout: float | None = PATIENCE) -> None:
        super().join(timeout)
        assert not self.is_alive(), "the thread does not end"
        if self.error is not None:
            raise self.error


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets of the loopback that send at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


@contextlib.contextmanager
def connected(
    script: Callable[[Peer], object],
    *,
    on_event: Callable[[Event], object] | None = None,
    slots: int = 256,
    tcp: bool = False,
    spin: float = 0.0,
    coalesce: bool = True,
    **changes: object,
) -> Iterator[tuple[Pump, Peer]]:
    """A pump and its peer, who plays `script` in a thread; at the end both are closed, and the script ended well.

    `tcp`: over the loopback, where a low-water mark means something, instead of a socket pair.
    """
    agreed = dataclasses.replace(AGREED, **changes)  # type: ignore[arg-type]
    ours, theirs = tcp_pair() if tcp else socket.socketpair()
    peer = Peer(theirs, agreed)
    pump = Pump(Engine(agreed, slots=slots), ours.detach(), on_event, spin=spin, coalesce=coalesce)
    played = Played(lambda: peer.play(script))
    try:
        yield pump, peer
    finally:
        pump.close()
        try:
            played.join()
        finally:
            peer.file.close()
            theirs.close()
