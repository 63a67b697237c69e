# SPDX-License-Identifier: Apache-2.0
"""COMPARE AND WRITE and its kin against whatever else changes blocks: neither is lost under the other (SBC-4 5.2)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_initiator import RawInitiator, sixteen, write_10
from scsi_bench import BLOCKS, NAME, Bench

from swd.target import FileMedium, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.media import Buffer
from swd.target.scsi.changes import Changes

OLD, NEW, OTHER = b"o" * 512, b"n" * 512, b"x" * 512
COMPARE = bytes([0x89]) + bytes(12) + b"\x01\0\0"
SHORT = 0.15  # seconds in which nothing is to happen


class Halt:
    """Armed, it stops whoever comes by until `go`."""

    def __init__(self) -> None:
        self.armed, self.there, self.go = False, threading.Event(), threading.Event()

    def __call__(self) -> None:
        if self.armed:
            self.armed = False
            self.there.set()
            assert self.go.wait(10)


class Halting(FileMedium):
    """It can be stopped behind a read, and before a change."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, size=BLOCKS * 512, create=True)
        self.read_it, self.changing = Halt(), Halt()

    def read(self, offset: int, length: int) -> bytes:
        data = super().read(offset, length)
        self.read_it()
        return data

    def write(self, offset: int, data: Buffer) -> None:
        self.changing()
        super().write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.changing()
        super().zero(offset, length)


@contextmanager
def halted(halt: Halt, work: Callable[[], Any]) -> Iterator[tuple[Future[Any], ThreadPoolExecutor]]:
    """`work` in a thread, which has come to the halt; it goes on where the block ends."""
    halt.armed = True
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work)
        try:
            assert halt.there.wait(10)
            yield first, pool
        finally:
            halt.go.set()


def waits(second: Future[Any]) -> None:
    with pytest.raises(Late):
        second.result(SHORT)


@pytest.fixture
def medium(tmp_path: Path) -> Halting:
    return Halting(tmp_path / "disk")


@pytest.fixture
def bench(medium: Halting) -> Bench:
    bench = Bench(TargetConfig(NAME, {0: Lun(medium)}))
    bench.good(write_10(0, 1), data=OLD)
    return bench


CHANGES = {
    "write": (write_10(0, 1), OTHER, OTHER),
    "write and verify": (bytes([0x2E]) + write_10(0, 1)[1:], OTHER, OTHER),
    "write same": (sixteen(0x93, 0, 1), OTHER, OTHER),
    "write zeros": (sixteen(0x93, 0, 1), bytes(512), bytes(512)),
    "unmap": (
        bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]),
        bytes([0, 22, 0, 16, *bytes(4), *bytes(11), 1, *bytes(4)]),
        bytes(512),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_waits_for_a_step(bench: Bench, medium: Halting, change: str) -> None:
    cdb, data, found = CHANGES[change]
    with halted(medium.read_it, lambda: bench.good(COMPARE, data=OLD + NEW)) as (step, pool):
        second = pool.submit(bench.good, cdb, data=data)
        waits(second)
    step.result()
    second.result()
    assert medium.read(0, 512) == found


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_waits_for_a_change(bench: Bench, medium: Halting, change: str) -> None:
    cdb, data, found = CHANGES[change]
    with halted(medium.changing, lambda: bench.good(cdb, data=data)) as (first, pool):
        step = pool.submit(bench.sense, COMPARE, data=OLD + NEW)
        waits(step)
    first.result()
    assert step.result() == (0xE, 0x1D, 0)  # it found what had been written
    assert medium.read(0, 512) == found


def test_a_change_takes_no_lock_while_no_step_is_under_way(bench: Bench, medium: Halting) -> None:
    with bench.target.units[0].state.lock, ThreadPoolExecutor(1) as pool:
        pool.submit(bench.good, write_10(0, 1), data=NEW).result(10)
    assert medium.read(0, 512) == NEW


class Slow(RamMedium):
    """Memory that stops behind a read."""

    def __init__(self) -> None:
        super().__init__(BLOCKS * 512)
        self.read_it = Halt()

    def read(self, offset: int, length: int) -> memoryview:
        data = memoryview(bytes(super().read(offset, length)))
        self.read_it()
        return data


def test_data_that_comes_into_memory_waits_for_a_step() -> None:
    medium = Slow()
    with (
        TargetServer([TargetConfig(NAME, {0: Lun(medium)})], compiled=False) as server,
        RawInitiator(server.portal) as one,
        RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as other,
    ):
        for raw in (one, other):
            raw.login(NAME)
            raw.ready()
        with halted(medium.read_it, lambda: one.run(COMPARE, data=bytes(512) + NEW)) as (step, pool):
            second = pool.submit(other.run, write_10(0, 1), data=OTHER)
            waits(second)
        assert (step.result().status, second.result().status) == (0, 0)
        assert bytes(medium.read(0, 512)) == OTHER


def test_steps_and_changes_of_many_threads_never_meet() -> None:
    """Each looks whether it is where another may not be, and lets others run there."""
    changes, turns, met = Changes(threading.RLock()), 100, []
    stepping, changing = set[int](), set[int]()

    def change() -> None:
        me = threading.get_ident()
        for _ in range(turns):
            with changes:
                changing.add(me)
                os.sched_yield()
                met.extend(stepping)
                changing.discard(me)

    def step() -> None:
        me = threading.get_ident()
        for _ in range(turns):
            with changes.alone():
                stepping.add(me)
                os.sched_yield()
                met.extend(changing | (stepping - {me}))
                with changes:
                    pass  # as the step's own store
                stepping.discard(me)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for work in (change, change, step, step)]:
                done.result(20)
    finally:
        sys.setswitchinterval(before)
    assert not met
    assert not changes.steps & 1
