# SPDX-License-Identifier: Apache-2.0
"""What is sent again after a loss, in which order, and what never is."""

from __future__ import annotations

import errno

import pytest

from swd.proto import recovery
from swd.proto.recovery import MAX_REPLAYS, REPLAYABLE, Path, delay, orders, path_for, patience, rest
from swd.scsi.opcodes import TABLE
from swd.values import Leftover, Negotiated, OpenTask, Portal

READ, WRITE, FLUSH, COMPARE_AND_WRITE, RESERVE = 0x28, 0x2A, 0x35, 0x89, 0x5F


def task(itt: int, opcode: int, *, was_sent: bool = True, replays: int = 0) -> OpenTask:
    return OpenTask(itt, itt, 0, bytes([opcode]) + bytes(15), 0, 0, was_sent, replays)


def left(*tasks: OpenTask) -> Leftover:
    return Leftover("the target closed the connection", 9, 9, 9, tasks)


def test_commands_go_again_in_their_order_and_a_flush_after_all_of_them() -> None:
    made = orders(left(task(1, WRITE), task(2, FLUSH), task(3, READ), task(4, WRITE), task(5, FLUSH)), losses=1)
    assert made.replay == (1, 3, 4, 2, 5)
    assert made.losses == {}
    assert not made.one_by_one


def test_what_was_never_sent_only_waits_on() -> None:
    assert orders(left(task(1, WRITE, was_sent=False)), losses=1) == recovery.Orders()


@pytest.mark.parametrize("opcode", [COMPARE_AND_WRITE, RESERVE, 0x83, 0x16, 0x04, 0x48, 0xC1, 0x15, 0x8B])
def test_what_is_not_the_same_when_done_twice_is_not_done_twice(opcode: int) -> None:
    made = orders(left(task(1, opcode), task(2, WRITE)), losses=1)
    assert made.replay == (2,)
    assert made.losses[1].errno == errno.EIO
    assert "not sent again" in str(made.losses[1])


def test_a_command_has_a_budget_and_fails_alone() -> None:
    made = orders(left(task(1, READ, replays=MAX_REPLAYS), task(2, READ, replays=MAX_REPLAYS - 1)), losses=3)
    assert made.replay == (2,)
    assert made.losses[1].errno == errno.EIO
    assert str(MAX_REPLAYS + 1) in str(made.losses[1])


@pytest.mark.parametrize(("losses", "one_by_one"), [(1, False), (2, True), (7, True)])
def test_after_the_second_loss_commands_go_one_by_one(losses: int, one_by_one: bool) -> None:
    assert orders(left(task(1, READ)), losses=losses).one_by_one is one_by_one


def test_the_first_attempt_honours_time2wait_and_later_ones_spread() -> None:
    assert delay(0, 2.0, 0.7) == 2.0
    waits = [delay(attempt, 2.0, 1.0) for attempt in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[-1] == recovery.LONGEST_DELAY
    assert delay(3, 2.0, 0.0) < delay(3, 2.0, 0.5) < delay(3, 2.0, 1.0)


def test_the_table_agrees_with_that_of_the_scsi_rank() -> None:
    """Nothing is replayed that the scsi rank knows as not to be repeated."""
    assert not set(REPLAYABLE) & {row.code for row in TABLE if not row.replayable and row.action is None}


def test_attempts_begin_where_the_session_was_and_come_to_every_other_path() -> None:
    here, home, third = (Path(Portal("192.0.2.1", 3260 + n), "iqn.2026-01.org.example:a") for n in range(3))
    others = [home, here, third]
    assert [path_for(attempt, here, others) for attempt in range(8)] == [
        here,
        here,
        home,
        here,
        third,
        here,
        home,
        here,
    ]
    assert {path_for(attempt, here, [here]) for attempt in range(8)} == {here}


def test_where_there_is_another_path_no_attempt_uses_up_the_time() -> None:
    assert patience(15.0, 120.0, 1) == patience(15.0, 120.0, 2) == 15.0
    assert patience(15.0, 3.0, 1) == 3.0
    assert patience(15.0, 3.0, 2) == 0.75
    assert patience(15.0, -1.0, 2) == 0.1


def test_the_fence_that_waits_waits_for_what_was_agreed_on_the_old_connection() -> None:
    agreed = Negotiated(default_time2wait=2, default_time2retain=20)
    assert rest("none", 5.0, agreed, 3.0, 1.0) == rest("lun_reset", 5.0, agreed, 3.0, 1.0) == 4.0
    assert rest("wait", 5.0, agreed, 3.0, 1.0) == 19.0
    assert rest("wait", 5.0, agreed, 20.0, 1.0) == 4.0
