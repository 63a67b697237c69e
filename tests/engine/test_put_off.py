# SPDX-License-Identifier: Apache-2.0
"""When a command is overdue: its clock begins when it is sent, and data that moves puts the end off, within limits."""

from __future__ import annotations

import random

import pytest
from engine_hand import Hand, renewed
from engine_rig import LUN, READ, WRITE, Guarded
from model.deadline import Clock


def reading(hand: Hand, length: int, *, timeout: float = 10.0, now: float = 0.0) -> int:
    guarded = Guarded(length)
    itt = hand.engine.submit(LUN, READ, None, guarded.view, timeout, now)
    hand.buffers[itt] = guarded
    return itt


def sent_at(hand: Hand, now: float) -> None:
    hand.splitter.take(hand.engine.output(-1, now))


def test_the_clock_begins_when_the_command_is_sent() -> None:
    hand = Hand()
    itt = reading(hand, 512, now=1.0)
    sent_at(hand, 5.0)
    assert hand.engine.deadline(itt) == 15.0


def test_data_that_comes_puts_the_end_off_and_never_beyond_four_deadlines() -> None:
    hand = Hand()
    itt = reading(hand, 4096)
    sent_at(hand, 5.0)
    ends = []
    for step, now in enumerate((9.0, 18.0, 27.0, 36.0, 40.0)):
        hand.engine.feed(hand.frame(hand.data_in(itt, bytes(512), 512 * step, step, flags=0)), now)
        ends.append(hand.engine.deadline(itt))
    assert ends == [19.0, 28.0, 37.0, 45.0, 45.0]


def test_half_a_segment_is_progress_and_an_empty_one_is_none() -> None:
    hand = Hand()
    itt = reading(hand, 2048)
    sent_at(hand, 0.0)
    hand.engine.feed(hand.frame(hand.data_in(itt, b"", 0, 0, flags=0)), 4.0)
    assert hand.engine.deadline(itt) == 10.0
    whole = hand.frame(hand.data_in(itt, bytes(1024), 0, 1, flags=0))
    hand.engine.feed(whole[:48], 5.0)
    assert hand.engine.deadline(itt) == 10.0
    hand.engine.feed(whole[48:100], 6.0)
    assert hand.engine.deadline(itt) == 16.0


def test_what_comes_for_one_command_is_no_progress_of_another() -> None:
    hand = Hand()
    slow, other = reading(hand, 512), reading(hand, 1024)
    sent_at(hand, 0.0)
    hand.engine.feed(hand.frame(hand.data_in(other, bytes(512), 0, 0, flags=0), hand.ping()), 9.0)
    assert (hand.engine.deadline(slow), hand.engine.deadline(other)) == (10.0, 19.0)


def test_a_write_goes_on_while_its_data_is_asked_for_and_sent() -> None:
    hand = Hand(initial_r2t=True, immediate_data=False)
    itt = hand.engine.submit(LUN, WRITE, bytes(4096), None, 10.0, 0.0)
    sent_at(hand, 1.0)
    assert hand.engine.deadline(itt) == 11.0
    hand.engine.feed(hand.frame(hand.r2t(itt, 0, 4096)), 8.0)
    assert hand.engine.deadline(itt) == 18.0
    sent_at(hand, 12.0)
    assert hand.engine.deadline(itt) == 22.0


def test_on_a_new_connection_the_clock_begins_anew() -> None:
    hand = Hand()
    itt = reading(hand, 2048)
    sent_at(hand, 0.0)
    hand.engine.feed(hand.frame(hand.data_in(itt, bytes(512), flags=0)), 9.0)
    hand.engine.restart(renewed(hand), [itt], now=100.0)
    sent_at(hand, 101.0)
    assert hand.engine.deadline(itt) == 111.0
    hand.engine.feed(hand.frame(hand.data_in(itt, bytes(512), flags=0)), 120.0)
    assert hand.engine.deadline(itt) == 130.0


def test_a_command_that_waited_out_a_loss_is_not_overdue_for_it() -> None:
    """But a window that stays closed is not waited for without end."""
    hand = Hand(max_cmd_sn=9)
    before = reading(hand, 512)
    hand.engine.restart(renewed(hand, max_cmd_sn=0), now=100.0)
    sent_at(hand, 100.0)
    assert hand.engine.deadline(before) == 140.0


@pytest.mark.parametrize("seed", range(20))
def test_the_engine_and_its_slow_twin_agree(seed: int) -> None:
    rng = random.Random(seed)
    hand = Hand(initial_r2t=True, immediate_data=False, max_burst_length=1024)
    timeout = rng.choice([0.5, 3.0, 10.0])
    clock, now, size = Clock(timeout), rng.uniform(0, 50), 16384
    write = rng.random() < 0.5
    itt = (
        hand.engine.submit(LUN, WRITE, bytes(size), None, timeout, now)
        if write
        else reading(hand, size, timeout=timeout)
    )
    moved = steps = 0
    sent_at(hand, now)
    clock.sent(now)
    for _ in range(60):
        now += rng.uniform(0, timeout)
        event = rng.randrange(6)
        if event == 0:
            moved = steps = 0
            hand.engine.restart(renewed(hand, initial_r2t=True, immediate_data=False), [itt], now=now)
            sent_at(hand, now)
            clock.sent(now)
        elif event < 4 and size - moved > 512:
            length = rng.randint(1, 512)
            asked = (
                hand.r2t(itt, moved, length, steps)
                if write
                else hand.data_in(itt, bytes(length), moved, steps, flags=0)
            )
            hand.engine.feed(hand.frame(asked), now)
            clock.moved(now)
            moved, steps = moved + length, steps + 1
            if write:
                now += rng.uniform(0, timeout)
                sent_at(hand, now)
                clock.moved(now)
        else:
            hand.engine.feed(hand.frame(hand.ping()), now)
            sent_at(hand, now)
        assert hand.engine.deadline(itt) == pytest.approx(clock.deadline)
