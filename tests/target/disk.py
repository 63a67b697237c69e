# SPDX-License-Identifier: Apache-2.0
"""A small disk behind a scripted target: right answers to everything but what a script takes over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from target.script import Connection
from target.wire import Op, Pdu

BLOCK = 512
READ, WRITE, FLUSH, INQUIRY, READ_CAPACITY, READY = 0x28, 0x2A, 0x35, 0x12, 0x9E, 0x00
ILLEGAL_OPCODE = bytes([0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0])

Part = Callable[[Connection, Pdu], object]


class Disk:
    """`odd`: by opcode, who answers in the disk's place."""

    def __init__(self, *, blocks: int = 256, naa: int = 0x6001405AAAAAAAAAAAAAAAAAAAAAAAAA) -> None:
        self.blocks = blocks
        self.naa = naa
        self.content = bytearray(pattern(0, blocks))
        self.writes: list[int] = []  # LBAs

    def serve(self, target: Connection, odd: Mapping[int, Part] | None = None) -> None:
        """Answers until the initiator closes; pings and logouts too."""
        while True:
            pdu = target.receive()
            if pdu.opcode == Op.COMMAND:
                part = (odd or {}).get(pdu.cdb[0])
                if part is None:
                    self.answer(target, pdu)
                else:
                    part(target, pdu)
            elif pdu.opcode == Op.TASK_MANAGEMENT:
                target.send(target.task_management_response(pdu))
            elif pdu.opcode == Op.NOP_OUT and pdu.ttt == 0xFFFFFFFF:
                target.send(target.nop_in(itt=pdu.itt, data=pdu.data))
            elif pdu.opcode == Op.LOGOUT:
                target.send(target.logout_response(pdu))

    def answer(self, target: Connection, command: Pdu) -> None:
        opcode = command.cdb[0]
        if opcode == WRITE:
            self._take(target, command)
        elif opcode == READ:
            first, count = place(command)
            reply(target, command, bytes(self.content[first * BLOCK : (first + count) * BLOCK]))
        elif opcode in (READY, FLUSH):
            target.send(target.response(command))
        elif opcode == INQUIRY:
            self._inquiry(target, command)
        elif opcode == READ_CAPACITY:
            size = (self.blocks - 1).to_bytes(8, "big") + BLOCK.to_bytes(4, "big") + bytes(20)
            reply(target, command, size)
        else:
            target.send(target.response(command, 2, sense=ILLEGAL_OPCODE, residual=command.expected))

    def _inquiry(self, target: Connection, command: Pdu) -> None:
        standard = bytes([0, 0, 6, 2, 31, 0, 0, 2]) + b"EXAMPLE SCRIPTED DISK   0001"
        pages = {
            0x00: bytes([0, 0x00, 0, 2, 0x00, 0x83]),
            0x83: bytes([0, 0x83, 0, 20, 1, 3, 0, 16]) + self.naa.to_bytes(16, "big"),
        }
        reply(target, command, pages[command.cdb[2]] if command.cdb[1] & 1 else standard)

    def _take(self, target: Connection, command: Pdu) -> None:
        """All of a write by one R2T, for nothing comes unasked (see `script.ANSWERS`)."""
        first, count = place(command)
        self.writes.append(first)
        target.send(target.r2t(command, 0, command.expected))
        data = b""
        while len(data) < command.expected:
            data += target.expect(Op.DATA_OUT).data
        self.content[first * BLOCK : (first + count) * BLOCK] = data
        target.send(target.response(command))


def reply(target: Connection, command: Pdu, data: bytes) -> None:
    """All the data in one Data-In, with what is missing counted."""
    data = data[: command.expected]
    target.send(target.data_in(command, data, status=0, residual=command.expected - len(data)))


def place(command: Pdu) -> tuple[int, int]:
    """LBA and count of a READ(10) or WRITE(10)."""
    return int.from_bytes(command.cdb[2:6], "big"), int.from_bytes(command.cdb[7:9], "big")


def pattern(first: int, count: int) -> bytes:
    """Blocks that all differ, and that say which they are."""
    return b"".join((b"%08d" % lba) * (BLOCK // 8) for lba in range(first, first + count))
