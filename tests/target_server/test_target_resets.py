# SPDX-License-Identifier: Apache-2.0
"""What was begun before a reset reaches no medium after the answer to it, wherever the other session is just then
(SAM-5 7.7: the function is complete when no task that it ends will do anything more).
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from raw_initiator import RawInitiator, open_write, read_10, write_10
from test_target_changes import Halt

from swd.proto import pdu
from swd.target import Lun, RamMedium, TargetConfig, TargetServer, normal
from swd.target.media import Buffer
from swd.target.scsi.changes import Changes
from swd.target.scsi.target import ScsiTarget
from swd.target.tasks import WriteTask

NAME = "iqn.2026-01.org.example:resets"
SHORT = 0.15  # seconds in which nothing is to happen
OLD, NEW = b"o" * 512, b"n" * 512
CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET = 4, 5, 6, 7
REGISTER, RESERVE, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE = 0, 1, 5, 1

Function = Callable[[RawInitiator], int]


class Store(RamMedium):
    """Memory that is written by `write` only, which can be stopped."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(1 << 20)
        self._halt = halt

    def place(self, _offset: int, _length: int) -> None:  # type: ignore[override]
        return None

    def flat(self) -> None:  # type: ignore[override]
        return None

    def write(self, offset: int, data: Buffer) -> None:
        self._halt()
        super().write(offset, data)


class Arriving(Changes):
    """It stops who is about to put data where it belongs."""

    def __init__(self, lun: Lun, halt: Halt) -> None:
        super().__init__(lun.state.lock)
        self._halt = halt

    def __enter__(self) -> None:
        self._halt()
        super().__enter__()


@pytest.fixture
def halt() -> Iterator[Halt]:
    made = Halt()
    yield made
    made.go.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@contextmanager
def three_of(lun: Lun, *, compiled: bool = False) -> Iterator[tuple[RawInitiator, RawInitiator, RawInitiator]]:
    """Two that are logged in, and one that is not, of the same initiator with other ISIDs."""
    with TargetServer([TargetConfig(NAME, {0: lun})], compiled=compiled) as server, ExitStack() as stack:
        raws = [stack.enter_context(RawInitiator(server.portal, isid=b"\x80\0\0\0\0" + bytes([n]))) for n in (1, 2, 3)]
        for raw in raws[:2]:
            log_in(raw)
        yield raws[0], raws[1], raws[2]


def log_in(raw: RawInitiator) -> None:
    assert raw.login(NAME).status_class == 0
    raw.ready()


def managing(function: int) -> Function:
    def manage(raw: RawInitiator) -> int:
        raw.send(pdu.TaskManagementRequest(function=function, itt=raw.tag(), cmd_sn=raw.cmd_sn))
        answer = raw.receive().header
        assert isinstance(answer, pdu.TaskManagementResponse)
        return answer.response

    return manage


def reserve_out(raw: RawInitiator, action: int, key: int, action_key: int = 0, *, lun: int = 0,
                before_data: Callable[[], object] = lambda: None) -> int:  # fmt: skip
    """PERSISTENT RESERVE OUT for WRITE EXCLUSIVE; its status. `before_data` is called between command and data."""
    data = key.to_bytes(8, "big") + action_key.to_bytes(8, "big") + bytes(8)
    kind = 0 if action == REGISTER else WRITE_EXCLUSIVE
    tag = raw.command(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0]), lun=lun, data=data)
    r2t = raw.receive().header
    assert isinstance(r2t, pdu.R2T)
    before_data()
    raw.send(pdu.DataOut(itt=tag, ttt=r2t.ttt), data)
    return raw.finish(tag).status


def preempt_and_abort(raw: RawInitiator) -> int:
    return reserve_out(raw, PREEMPT_AND_ABORT, 1, 2)


FUNCTIONS = {
    "CLEAR TASK SET": managing(CLEAR_TASK_SET),
    "LOGICAL UNIT RESET": managing(LUN_RESET),
    "TARGET WARM RESET": managing(WARM_RESET),
    "TARGET COLD RESET": managing(COLD_RESET),
    "PREEMPT AND ABORT": preempt_and_abort,
}


def waits(first: Future[Any]) -> None:
    with pytest.raises(Late):
        first.result(SHORT)


