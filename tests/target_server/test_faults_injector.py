# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: conditions, counting, dice and time, without a socket; and timers."""

from __future__ import annotations

import threading

import pytest

from swd.target.faults import Fault, Injector, Plan
from swd.target.faults.conditions import Event, blocks_of_command
from swd.target.faults.timers import Timers

READ = Event("DATA_IN", "full_feature", 1, lun=0, opcode=0x28, blocks=(100, 8))


def struck(events: list[Event], do: str = "drop", seed: int = 0, **keys: object) -> list[int]:
    """The numbers of the events at which the fault strikes."""
    fault = Fault(do, **keys)
    injector = Injector(Plan([fault], seed))
    return [number for number, event in enumerate(events) if injector.due(fault.kind.place, event)]


@pytest.mark.parametrize(
    ("keys", "event", "strikes"),
    [
        ({}, READ, True),
        ({}, READ._replace(pdu="R2T"), False),
        ({"pdu": "R2T"}, READ._replace(pdu="R2T"), True),
        ({"command": "READ"}, READ, True),
        ({"command": ["WRITE", 0x28]}, READ, True),
        ({"command": "WRITE"}, READ, False),
        ({"command": "READ"}, READ._replace(opcode=None), False),
        ({"lba": 107}, READ, True),
        ({"lba": "108-"}, READ, False),
        ({"lba": 107}, READ._replace(blocks=None), False),
        ({"lun": 0}, READ, True),
        ({"lun": 1}, READ, False),
        ({"lun": 1}, READ._replace(lun=1 << 48), True),
        ({"lun": 0}, READ._replace(lun=None), False),
        ({"state": "login"}, READ, False),
        ({"state": "discovery"}, READ._replace(state="discovery"), True),
        ({"connection": "2-3"}, READ._replace(connection=3), True),
        ({"connection": "2-3"}, READ, False),
    ],
)
def test_conditions(keys: dict[str, object], event: Event, strikes: bool) -> None:
    assert struck([event], **keys) == [0] * strikes


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ({"nth": 3}, [2]),
        ({"every": 3}, [2, 5, 8]),
        ({"every": 3, "count": 2}, [2, 5]),
        ({"count": 2}, [0, 1]),
        ({"once": True}, [0]),
        ({}, list(range(10))),
        ({"chance": 1}, list(range(10))),
    ],
)
def test_counting(keys: dict[str, object], numbers: list[int]) -> None:
    assert struck([READ] * 10, **keys) == numbers


def test_only_what_meets_all_conditions_is_counted() -> None:
    events = [READ, READ._replace(lun=1 << 48), READ, READ._replace(lun=1 << 48)]
    assert struck(events, lun=1, nth=2) == [3]


def test_dice_fall_the_same_for_a_seed_and_otherwise_for_another() -> None:
    first, again, other = (struck([READ] * 1000, seed=seed, chance=0.1) for seed in (7, 7, 8))
    assert first == again != other
    assert 60 < len(first) < 140


def test_what_could_not_be_done_is_not_counted() -> None:
    injector = Injector(Plan([Fault("corrupt_data", nth=2)]))
    able = iter((True, False, True))
    assert [bool(injector.due("answer", READ, lambda _fault: next(able))) for _ in range(3)] == [False, False, True]


def test_time() -> None:
    clock = iter((100.0, 101.9, 102.0, 103.0, 103.1))
    injector = Injector(Plan([Fault("drop", since=2, until=3)]), clock=lambda: next(clock))
    assert [bool(injector.due("wire", READ)) for _ in range(4)] == [False, True, True, False]


def test_the_third_time_is_the_third_time_over_all_threads() -> None:
    injector, struck = Injector(Plan([Fault("drop", every=100)])), []

    def look() -> None:
        struck.extend(fault for _ in range(1000) for fault in injector.due("wire", READ))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(struck) == 40


def test_another_plan_begins_anew_and_what_happened_stays_counted() -> None:
    fault = Fault("drop", nth=1)
    injector = Injector(Plan([fault]))
    for _ in range(2):
        for due in injector.due("wire", READ):
            injector.injected(due)
        injector.replace(Plan([fault]))
    assert injector.counts == {"drop": 2}
    assert injector.wait_for("drop", 2, timeout=0)
    assert not injector.wait_for("drop", 3, timeout=0)


def test_what_is_put_off_does_not_outlive_the_target() -> None:
    injector, came = Injector(Plan()), threading.Event()
    injector.later(0.01, came.set)
    assert came.wait(5)
    never = threading.Event()
    injector.later(0.05, never.set)
    injector.stop()
    assert not never.wait(0.1)


@pytest.mark.parametrize(
    ("cdb", "blocks"),
    [
        (bytes([0x28, 0, 0, 0, 0, 9, 0, 0, 2, 0]), (9, 2)),
        (bytes([0x8A, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]), (1 << 32, 3)),
        (bytes([0x08, 0, 0, 1, 0, 0]), (1, 256)),
        (bytes([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (0, 0)),
        (bytes([0x12, 1, 0x83, 0, 255, 0]), None),
        (bytes([0x5F, *range(15)]), None),
        (bytes([0xFF, *range(15)]), None),
    ],
)
def test_the_blocks_of_a_command(cdb: bytes, blocks: tuple[int, int] | None) -> None:
    assert blocks_of_command(cdb.ljust(16, b"\0")) == blocks


def test_timers_go_off_in_their_order_and_once() -> None:
    timers, said = Timers(), []
    for when, word in ((3, "c"), (1, "a"), (1, "b")):
        timers.at(when, lambda word=word: said.append(word))  # type: ignore[misc]
    assert timers.next(0) == 1
    timers.run(2)
    assert said == ["a", "b"]
    assert timers.next(2) == 1
    timers.run(9)
    timers.run(9)
    assert said == ["a", "b", "c"]
    assert timers.next(9) is None
