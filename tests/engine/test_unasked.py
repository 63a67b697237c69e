# SPDX-License-Identifier: Apache-2.0
"""What a target sends of its own accord: pings, events, floods of them, and bytes that are no PDUs at all."""

from __future__ import annotations

import random

import pytest
from engine_hand import Hand
from engine_rig import LUN, READ, WRITE, Guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from model import wire
from model.wire import RESERVED

from swd.errors import SwdError
from swd.values import Event


def test_a_ping_is_answered_with_its_tag_and_lun() -> None:
    hand = Hand()
    hand.feed(hand.ping(7, LUN), hand.ping(), hand.ping(9))
    sent = hand.sent()
    assert [(made.opcode, made.immediate, made.flags, made.itt) for made in sent] == [
        (wire.NOP_OUT, True, wire.FINAL, RESERVED)
    ] * 2
    assert [(made.ttt, made.lun) for made in sent] == [(7, LUN), (9, bytes(8))]
    assert [made.number_24 for made in sent] == [10, 10]
    assert [made.number_28 for made in sent] == [100, 100], "a ping of the target's uses no StatSN up"


def test_pings_never_run_out_while_they_are_answered() -> None:
    hand = Hand()
    for n in range(100):
        hand.feed(*(hand.ping(n * 32 + m) for m in range(32)))
        assert [made.ttt for made in hand.sent()] == [n * 32 + m for m in range(32)]
    assert hand.engine.statistics()["nop_ins"] == 3200


def test_events_are_handed_out_once_and_whole() -> None:
    hand = Hand()
    message = hand.made(wire.ASYNC, status=True, itt=RESERVED, data=b"sense" * 4)
    rejection = hand.made(wire.REJECT, status=True, byte2=4, itt=RESERVED, data=bytes(48))
    hand.feed(message, rejection)
    assert hand.engine.take_events() == [
        Event(wire.ASYNC, bytes(message.bhs), b"sense" * 4),
        Event(wire.REJECT, bytes(rejection.bhs), bytes(48)),
    ]
    assert hand.engine.take_events() == []
    assert hand.engine.leftover().exp_stat_sn == 102


def test_events_that_are_taken_make_room_for_others() -> None:
    hand = Hand()
    for _ in range(3):
        hand.feed(*(hand.made(wire.ASYNC, status=True, itt=RESERVED) for _ in range(64)))
        assert len(hand.engine.take_events()) == 64


def busy_hand(*, digests: bool) -> Hand:
    """A connection with reads, writes and requests under way."""
    hand = Hand(header_digest=digests, data_digest=digests, initial_r2t=False, max_outstanding_r2t=4)
    for length in (1, 700, 3000):
        guarded = Guarded(length)
        hand.buffers[hand.engine.submit(LUN, READ, None, guarded.view)] = guarded
    hand.engine.submit(LUN, WRITE, bytes(9000))
    hand.engine.control(bytes(wire.pdu(wire.NOP_OUT).bhs), answer=wire.NOP_IN)
    hand.sent()
    return hand


def survives(hand: Hand, data: bytes) -> None:
    """Feeds it; the only thing that may happen is an SwdError, and what is kept stays bounded."""
    for at in range(0, len(data), 999):
        try:
            hand.engine.feed(data[at : at + 999])
        except SwdError:
            break
        hand.sent()
        hand.engine.completions()
        hand.engine.take_events()
    assert all(guarded.intact() for guarded in hand.buffers.values())
    assert hand.engine.statistics()["open_tasks"] <= 5
    assert len(hand.engine.leftover().tasks) <= 4


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=6000), st.booleans())
def test_arbitrary_bytes(data: bytes, digests: bool) -> None:
    survives(busy_hand(digests=digests), data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, (1 << 32) - 1))
def test_headers_that_are_nearly_right(seed: int) -> None:
    """Headers of real opcodes, real tags and small numbers, at random: they get much further than arbitrary bytes."""
    rng = random.Random(seed)
    hand = busy_hand(digests=False)
    tags = [*(task.itt for task in hand.engine.leftover().tasks), RESERVED, 0]
    opcodes = [wire.DATA_IN, wire.SCSI_RESPONSE, wire.R2T, wire.NOP_IN, wire.ASYNC, wire.REJECT, wire.TEXT_ANSWER]
    small = [0, 0, 0, 1, 512, 2048, 0xFFFFFFFF]
    for _ in range(20):
        numbers = {name: rng.choice(small) for name in ("ttt", "n28", "n32", "n36", "n40", "n44")}
        numbers |= {"itt": rng.choice(tags), "n24": hand.stat_sn, "byte3": rng.choice([0, 0, 2])}
        opcode = rng.choice(opcodes)
        data = rng.randbytes(rng.choice([0, 0, 1, 512, 1024])) if opcode != wire.R2T else b""
        made = wire.pdu(opcode, rng.choice([0x80, 0x80, 0x81, 0x83, 0x82, 0]), data=data, **numbers)
        survives(hand, hand.frame(made))
        hand.stat_sn = hand.engine.leftover().exp_stat_sn
        if hand.engine.fault:
            return


@pytest.mark.parametrize("opcode", range(64))
@pytest.mark.parametrize("length", [0, 4, 1024])
def test_every_opcode(opcode: int, length: int) -> None:
    hand = busy_hand(digests=True)
    made = wire.pdu(opcode, data=bytes(length), itt=RESERVED, ttt=RESERVED, n24=100)
    survives(hand, hand.frame(made))
    assert (hand.engine.fault is None) == (opcode in (wire.NOP_IN, wire.ASYNC, wire.REJECT))
