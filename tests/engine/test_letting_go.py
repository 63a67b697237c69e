# SPDX-License-Identifier: Apache-2.0
"""A task that nobody waits for any more: its buffer is free at once, and the connection goes on."""

from __future__ import annotations

import random

import pytest
from engine_hand import Hand
from engine_rig import LUN, READ, TEST_UNIT_READY, Guarded
from model import wire

DATA = random.Random(11).randbytes(8192)


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("at", [0, 1, 47, 48, 52, 53, 60, 500, 1000, 1052, 1060, 1075, 1076, 1100])
def test_in_the_middle_of_its_data(at: int, digest: bool) -> None:
    """Wherever the stream stands, not a byte more goes into the buffer; the rest is read over and checked."""
    hand = Hand(header_digest=digest, data_digest=digest)
    itt, other = hand.read(2048), hand.read(4)
    stream = hand.frame(
        hand.data_in(itt, DATA[:1024], flags=0),
        hand.data_in(itt, DATA[1024:2048], 1024, 1, status=True),
        hand.data_in(other, b"next", status=True),
    )
    hand.engine.feed(stream[:at])
    hand.engine.let_go(itt)
    hand.buffers[itt].view[:] = b"\x55" * 2048
    hand.engine.feed(stream[at:])
    assert hand.buffers[itt].view == b"\x55" * 2048
    assert hand.buffers[itt].intact()
    assert list(hand.ended()) == [other]
    assert hand.buffers[other].view == b"next"
    assert hand.engine.statistics()["open_tasks"] == 0


def test_its_data_are_still_judged() -> None:
    hand = Hand()
    itt = hand.read(2048)
    hand.engine.let_go(itt)
    hand.refuses(hand.data_in(itt, DATA[:1024], 512), match="expected offset 0")


def test_a_buffer_can_be_resized_after_it_and_not_before() -> None:
    hand = Hand()
    buffer = bytearray(512)
    itt = hand.engine.submit(LUN, READ, None, buffer)
    with pytest.raises(BufferError):
        buffer += b"x"
    hand.sent()
    hand.engine.let_go(itt)
    buffer += b"x"
    hand.feed(hand.data_in(itt, DATA[:512], status=True))
    assert buffer == bytes(512) + b"x"


def test_before_it_was_sent() -> None:
    hand = Hand(max_cmd_sn=9)
    itt = hand.engine.submit(LUN, READ, None, Guarded(512).view)
    later = hand.engine.submit(LUN, TEST_UNIT_READY)
    hand.engine.let_go(itt)
    hand.max_cmd_sn = 20
    hand.feed(hand.ping())
    assert [(made.itt, made.number_24) for made in hand.sent()] == [(later, 10)]


def test_after_it_has_ended() -> None:
    hand = Hand()
    itt = hand.read(4)
    hand.feed(hand.data_in(itt, b"done", status=True))
    hand.engine.let_go(itt)
    assert hand.ended() == {}
    with pytest.raises(KeyError):
        hand.engine.let_go(itt)


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("cut", [0, 10, 48, 60, 700, 1072, 1100, 2000])
def test_a_write_still_sends_what_it_had(cut: int, digest: bool) -> None:
    """Data that is queued, and data that R2Ts ask for later, is that of the moment when the caller gave up."""
    hand = Hand(initial_r2t=False, header_digest=digest, data_digest=digest)
    buffer = bytearray(DATA)
    itt = hand.write(buffer)
    pdus = hand.splitter.take(hand.engine.output(cut))
    hand.engine.let_go(itt)
    buffer[:] = b"\x55" * len(buffer)
    buffer += b"free"
    pdus += hand.sent()
    hand.exp_cmd_sn = 11
    hand.feed(hand.r2t(itt, 2048, 4096, 0))
    pdus += hand.sent()
    hand.feed(hand.r2t(itt, 6144, 2048, 1, ttt=8))
    pdus += hand.sent()
    assert b"".join(made.data for made in pdus) == DATA, "as it was, also where the digests were reckoned before"
    hand.feed(hand.response(itt))
    assert hand.ended() == {}
    assert hand.engine.statistics()["open_tasks"] == 0


def test_a_write_that_has_ended_with_data_in_the_queue() -> None:
    """The target failed it early; what stands in the queue still has to go out whole, from a copy."""
    hand = Hand(data_digest=True)
    buffer = bytearray(DATA[:1024])
    itt = hand.write(buffer)
    hand.splitter.take(hand.engine.output(100))
    hand.feed(hand.response(itt, byte3=2))
    assert hand.ended() == {}, "its buffer is still in use"
    hand.engine.let_go(itt)
    buffer[:] = b"\x55" * 1024
    (made,) = hand.sent()
    assert made.data == DATA[:1024]
    assert hand.ended() == {}
    assert hand.engine.statistics()["open_tasks"] == 0


def test_a_write_ends_for_its_caller_only_when_its_buffer_is_free() -> None:
    hand = Hand()
    itt = hand.write(bytes(DATA[:1024]))
    hand.splitter.take(hand.engine.output(100))
    hand.feed(hand.response(itt, byte3=2))
    assert hand.ended() == {}
    hand.sent()
    assert hand.ended()[itt].status == 2


def test_a_request_of_another_kind() -> None:
    hand = Hand()
    itt = hand.engine.control(bytes(wire.pdu(wire.NOP_OUT).bhs), b"ping", answer=wire.NOP_IN)
    hand.engine.let_go(itt)
    (made,) = hand.sent()
    assert made.data == b"ping"
    hand.feed(hand.made(wire.NOP_IN, status=True, itt=itt, data=b"ping"))
    assert hand.engine.completions() == []
    assert hand.engine.statistics()["open_tasks"] == 0
