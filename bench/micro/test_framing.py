# SPDX-License-Identifier: Apache-2.0
"""PDUs: packed and unpacked in Python, as login, discovery and the target do it; and 32 reads of 4 KiB through the
engine, which is what a round trip of a full queue costs without a socket.
"""

from __future__ import annotations

from typing import Any

import pytest

from swd._crc32c import crc32c
from swd._engine import Engine
from swd.proto import pdu
from swd.values import Negotiated

LUN = bytes(8)
READ = bytes([0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0])  # READ(16), 8 blocks
DEPTH, SIZE = 32, 4096
COMMAND = pdu.ScsiCommand(itt=7, read=True, expected_data_transfer_length=SIZE, cmd_sn=3, cdb=READ)


def test_pack(benchmark: Any) -> None:
    assert len(benchmark(COMMAND.pack)) == 48


def test_unpack(benchmark: Any) -> None:
    assert benchmark(pdu.ScsiCommand.unpack, COMMAND.pack()) == COMMAND


class Queue:
    """An engine, and a target that answers each read with one Data-In that has the status in it."""

    def __init__(self, digests: bool) -> None:
        self.digests, self.stat_sn, self.cmd_sn = digests, 1, 1
        agreed = Negotiated(header_digest=digests, data_digest=digests, max_cmd_sn=1 << 20, exp_stat_sn=1)
        self.engine = Engine(agreed, slots=256)
        self.buffers = [bytearray(SIZE) for _ in range(DEPTH)]

    def send(self) -> list[int]:
        """Submit a full queue and take its bytes."""
        itts = [self.engine.submit(LUN, READ, None, buffer) for buffer in self.buffers]
        assert len(self.engine.output()) == DEPTH * (48 + 4 * self.digests)
        return itts

    def answers(self, itts: list[int]) -> bytes:
        pieces, data = [], bytes(SIZE)
        for itt in itts:
            head = pdu.DataIn(
                itt=itt,
                status_present=True,
                stat_sn=self.stat_sn,
                exp_cmd_sn=self.cmd_sn,
                max_cmd_sn=(1 << 20) + self.cmd_sn,
                data_segment_length=SIZE,
            ).pack()
            self.stat_sn += 1
            pieces.append(head + (crc32c(head).to_bytes(4, "little") if self.digests else b""))
            pieces.append(data + (crc32c(data).to_bytes(4, "little") if self.digests else b""))
        return b"".join(pieces)

    def ready(self) -> tuple[tuple[bytes], dict[str, Any]]:
        itts = self.send()
        self.cmd_sn += DEPTH
        return (self.answers(itts),), {}

    def take(self, data: bytes) -> int:
        self.engine.feed(data)
        return len(self.engine.completions())


@pytest.mark.parametrize("digests", [False, True], ids=["plain", "digests"])
def test_the_engine_takes_32_answers(benchmark: Any, digests: bool) -> None:
    queue = Queue(digests)
    assert benchmark.pedantic(queue.take, setup=queue.ready, rounds=300) == DEPTH


def test_the_engine_sends_32_commands(benchmark: Any) -> None:
    def ready() -> tuple[tuple[Queue], dict[str, Any]]:
        return (Queue(False),), {}

    assert len(benchmark.pedantic(Queue.send, setup=ready, rounds=100)) == DEPTH
