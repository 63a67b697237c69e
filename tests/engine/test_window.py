# SPDX-License-Identifier: Apache-2.0
"""The command window (RFC 7143 4.2.2.1): what waits, what passes, and that it never shrinks."""

from __future__ import annotations

import pytest
from engine_hand import Hand
from engine_rig import LUN, TEST_UNIT_READY
from model import wire


def submit(hand: Hand, count: int) -> list[int]:
    return [hand.engine.submit(LUN, TEST_UNIT_READY) for _ in range(count)]


def ping(hand: Hand, *, immediate: bool) -> int:
    bhs = wire.pdu(wire.NOP_OUT | 0x40 * immediate, ttt=wire.RESERVED).bhs
    return hand.engine.control(bytes(bhs), b"ping", answer=wire.NOP_IN)


def numbers(hand: Hand) -> list[int]:
    return [made.number_24 for made in hand.sent()]


def test_commands_wait_for_the_window_in_their_order() -> None:
    hand = Hand(cmd_sn=10, max_cmd_sn=11)
    tags = submit(hand, 5)
    sent = hand.sent()
    assert [(made.itt, made.number_24) for made in sent] == [(tags[0], 10), (tags[1], 11)]
    assert numbers(hand) == []
    hand.max_cmd_sn = 13
    hand.feed(hand.response(tags[0]))
    assert [(made.itt, made.number_24) for made in hand.sent()] == [(tags[2], 12), (tags[3], 13)]
    assert hand.engine.statistics()["window"] == 0


def test_a_closed_window_lets_immediate_requests_pass() -> None:
    hand = Hand(cmd_sn=10, max_cmd_sn=9)
    submit(hand, 2)
    numbered = ping(hand, immediate=False)
    urgent = ping(hand, immediate=True)
    (made,) = hand.sent()
    assert (made.itt, made.immediate, made.number_24) == (urgent, True, 10), "the next CmdSN, but not used up"
    hand.max_cmd_sn = 12
    hand.feed(hand.ping())
    sent = hand.sent()
    assert [made.number_24 for made in sent] == [10, 11, 12]
    assert sent[2].itt == numbered, "requests that are not immediate keep their place among the commands"


def shut(hand: Hand) -> int:
    hand.sent()
    return hand.engine.statistics()["windows_shut"]


@pytest.mark.parametrize("start", [10, 0xFFFFFFFE, 0xFFFFFFFF])
def test_a_window_that_stays_shut_after_all_answers_is_counted_once(start: int) -> None:
    hand = Hand(cmd_sn=start, max_cmd_sn=(start + 1) & 0xFFFFFFFF)
    first, second, *_ = submit(hand, 4)
    assert shut(hand) == 0, "two answers are owed"
    hand.feed(hand.response(second))
    assert shut(hand) == 0, "one is"
    ping(hand, immediate=True)
    hand.feed(hand.response(first))
    assert (shut(hand), shut(hand)) == (1, 1), "a ping takes no place in the window"
    hand.feed(hand.ping())
    assert shut(hand) == 1
    hand.max_cmd_sn = (start + 2) & 0xFFFFFFFF
    hand.feed(hand.ping())
    (third,) = (made.itt for made in hand.sent() if made.opcode == wire.SCSI_COMMAND)
    assert shut(hand) == 1, "the third owes its answer"
    hand.feed(hand.response(third))
    assert shut(hand) == 2, "shut again, for the fourth"


def test_a_shut_window_is_counted_where_somebody_waits_for_it() -> None:
    hand = Hand(cmd_sn=10, max_cmd_sn=9)
    ping(hand, immediate=True)
    assert shut(hand) == 0
    ping(hand, immediate=False)
    assert shut(hand) == 1


@pytest.mark.parametrize("start", [10, 0xFFFFFFFD, 0x7FFFFFFE])
def test_the_window_never_shrinks_and_runs_over(start: int) -> None:
    mask = 0xFFFFFFFF
    hand = Hand(cmd_sn=start, max_cmd_sn=(start + 3) & mask)
    for step in (2, 0, -1, 3):
        hand.feed(hand.ping(n28=start, n32=(start + step) & mask))
    assert hand.engine.leftover().max_cmd_sn == (start + 3) & mask
    assert hand.engine.statistics()["windows_ignored"] == 3, "the last one says what is known"
    submit(hand, 8)
    assert numbers(hand) == [(start + n) & mask for n in range(4)]
    hand.feed(hand.ping(n28=(start + 4) & mask, n32=(start + 5) & mask))
    assert numbers(hand) == [(start + n) & mask for n in range(4, 6)]


@pytest.mark.parametrize("start", [10, 0xFFFFFFFD])
def test_a_pair_that_contradicts_itself_is_ignored(start: int) -> None:
    """MaxCmdSN less than ExpCmdSN - 1: both are ignored."""
    hand = Hand(cmd_sn=start, max_cmd_sn=start)
    hand.feed(hand.ping(n28=(start + 30) & 0xFFFFFFFF, n32=(start + 20) & 0xFFFFFFFF))
    assert hand.engine.leftover().max_cmd_sn == start
    hand.feed(hand.ping(n28=(start + 30) & 0xFFFFFFFF, n32=start))
    assert hand.engine.statistics()["windows_ignored"] == 2
    hand.feed(hand.ping(n28=(start + 21) & 0xFFFFFFFF, n32=(start + 20) & 0xFFFFFFFF))
    assert hand.engine.leftover().max_cmd_sn == (start + 20) & 0xFFFFFFFF
    assert hand.engine.statistics()["windows_ignored"] == 2


def test_exp_stat_sn_follows_what_was_taken() -> None:
    hand = Hand(exp_stat_sn=0xFFFFFFFF)
    first, second = hand.read(4), hand.read(4)
    hand.feed(hand.data_in(first, b"abcd", status=True), hand.data_in(second, b"efgh", status=True))
    submit(hand, 1)
    (made,) = hand.sent()
    assert made.number_28 == 1
    assert list(hand.ended()) == [first, second]


def test_slots_run_out_and_come_back_with_other_tags() -> None:
    hand = Hand(slots=2)
    first, second = submit(hand, 2)
    hand.sent()
    with pytest.raises(BlockingIOError):
        submit(hand, 1)
    hand.feed(hand.response(first))
    with pytest.raises(BlockingIOError):
        submit(hand, 1)  # it has ended, but nobody has taken note
    assert list(hand.ended()) == [first]
    (third,) = submit(hand, 1)
    assert third not in (first, second)
    hand.sent()
    hand.refuses(hand.response(first), match="which is not open")


def test_a_text_sequence_keeps_its_tag() -> None:
    hand = Hand()
    request = bytes(wire.pdu(wire.TEXT, 0).bhs)
    itt = hand.engine.control(request, b"a", answer=wire.TEXT_ANSWER)
    hand.sent()
    hand.feed(hand.made(wire.TEXT_ANSWER, 0, status=True, itt=itt, ttt=5))
    assert [tag for tag, _ in hand.engine.completions()] == [itt]
    assert hand.engine.control(request, b"b", answer=wire.TEXT_ANSWER, itt=itt) == itt
    (made,) = hand.sent()
    assert (made.itt, made.data) == (itt, b"b")
    with pytest.raises(BlockingIOError):
        hand.engine.control(request, b"c", answer=wire.TEXT_ANSWER, itt=itt)
