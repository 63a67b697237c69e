# SPDX-License-Identifier: Apache-2.0
"""What a plan keeps back is bounded: beyond that the target takes nothing more from the connection, and loses nothing.

The initiator of these tests is a hostile one: it sends, and does not wait for answers.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from conftest import until
from raw_initiator import RawInitiator, read_10, write_10

from swd.proto import pdu
from swd.proto.pdu import ScsiCommand
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Plan
from swd.target.faults.connection import MOST_KEPT
from swd.values import RESERVED_TAG

NAME = "iqn.2026-01.org.example:bounds"
MIB, SEGMENT = 1 << 20, 1 << 16
LONG, SHORT = 3600.0, 0.2
MANY = 6 * MOST_KEPT  # bytes, more than the bound and the buffers of two sockets
PATTERN = b"".join(b"%07d " % number for number in range(MIB // 8))


class Asked(RamMedium):
    """It counts the bytes that were read from it."""

    asked = 0

    def read(self, offset: int, length: int) -> memoryview:
        self.asked += length
        return super().read(offset, length)


@contextmanager
def serving(*faults: Fault, queue_depth: int = 256) -> Iterator[tuple[TargetServer, Asked, RawInitiator]]:
    medium = Asked(4 * MIB)
    config = TargetConfig(NAME, {0: Lun(medium)}, queue_depth=queue_depth)
    with TargetServer([config], faults=Plan(faults)) as server:
        with RawInitiator(server.portal) as raw:
            raw.login(NAME)
            raw.ready()
            yield server, medium, raw
        until(lambda: server.statistics["sessions_open"] == 0)  # whatever it waits for, it sees that the peer has left


def settled(count: Callable[[], int]) -> int:
    """The count when it has not moved for a while."""
    before, now = -1, count()
    while now != before:
        threading.Event().wait(0.2)
        before, now = now, count()
    return now


def packed(header: pdu.Pdu, size: int) -> bytes:
    whole = bytearray(header.pack() + bytes(size))
    whole[5:8] = size.to_bytes(3, "big")
    return bytes(whole)


def flood(raw: RawInitiator, size: int) -> None:
    """Send pings that want no answer, until the target takes no more: a target without a bound would take all."""
    ping = packed(pdu.NopOut(itt=RESERVED_TAG, immediate=True), size)
    raw.sock.settimeout(0.4)
    with pytest.raises(TimeoutError):
        raw.sock.sendall(ping * (MANY // len(ping)))
    # A reset, for a FIN would wait behind all that was sent.
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_answers_that_wait_stop_the_making_of_more() -> None:
    with serving(Fault("delay", pdu="DATA_IN", nth=1, seconds=LONG)) as (_, medium, raw):
        for _ in range(MANY // MIB):
            raw.command(read_10(0, MIB // 512), expect=MIB)
        flood(raw, SEGMENT)
        assert MOST_KEPT <= medium.asked <= MOST_KEPT + MIB


@pytest.mark.parametrize("size", [0, SEGMENT], ids=["headers", "segments"])
def test_requests_that_wait_stop_the_reading_of_more(size: int) -> None:
    with serving(Fault("delay", pdu="NOP_OUT", nth=1, seconds=LONG)) as (server, _, raw):
        flood(raw, size)
        taken = settled(lambda: server.statistics["pdus_in"]["NOP_OUT"])
        assert MOST_KEPT / 8 < taken * (48 + size) <= MOST_KEPT + size


def test_every_delay_is_one_of_the_things_that_are_kept() -> None:
    with serving(Fault("delay", pdu="NOP_OUT", seconds=LONG), Fault("drop", pdu="NOP_OUT")) as (server, _, raw):
        flood(raw, 0)
        assert settled(lambda: server.statistics["faults"]["delay"]) < MOST_KEPT / 48


def test_no_answer_is_lost_by_the_bound() -> None:
    with serving(Fault("delay", pdu="DATA_IN", nth=1, seconds=SHORT)) as (server, medium, raw):
        medium.write(0, PATTERN)
        tags = [raw.command(read_10(0, MIB // 512), expect=MIB) for _ in range(MANY // MIB)]
        for tag in tags:
            assert raw.finish(tag).data == PATTERN
        assert server.statistics["faults"] == {"delay": 1}


@pytest.mark.parametrize("every", [{"nth": 1}, {"every": 100}], ids=["once", "again"])
def test_no_request_is_lost_by_the_bound(every: dict[str, int]) -> None:
    """64 KiB each, every one of its own: all end well, in their order, and the last ones are what is read."""
    with serving(Fault("delay", pdu="SCSI_COMMAND", command="WRITE", seconds=SHORT / 2, **every)) as (_, medium, raw):
        count, blocks, slots = MANY // SEGMENT, SEGMENT // 512, medium.size // SEGMENT

        def send() -> None:
            for number in range(count):
                cdb = write_10(number % slots * blocks, blocks)
                raw.command(cdb, expect=SEGMENT, immediate_data=number.to_bytes(4, "big") * (SEGMENT // 4), write=True)

        first, sender = raw.itt + 1, threading.Thread(target=send)
        sender.start()
        for tag in range(first, first + count):
            assert raw.finish(tag).status == 0
        sender.join()
        for number in range(count - slots, count):
            assert medium.read(number % slots * SEGMENT, SEGMENT) == number.to_bytes(4, "big") * (SEGMENT // 4)


def ping(raw: RawInitiator) -> pdu.NopIn:
    raw.send(pdu.NopOut(itt=raw.tag(), immediate=True, cmd_sn=raw.cmd_sn))
    answer = raw.receive().header
    assert isinstance(answer, pdu.NopIn)
    return answer


def test_a_request_is_delayed_once_and_all_keep_their_order() -> None:
    with serving(Fault("delay", pdu="NOP_OUT", every=3, seconds=0.005)) as (server, _, raw):
        tags = [raw.tag() for _ in range(50)]
        raw.sock.sendall(b"".join(packed(pdu.NopOut(itt=tag, immediate=True, cmd_sn=raw.cmd_sn), 0) for tag in tags))
        assert [raw.receive().header.itt for _ in tags] == tags  # type: ignore[attr-defined]
        assert server.statistics["faults"] == {"delay": 16}


def test_commands_that_are_kept_are_open_ones_and_fill_the_window() -> None:
    with serving(Fault("no_answer", command="READ"), queue_depth=4) as (_, _medium, raw):
        tags = [raw.command(read_10(0, 1), expect=512) for _ in range(4)]
        answer = ping(raw)
        assert answer.max_cmd_sn == answer.exp_cmd_sn - 1
        request = pdu.TaskManagementRequest(
            function=1, itt=raw.tag(), referenced_task_tag=tags[0], immediate=True, cmd_sn=raw.cmd_sn
        )
        raw.send(request)
        raw.receive()
        answer = ping(raw)
        assert answer.max_cmd_sn == answer.exp_cmd_sn


def test_immediate_commands_that_are_kept_are_counted() -> None:
    """Twice as many as the window holds, as without a plan; then TASK SET FULL."""
    with serving(Fault("no_answer", command="READ"), queue_depth=4) as (_, _medium, raw):
        tags = [raw.tag() for _ in range(9)]
        for tag in tags:
            raw.send(
                ScsiCommand(
                    itt=tag, cdb=read_10(0, 1).ljust(16, b"\0"), cmd_sn=raw.cmd_sn, immediate=True, read=True,
                    final=True, expected_data_transfer_length=512,
                )
            )  # fmt: skip
        assert raw.finish(tags[-1]).status == 0x28


def test_data_of_a_command_that_is_kept_is_no_more_than_a_first_burst() -> None:
    with serving(Fault("slow", command="WRITE", seconds=LONG)) as (server, _, raw):
        tag = raw.command(write_10(0, 512), expect=512 * 512, write=True, final=False)
        for number in range(5):
            raw.send(pdu.DataOut(itt=tag, ttt=RESERVED_TAG, data_sn=number, buffer_offset=0), bytes(SEGMENT // 4))
        assert raw.closed()
        assert server.statistics["protocol_errors"] == 1


def test_lies_of_commands_that_are_refused_are_forgotten() -> None:
    """A tag that is in use: the first command waits for its data, the others are rejected."""
    with serving(Fault("lost_write", command="WRITE")) as (server, _, raw):
        tag = raw.command(write_10(0, 1), expect=512, write=True)
        raw.receive()  # R2T
        for _ in range(20):
            raw.itt = tag - 1
            raw.command(write_10(0, 1), expect=512, write=True)
            assert isinstance(raw.receive().header, pdu.Reject)
        (connection,) = server._live()
        assert not connection.session.twists  # type: ignore[union-attr]


def test_reordered_requests_in_a_row_are_all_answered() -> None:
    """Of two that would both let the next one pass, the second is the one that passes."""
    with serving(Fault("reorder", pdu="NOP_OUT")) as (_, _, raw):
        tags = [raw.tag() for _ in range(5)]
        raw.sock.sendall(b"".join(packed(pdu.NopOut(itt=tag, immediate=True, cmd_sn=raw.cmd_sn), 0) for tag in tags))
        answered = [raw.receive()[0].itt for _ in tags]
    assert answered == [tags[1], tags[0], tags[3], tags[2], tags[4]]
