# SPDX-License-Identifier: Apache-2.0
"""A new connection under the same tasks: what goes again, from where, and what does not."""

from __future__ import annotations

import pytest
from engine_hand import Hand, renewed
from engine_rig import LUN, READ, TEST_UNIT_READY, Guarded
from model import wire

from swd.errors import ConnectionLost

FLUSH = b"\x35" + bytes(9)


def test_a_read_begins_anew_and_keeps_its_tag() -> None:
    hand = Hand()
    itt = hand.read(2000)
    hand.feed(hand.data_in(itt, b"a" * 1000, flags=0))
    hand.engine.restart(renewed(hand), [itt])
    (made,) = hand.sent()
    assert (made.opcode, made.itt, made.number_24) == (wire.SCSI_COMMAND, itt, 1)
    hand.feed(hand.data_in(itt, b"b" * 1000, flags=0), hand.data_in(itt, b"c" * 1000, 1000, 1, status=True))
    assert itt in hand.ended()
    assert bytes(hand.buffers[itt].view) == b"b" * 1000 + b"c" * 1000
    assert hand.buffers[itt].intact()


def test_half_a_segment_of_the_old_connection_is_forgotten() -> None:
    hand = Hand()
    itt = hand.read(1000)
    hand.engine.feed(hand.frame(hand.data_in(itt, b"a" * 1000, status=True))[:300])
    hand.engine.restart(renewed(hand, data_digest=True, header_digest=True), [itt])
    hand.sent()
    hand.feed(hand.data_in(itt, b"b" * 1000, status=True))
    assert bytes(hand.buffers[itt].view) == b"b" * 1000


def test_a_write_is_sent_whole_again_under_the_new_agreement() -> None:
    hand = Hand(initial_r2t=False)
    data = bytes(range(256)) * 12
    itt = hand.write(data)
    hand.sent()
    hand.feed(hand.r2t(itt, 2048, 1024))
    hand.engine.output(100)  # a part of the Data-Out has gone
    hand.engine.restart(renewed(hand, initial_r2t=True, immediate_data=False), [itt])
    (command,) = hand.sent()
    assert (command.itt, command.data) == (itt, b"")
    hand.feed(hand.r2t(itt, 0, 3072))
    assert b"".join(made.data for made in hand.sent()) == data
    hand.feed(hand.response(itt))
    assert itt in hand.ended()


def test_a_flush_waits_for_all_that_is_replayed_and_new_commands_for_the_flush() -> None:
    hand = Hand()
    first, second = hand.read(512), hand.read(512)
    flush = hand.engine.submit(LUN, FLUSH)
    hand.sent()
    hand.engine.restart(renewed(hand), [first, second, flush])
    new = hand.engine.submit(LUN, bytes(6))
    assert [made.itt for made in hand.sent()] == [first, second]
    hand.feed(hand.data_in(first, bytes(512), status=True))
    assert hand.sent() == []
    hand.feed(hand.data_in(second, bytes(512), status=True))
    assert [made.itt for made in hand.sent()] == [flush]
    hand.feed(hand.response(flush))
    assert [made.itt for made in hand.sent()] == [new]


def test_one_by_one() -> None:
    hand = Hand()
    tags = [hand.read(512) for _ in range(3)]
    hand.engine.restart(renewed(hand), tags, None, True)
    for itt in tags:
        assert [made.itt for made in hand.sent()] == [itt]
        hand.feed(hand.data_in(itt, bytes(512), status=True))
    assert set(hand.ended()) == set(tags)


def test_what_was_never_sent_keeps_its_place_behind_replay() -> None:
    hand = Hand(max_cmd_sn=10)  # room for one command
    known = hand.read(512)
    waiting = [hand.engine.submit(LUN, READ, None, Guarded(512).view) for _ in range(2)]
    assert hand.sent() == []
    assert [(task.itt, task.was_sent) for task in hand.engine.leftover().tasks] == [
        (known, True),
        (waiting[0], False),
        (waiting[1], False),
    ]
    hand.engine.restart(renewed(hand), [known])
    assert [made.itt for made in hand.sent()] == [known]
    hand.feed(hand.data_in(known, bytes(512), status=True))
    assert [made.itt for made in hand.sent()] == waiting


