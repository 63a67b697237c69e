# SPDX-License-Identifier: Apache-2.0
"""What a session has begun is over before the one that takes its place begins (RFC 7143 6.3.5): a write of the old one
never comes after one of the new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from raw_initiator import RawInitiator, read_10, write_10

from swd.target import Lun, RamMedium, TargetConfig, TargetServer, normal
from swd.target.faults import Fault, Plan
from swd.target.media import Buffer

NAME = "iqn.2026-01.org.example:again"
OLD, NEW = b"o" * 512, b"n" * 512
GHOST = Fault("ghost", command="WRITE", nth=1, seconds=0.01)


class Slow(RamMedium):
    """A write of OLD takes until `go`."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def place(self, _offset: int, _length: int) -> None:  # type: ignore[override]
        return None

    def write(self, offset: int, data: Buffer) -> None:
        if bytes(data) != OLD:
            super().write(offset, data)
            return
        self.begun.set()
        assert self.go.wait(20)
        super().write(offset, data)
        self.done.set()


@pytest.fixture
def medium() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go.set()


def take_over(raw: RawInitiator) -> None:
    assert raw.login(NAME).status_class == 0
    while raw.run(bytes(6)).status:
        pass
    assert raw.run(write_10(0, 1), data=NEW).status == 0


@pytest.mark.parametrize("faults", [(), (GHOST,)], ids=["a slow write", "a ghost"])
def test_a_write_of_the_old_session_does_not_come_after_one_of_the_new(medium: Slow, faults: tuple[Fault, ...]) -> None:
    with (
        TargetServer([TargetConfig(NAME, {0: Lun(medium)})], faults=Plan(faults)) as server,
        RawInitiator(server.portal) as old,
        RawInitiator(server.portal) as new,
        ThreadPoolExecutor(1) as pool,
    ):
        old.login(NAME)
        old.ready()
        old.command(write_10(0, 1), expect=512, immediate_data=OLD)
        assert medium.begun.wait(10)
        coming = pool.submit(take_over, new)
        wait([coming], timeout=0.3)  # it must not come so far
        medium.go.set()
        coming.result(10)
        assert medium.done.wait(10)
        assert new.run(read_10(0, 1), expect=512).data == NEW


def test_a_ghost_that_was_laid_does_not_rise_when_the_next_session_ends(medium: Slow) -> None:
    medium.go.set()
    late = Fault("ghost", command="WRITE", nth=1, seconds=0.3)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})], faults=Plan([late])) as server:
        with RawInitiator(server.portal) as old:
            old.login(NAME)
            old.ready()
            old.command(write_10(0, 1), expect=512, immediate_data=OLD)
            assert old.closed()
        with RawInitiator(server.portal) as new:
            take_over(new)
        assert not medium.done.wait(0.6)
        assert bytes(medium.read(0, 512)) == NEW


def test_who_cannot_end_is_not_reinstated(medium: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new connection is closed, and so is each one until the old session has ended."""
    monkeypatch.setattr(normal, "_LAST_COMMAND", 0.1)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server, RawInitiator(server.portal) as old:
        old.login(NAME)
        old.ready()
        old.command(write_10(0, 1), expect=512, immediate_data=OLD)
        assert medium.begun.wait(10)
        for _ in range(2):
            with RawInitiator(server.portal) as new, pytest.raises(EOFError):
                new.login(NAME)
        assert server.statistics["reinstatements"] == 0
        medium.go.set()
        deadline = time.monotonic() + 10
        while server.statistics["sessions_open"]:
            assert time.monotonic() < deadline
        with RawInitiator(server.portal) as new:
            take_over(new)