def silent(raw: RawInitiator) -> bool:
    return not select.select([raw.sock], [], [], SHORT)[0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_write_that_is_being_carried_out_is_over(halt: Halt, pool: ThreadPoolExecutor, function: str) -> None:
    medium = Store(halt)
    with three_of(Lun(medium)) as (one, other, _):
        for raw, key in ((one, 1), (other, 2)):
            assert reserve_out(raw, REGISTER, 0, key) == 0
        halt.armed = True
        other.command(write_10(0, 1), expect=512, immediate_data=OLD)
        assert halt.there.wait(10)
        ended = pool.submit(FUNCTIONS[function], one)
        waits(ended)
        halt.go.set()
        assert ended.result(10) == 0
        assert bytes(medium.read(0, 512)) == OLD


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name[0] != "P"])
def test_data_that_is_being_taken_has_been(halt: Halt, pool: ThreadPoolExecutor, function: str) -> None:
    """The place of the data is the medium itself, and the rest of it does not come."""
    lun = Lun(RamMedium(1 << 20))
    lun.state.changes = Arriving(lun, halt)
    with three_of(lun) as (one, other, _):
        tag, ttt = open_write(other)
        halt.armed = True
        other.send(pdu.DataOut(itt=tag, ttt=ttt, final=False), OLD[:256])
        assert halt.there.wait(10)
        ended = pool.submit(FUNCTIONS[function], one)
        waits(ended)
        halt.go.set()
        assert ended.result(10) == 0
        assert bytes(lun.medium.read(0, 512)) == OLD[:256] + bytes(256)
        if function != "TARGET COLD RESET":
            other.send(pdu.DataOut(itt=tag, ttt=ttt, data_sn=1, buffer_offset=256), OLD[256:])
            assert other.run(bytes(6)).status == 2
            assert bytes(lun.medium.read(0, 512)) == OLD[:256] + bytes(256)