def test_a_second_loss_before_all_was_sent_again_loses_nothing() -> None:
    hand = Hand()
    tags = [hand.read(512) for _ in range(4)]
    hand.engine.restart(renewed(hand, max_cmd_sn=2), tags)
    assert [made.itt for made in hand.sent()] == tags[:2]
    left = hand.engine.leftover().tasks
    assert [(task.itt, task.was_sent, task.replays) for task in left] == [
        (tags[0], True, 1),
        (tags[1], True, 1),
        (tags[2], True, 0),
        (tags[3], True, 0),
    ]
    hand.engine.restart(renewed(hand), [task.itt for task in left])
    assert [made.itt for made in hand.sent()] == tags


def test_a_window_that_is_shut_on_the_next_connection_is_counted_anew() -> None:
    """At the same CmdSN as on the one before; not as long as recovery itself holds commands back."""
    hand = Hand(cmd_sn=10, max_cmd_sn=9)
    hand.engine.submit(LUN, TEST_UNIT_READY)
    for shut in (1, 2):
        assert hand.sent() == []
        assert hand.engine.statistics()["windows_shut"] == shut
        hand.engine.restart(renewed(hand, cmd_sn=10, max_cmd_sn=9), [])
        assert hand.engine.statistics()["windows_shut"] == shut


def test_what_is_not_in_the_orders_is_lost_with_its_error() -> None:
    hand = Hand()
    kept, lost, unnamed = (hand.read(512) for _ in range(3))
    ping = hand.engine.control(bytes(wire.pdu(wire.NOP_OUT | 0x40, ttt=wire.RESERVED).bhs), b"x", answer=wire.NOP_IN)
    error = ConnectionLost("not again")
    hand.engine.restart(renewed(hand), [kept], {lost: error})
    ends = dict(hand.engine.completions())
    assert ends[lost] is error
    assert isinstance(ends[unnamed], ConnectionLost)
    assert isinstance(ends[ping], ConnectionLost)
    assert [made.itt for made in hand.sent()] == [kept]


def test_a_task_that_was_let_go_is_not_sent_again() -> None:
    hand = Hand()
    itt = hand.write(b"x" * 3000)
    hand.sent()
    hand.engine.let_go(itt)
    hand.engine.restart(renewed(hand), [itt])
    assert hand.sent() == []
    assert hand.engine.statistics()["open_tasks"] == 0


def test_a_task_whose_answer_came_before_its_data_was_sent_ends_well() -> None:
    """GOOD for the data that the target has taken; its tail is still in the send queue when the link dies."""
    hand = Hand(immediate_data=True, initial_r2t=True)
    itt = hand.write(b"x" * 1000)
    hand.engine.output(60)
    hand.feed(hand.response(itt))
    assert hand.ended() == {}
    hand.engine.restart(renewed(hand))
    assert itt in hand.ended()


def test_a_dead_engine_lives_again() -> None:
    hand = Hand()
    itt = hand.read(512)
    with pytest.raises(Exception, match="StatSN"):
        hand.feed(hand.response(itt, n24=5, missing=512))
    hand.engine.restart(renewed(hand), [itt])
    hand.sent()
    hand.feed(hand.data_in(itt, bytes(512), status=True))
    assert itt in hand.ended()
    assert hand.engine.fault is None


def test_slots_are_all_there_again_after_many_losses() -> None:
    hand = Hand(slots=8)
    for _ in range(20):
        tags = [hand.read(512) for _ in range(8)]
        hand.engine.restart(renewed(hand), tags[:4])
        hand.sent()
        for itt in tags[:4]:
            hand.feed(hand.data_in(itt, bytes(512), status=True))
        assert len(hand.engine.completions()) == 8
    assert hand.engine.statistics()["open_tasks"] == 0


def test_more_tags_than_slots_are_refused() -> None:
    hand = Hand()
    itt = hand.read(512)
    with pytest.raises(ValueError, match="more than 4096 tags"):
        hand.engine.restart(renewed(hand), [itt] * 5000)
