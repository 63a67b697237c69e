# SPDX-License-Identifier: Apache-2.0
"""Data-Out: immediate, unsolicited and solicited data (RFC 7143 4.2.5.2, 11.7, 11.8), and what R2Ts may do."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from engine_hand import AGREED, Hand
from engine_rig import LUN
from model import wire
from model.target_stream import RandomTarget
from model.wire import FINAL, RESERVED, Pdu

DATA = random.Random(7143).randbytes(20_000)


def shape(made: Pdu) -> tuple[int, int, int, bool]:
    """(offset, length, DataSN, F) of a Data-Out."""
    return made.offset, made.length, made.number_36, bool(made.flags & FINAL)


def opened(length: int, **agreed: object) -> tuple[Hand, int, list[Pdu]]:
    """A write of that many bytes, and all that is sent before the target says anything."""
    hand = Hand(**agreed)
    itt = hand.write(DATA[:length])
    return hand, itt, hand.sent()


class Patient(RandomTarget):
    """Says nothing unasked, takes every write whole, and asks for whole bursts."""

    def begin(self, made: Pdu) -> object:  # type: ignore[override]
        job = super().begin(made)
        job.take, job.status = job.expected, 0
        return job


@pytest.mark.parametrize("initial_r2t", [True, False])
@pytest.mark.parametrize("immediate_data", [True, False])
@pytest.mark.parametrize("first_burst", [512, 1500, 4096])
@pytest.mark.parametrize("most", [512, 1022, 8192])
def test_every_write_arrives_whole(initial_r2t: bool, immediate_data: bool, first_burst: int, most: int) -> None:
    """The target asserts flags, DataSN, tags and offsets, and puts the bytes together again."""
    agreed = dataclasses.replace(
        AGREED,
        initial_r2t=initial_r2t,
        immediate_data=immediate_data,
        first_burst_length=first_burst,
        target_max_recv_data_segment_length=most,
        max_outstanding_r2t=2,
        header_digest=True,
        data_digest=True,
    )
    for length in (1, 511, 512, 513, 1021, 1500, 1501, 4095, 4096, 4097, 13_000):
        hand = Hand(**{field.name: getattr(agreed, field.name) for field in dataclasses.fields(agreed)})
        target = Patient(random.Random(length), agreed, chatter=0)
        itt = hand.write(DATA[:length])
        while itt not in target.done:
            target.receive(hand.sent())
            if itt not in target.done:
                hand.feed(target.step())
        assert b"".join(part for _, part in sorted(target.done[itt].items())) == DATA[:length]
        assert hand.ended()[itt].residual == 0


@pytest.mark.parametrize(
    ("initial_r2t", "immediate_data", "command", "unsolicited"),
    [
        (True, True, (1024, True), []),
        (True, False, (0, True), []),
        (False, True, (1024, False), [(1024, 1024, 0, False), (2048, 252, 1, True)]),
        (False, False, (0, False), [(0, 1024, 0, False), (1024, 1024, 1, False), (2048, 252, 2, True)]),
    ],
)
def test_what_goes_out_unasked(
    initial_r2t: bool,
    immediate_data: bool,
    command: tuple[int, bool],
    unsolicited: list[tuple[int, int, int, bool]],
) -> None:
    changes = {"initial_r2t": initial_r2t, "immediate_data": immediate_data, "first_burst_length": 2300}
    _, itt, (first, *others) = opened(8192, **changes)
    assert (first.length, bool(first.flags & FINAL)) == command
    assert first.flags & 0x60 == wire.WRITE
    assert first.ttt == 8192, "the Expected Data Transfer Length"
    assert [shape(made) for made in others] == unsolicited
    assert {(made.itt, made.ttt, made.lun) for made in others} <= {(itt, RESERVED, LUN)}


def test_a_write_that_fits_goes_with_its_command() -> None:
    for length in (1, 1023, 1024):
        _, _, (only,) = opened(length, initial_r2t=False)
        assert only.data == DATA[:length]
        assert only.flags & FINAL


def test_several_r2ts_are_answered_in_their_order() -> None:
    hand, itt, _ = opened(10_000, max_outstanding_r2t=4)
    hand.feed(
        hand.r2t(itt, 1024, 2000, 0, ttt=70), hand.r2t(itt, 3024, 1, 1, ttt=71), hand.r2t(itt, 3025, 1024, 2, ttt=72)
    )
    sent = hand.sent()
    assert [(made.ttt, *shape(made)) for made in sent] == [
        (70, 1024, 1024, 0, False),
        (70, 2048, 976, 1, True),
        (71, 3024, 1, 0, True),
        (72, 3025, 1024, 0, True),
    ]
    assert all(made.data == DATA[made.offset : made.offset + made.length] for made in sent)


def test_an_r2t_before_the_unsolicited_burst_has_ended_is_queued_behind_it() -> None:
    """The burst is longer than what is built ahead of the socket, so that much of it is still to be built."""
    burst, part = 1 << 22, 1 << 16
    agreed = {"first_burst_length": burst, "max_burst_length": burst, "target_max_recv_data_segment_length": part}
    hand = Hand(initial_r2t=False, max_outstanding_r2t=2, **agreed)
    data = bytes(range(256)) * (1 << 15)
    itt = hand.write(data)
    pdus = hand.splitter.take(hand.engine.output(part))
    assert hand.engine.statistics()["pdus_out"] < burst // part
    hand.exp_cmd_sn += 1
    hand.feed(hand.r2t(itt, burst, 512, 0), hand.r2t(itt, burst + 512, 512, 1, ttt=8))
    pdus += hand.splitter.take(hand.engine.output())
    assert [(made.ttt, *shape(made)) for made in pdus[1:]] == [
        *((RESERVED, n * part, part, n - 1, n == burst // part - 1) for n in range(1, burst // part)),
        (7, burst, 512, 0, True),
        (8, burst + 512, 512, 0, True),
    ]
    assert b"".join(made.data for made in pdus) == data[: burst + 1024]


def test_an_r2t_may_leave_a_gap_but_then_the_residual_must_say_so() -> None:
    for missing, good in ((7168 - 512, True), (7168 - 513, False)):
        hand, itt, _ = opened(8192)
        hand.feed(hand.r2t(itt, 4096, 512))
        assert [shape(made) for made in hand.sent()] == [(4096, 512, 0, True)]
        if good:
            hand.feed(hand.response(itt, missing=missing))
            assert hand.ended()[itt].residual == missing
        else:
            hand.refuses(hand.response(itt, missing=missing), match="GOOD status for a write")


def test_r2ts_that_were_answered_do_not_count_as_outstanding() -> None:
    hand, itt, _ = opened(8192, max_outstanding_r2t=1)
    for n in range(7):
        hand.feed(hand.r2t(itt, 1024 * (n + 1), 1024, n, ttt=n))
        assert [made.ttt for made in hand.sent()] == [n]
    hand.feed(hand.response(itt))
    assert hand.ended()[itt].residual == 0


@pytest.mark.parametrize(("offset", "length"), list(itertools.product([8191, 8192, 1 << 31, 0xFFFFFFFF], [1, 2, 4096])))
def test_the_range_of_an_r2t_is_checked_without_running_over(offset: int, length: int) -> None:
    hand, itt, _ = opened(8192)
    made = hand.r2t(itt, offset, length)
    if offset + length <= 8192:
        hand.feed(made)
        assert [shape(made) for made in hand.sent()] == [(offset, length, 0, True)]
    else:
        hand.refuses(made, match="outside what is left to send")
        assert hand.sent() == []


@pytest.mark.parametrize("status", [0x02, 0x28])
def test_a_write_that_fails_early_sends_no_more(status: int) -> None:
    """What was asked for is void once the status is in."""
    hand, itt, _ = opened(8192)
    hand.feed(hand.r2t(itt, 1024, 4096), hand.response(itt, byte3=status))
    assert hand.sent() == []
    assert hand.ended()[itt].status == status


def test_a_huge_r2t_is_answered_lazily() -> None:
    """An R2T for 16 MiB does not build 16 MiB of PDUs: what waits to be sent is bounded, and so is what leaves."""
    burst = (1 << 24) - 1
    data = bytes(1 << 26)
    hand = Hand(max_burst_length=burst, target_max_recv_data_segment_length=8192, max_outstanding_r2t=3)
    itt = hand.write(data)
    hand.sent()
    before = hand.engine.statistics()["pdus_out"]
    hand.feed(*(hand.r2t(itt, 8192 + n * burst, burst, n, ttt=n) for n in range(3)))
    assert hand.engine.statistics()["pdus_out"] == before
    sent = 0
    for _ in range(50):
        out = hand.engine.output(100_000)
        assert len(out) == 100_000
        sent += len(out)
        waiting = hand.engine.statistics()["pdus_out"] - before - sent // (8192 + 48)
        assert waiting <= (1 << 20) // 8192 + 2
    assert hand.engine.statistics()["bytes_out"] >= sent


def test_bursts_of_two_writes_take_turns() -> None:
    hand = Hand(initial_r2t=False, max_outstanding_r2t=2)
    first, second = hand.write(DATA[:8192]), hand.write(DATA[:8192])
    hand.sent()
    asked = [hand.r2t(first, 2048, 2048, 0), hand.r2t(second, 2048, 1024, 0), hand.r2t(first, 4096, 1024, 1)]
    hand.feed(*asked)
    assert [(made.itt, *shape(made)[:2]) for made in hand.sent()] == [
        (first, 2048, 1024),
        (first, 3072, 1024),
        (second, 2048, 1024),
        (first, 4096, 1024),
    ]