def test_a_write_that_was_judged_does_not_begin_behind_a_reset(
    halt: Halt, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passed the checks before the reset, and is no open task yet."""

    class Made(WriteTask):
        def __init__(self, *arguments: Any) -> None:
            halt()
            super().__init__(*arguments)

    monkeypatch.setattr(normal, "WriteTask", Made)
    with three_of(Lun(RamMedium(1 << 20))) as (one, other, _):
        halt.armed = True
        other.command(write_10(0, 1), data=OLD)
        assert halt.there.wait(10)
        ended = pool.submit(managing(LUN_RESET), one)
        waits(ended)
        halt.go.set()
        assert ended.result(10) == 0
        tag = other.command(bytes(6))
        while not isinstance(answer := other.receive().header, pdu.ScsiResponse):
            assert isinstance(answer, pdu.R2T)
        assert (answer.itt, answer.status) == (tag, 2)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "in Python"])
def test_no_write_begins_amid_a_reset(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    """One that comes just then is ended with the others, or ends with the attention; it is never let through."""
    lun = Lun(RamMedium(1 << 20))
    with three_of(lun, compiled=compiled) as (one, other, _):
        asked: list[bool] = []
        reset_unit = ScsiTarget.reset_unit

        def amid(target: ScsiTarget, unit: int) -> None:
            other.command(write_10(0, 1), data=OLD)
            asked.append(not silent(other))
            reset_unit(target, unit)

        monkeypatch.setattr(ScsiTarget, "reset_unit", amid)
        assert managing(LUN_RESET)(one) == 0
        assert asked == [compiled]  # the compiled path is not held up, and asked for the data
        if compiled:
            r2t = other.receive().header
            assert isinstance(r2t, pdu.R2T)
            other.send(pdu.DataOut(itt=r2t.itt, ttt=r2t.ttt), OLD)
            assert other.run(bytes(6)).sense == (6, 0x29, 3)
        else:
            assert other.finish(other.itt).sense == (6, 0x29, 3)
        assert other.run(read_10(0, 1), expect=512).data == bytes(512)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "in Python"])
def test_no_write_of_who_was_preempted_begins_behind_the_abort(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    lun = Lun(RamMedium(1 << 20))
    with three_of(lun, compiled=compiled) as (one, other, _):
        for raw, key in ((one, 1), (other, 2)):
            assert reserve_out(raw, REGISTER, 0, key) == 0
        assert reserve_out(other, RESERVE, 2) == 0
        abort = ScsiTarget.abort_tasks_of

        def then(target: ScsiTarget, *arguments: Any) -> None:
            abort(target, *arguments)
            other.command(write_10(0, 1), data=OLD)
            assert select.select([other.sock], [], [], 10)[0]

        monkeypatch.setattr(ScsiTarget, "abort_tasks_of", then)

        def looks() -> None:  # after the command, which says that things may change; so the compiled path may write
            assert other.run(write_10(0, 1), data=bytes(512)).status == 0

        assert reserve_out(one, PREEMPT_AND_ABORT, 1, 2, before_data=looks) == 0
        assert other.finish(other.itt, OLD).status == 0x18
        assert bytes(lun.medium.read(0, 512)) == bytes(512)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name[0] != "T"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "in Python"])
def test_writes_by_another_target_of_the_same_unit_are_ended(function: str, compiled: bool) -> None:
    """Where it has another LUN. What concerns the unit concerns all that lead to it."""
    lun = Lun(RamMedium(1 << 20))
    targets = [TargetConfig(NAME, {0: lun}), TargetConfig(NAME + "2", {1: lun})]
    with (
        TargetServer(targets, compiled=compiled) as server,
        RawInitiator(server.portal) as one,
        RawInitiator(server.portal) as other,
    ):
        log_in(one)
        other.login(NAME + "2")
        other.ready(1)
        assert reserve_out(one, REGISTER, 0, 1) == reserve_out(other, REGISTER, 0, 2, lun=1) == 0
        tag, ttt = open_write(other, 1, size=512)
        assert FUNCTIONS[function](one) == 0
        other.send(pdu.DataOut(itt=tag, ttt=ttt), OLD)
        attention = {"C": (0x2F, 0), "L": (0x29, 3), "P": (0x2A, 5)}[function[0]]
        assert other.run(bytes(6), lun=1).sense == (6, *attention)
        assert bytes(lun.medium.read(0, 512)) == bytes(512)


def test_two_that_preempt_each_other_do_not_wait_for_each_other(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, abort = threading.Barrier(2), ScsiTarget.abort_tasks_of

    def together(target: ScsiTarget, *arguments: Any) -> None:
        both.wait(10)
        abort(target, *arguments)

    monkeypatch.setattr(ScsiTarget, "abort_tasks_of", together)
    first, second = Lun(RamMedium(1 << 20)), Lun(RamMedium(1 << 20))
    with TargetServer([TargetConfig(NAME, {0: first, 1: second})]) as server, ExitStack() as stack:
        raws = [stack.enter_context(RawInitiator(server.portal, isid=b"\x80\0\0\0\0" + bytes([n]))) for n in (1, 2)]
        for raw, key in zip(raws, (1, 2), strict=True):
            raw.login(NAME)
            for lun in (0, 1):
                raw.ready(lun)
                assert reserve_out(raw, REGISTER, 0, key, lun=lun) == 0
        ends = [
            pool.submit(reserve_out, raw, PREEMPT_AND_ABORT, key, 3 - key, lun=lun)
            for raw, lun, key in zip(raws, (0, 1), (1, 2), strict=True)
        ]
        assert [end.result(10) for end in ends] == [0, 0]


def test_who_logs_in_meanwhile_is_reset_too(halt: Halt, pool: ThreadPoolExecutor) -> None:
    """He is not kept waiting by somebody else's slow command, and what he has begun is over, as everybody's."""
    medium = Store(halt)
    with three_of(Lun(medium)) as (one, other, late):
        halt.armed = True
        other.command(write_10(0, 1), expect=512, immediate_data=OLD)
        assert halt.there.wait(10)
        ended = pool.submit(managing(LUN_RESET), one)
        waits(ended)
        log_in(late)
        tag, ttt = open_write(late)
        halt.go.set()
        assert ended.result(10) == 0
        late.send(pdu.DataOut(itt=tag, ttt=ttt), NEW)
        assert late.run(bytes(6)).sense == (6, 0x29, 3)
        assert bytes(medium.read(0, 512)) == OLD


def test_what_comes_amid_a_cold_reset_is_not_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it take the attention, which says that caches may be lost, from who comes back."""
    lun, reset = Lun(RamMedium(1 << 20)), ScsiTarget.reset
    with three_of(lun) as (one, other, again):

        def amid(target: ScsiTarget, attention: tuple[int, int]) -> None:
            for lba in range(3):
                other.command(write_10(lba, 1), expect=512, immediate_data=OLD)
            assert silent(other)  # which has them by now
            reset(target, attention)

        monkeypatch.setattr(ScsiTarget, "reset", amid)
        assert managing(COLD_RESET)(one) == 0
        again.isid = other.isid
        log_in(again)
        assert bytes(lun.medium.read(0, 1536)) == bytes(1536)


def test_resets_of_both_sides_end(pool: ThreadPoolExecutor) -> None:
    """Each wants the turn of the other, again and again."""
    with three_of(Lun(RamMedium(1 << 20))) as (one, other, _):

        def work(raw: RawInitiator) -> None:
            for _ in range(50):
                assert managing(LUN_RESET)(raw) == 0
                while raw.run(bytes(6)).status:
                    pass
                assert raw.run(read_10(0, 1), expect=512).status in (0, 2)

        for done in [pool.submit(work, raw) for raw in (one, other)]:
            done.result(30)
