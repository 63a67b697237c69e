# SPDX-License-Identifier: Apache-2.0
"""Writes that go straight to the pump: no Python on the way; locks, flushes and refusals as for all others."""

from __future__ import annotations

import array
import errno
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.peer import NAME, Talk, playing
from support.straight import Plain, calls_seen

import swd
from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.errors import BadDescriptor, CacheLost, DeadlineExceeded, InvalidArgument, MediumError, StaleIdentity, SwdError
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

SIZE = 4 << 20
POWER_ON = 0x29


@pytest.fixture
def lun() -> Lun:
    return Lun(RamMedium(SIZE))


@pytest.fixture
def url(lun: Lun, places: None) -> Iterator[str]:
    with TargetServer([TargetConfig(NAME, {0: lun})]) as server:
        yield f"iscsi://{server.portal}/{NAME}/0"


@pytest.fixture
def disk(url: str) -> Iterator[Disk]:
    with swd.open(url, "r+b") as disk:
        yield disk


def test_no_python_is_called_for_a_plain_write(disk: Disk) -> None:
    data = np.random.default_rng(1).integers(0, 256, 8192, np.uint8)
    assert calls_seen(disk.pwrite, data, 4096) == {}
    assert disk.pread(8192, 4096) == data.tobytes()
    assert disk.pwrite(data, 8192) == 8192


@pytest.mark.parametrize(
    ("length", "offset"),
    [
        *[(512, 0), (SIZE, 0), (1 << 20, SIZE - (1 << 20)), (512, SIZE - 512)],
        *[(1000, 0), (512, 7), (0, 0), (0, SIZE), (9, SIZE - 9)],
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_every_range_is_written(disk: Disk, length: int, offset: int, kind: type) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    assert disk.pwrite(kind(data), offset) == length
    wanted = bytearray(SIZE)
    wanted[offset : offset + length] = data
    assert disk.pread(SIZE, 0) == wanted
    assert disk.pwrite(kind(data), np.int64(offset)) == length  # type: ignore[arg-type]
    assert disk.pread(SIZE, 0) == wanted


def test_items_of_any_size_are_bytes(disk: Disk) -> None:
    assert disk.pwrite(array.array("q", range(64)), 512) == 512
    assert np.frombuffer(disk.pread(512, 512), np.int64).tolist() == list(range(64))


def test_bad_arguments_are_told_as_ever_and_write_nothing(disk: Disk) -> None:
    block = b"x" * 512
    for wrong in (-512, -1):
        with pytest.raises(InvalidArgument):
            disk.pwrite(block, wrong)
    for never in ("0", 0.0, None):
        with pytest.raises(TypeError):
            disk.pwrite(block, never)  # type: ignore[arg-type]
    for never in (512, "text", None):
        with pytest.raises(TypeError):
            disk.pwrite(never, 0)  # type: ignore[arg-type]
    with pytest.raises((ValueError, BufferError, TypeError)):
        disk.pwrite(np.zeros((512, 2), np.uint8)[:, 0], 0)
    for beyond in (SIZE, SIZE - 511, 1 << 70):
        with pytest.raises(MediumError) as caught:
            disk.pwrite(block, beyond)
        assert caught.value.errno == errno.ENOSPC
    assert not any(disk.pread(SIZE, 0))


def test_a_disk_for_reading_or_a_closed_one_takes_no_write(url: str) -> None:
    with swd.open(url) as disk, pytest.raises(BadDescriptor, match="reading only"):
        disk.pwrite(bytes(512), 0)
    with pytest.raises(BadDescriptor, match="closed"):
        disk.pwrite(bytes(512), 0)
    with swd.open(url, "r+b") as disk:
        disk.close()
        with pytest.raises(BadDescriptor, match="closed"):
            disk.pwrite(bytes(512), 0)


def test_a_unit_that_is_refused_is_refused_here(disk: Disk) -> None:
    disk.unit._refuse(lambda: StaleIdentity("another disk answers now"))  # type: ignore[attr-defined]
    with pytest.raises(StaleIdentity):
        disk.pwrite(bytes(512), 0)


def test_an_odd_answer_is_settled_by_the_policy(disk: Disk, lun: Lun) -> None:
    lun.script.attention(POWER_ON)
    assert disk.pwrite(b"a" * 4096, 0) == 4096
    assert disk.pread(4096, 0) == b"a" * 4096
    lun.script.full = True
    with pytest.raises(SwdError) as caught:
        disk.pwrite(b"b" * 4096, 0)
    assert caught.value.errno == errno.ENOSPC
    lun.script.full = False
    assert calls_seen(disk.pwrite, b"c" * 4096, 0) == {}
    with disk.unit.lock.modify(0, 8):  # nothing holds it any more
        pass


@pytest.mark.parametrize("at", [0, 3, 7])
def test_it_waits_for_who_changes_a_part_of_its_blocks(disk: Disk, at: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        with disk.unit.lock.modify(at, 1):
            writing = pool.submit(disk.pwrite, b"w" * 4096, 0)
            while not disk.unit.lock.waiting:
                threading.Event().wait(0.001)
            assert disk.pread(4096, 0) == bytes(4096)
            assert disk.pwrite(b"n" * 512, 4096) == 512  # a neighbour
        assert writing.result(10) == 4096
    assert disk.pread(4608, 0) == b"w" * 4096 + b"n" * 512


def test_who_changes_a_part_waits_for_it(places: None) -> None:
    """The target holds a write back; a change of some of its bytes goes on when it is answered, not before."""
    taken, go = threading.Event(), threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        taken.set()
        assert go.wait(10)
        talk.good(command)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        unit = Plain(session)
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(Disk(unit, writable=True).pwrite, bytes(512), 512)
            assert taken.wait(10)
            change = unit.lock.modify(1, 1)
            changing = pool.submit(change.__enter__)
            while not unit.lock.waiting:
                threading.Event().wait(0.001)
            assert not changing.done()
            go.set()
            assert writing.result(10) == 512
            assert changing.result(10) is None
            change.leave()


def test_a_flush_after_a_reset_tells_of_what_was_written(url: str, lun: Lun) -> None:
    with swd.open(url, "r+b") as disk:
        disk.pwrite(bytes(512), 0)
        disk.flush()
        disk.pwrite(bytes(512), 0)
        lun.script.attention(POWER_ON, 1)
        disk.pread(512, 0)
        disk.pwrite(bytes(512), 0)  # after the reset: but the one before is not safe
        with pytest.raises(CacheLost):
            disk.flush()
        disk.flush()


def is_free(lock: RangeLock) -> bool:
    entry = lock.try_write(0, 1 << 20)
    assert entry is not None
    entry.leave()
    with lock.modify(0, 1 << 20):
        return True


def test_a_deadline_climbs_the_ladder_and_frees_buffer_and_blocks(places: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        assert (abort.function, abort.referenced_task_tag) == (1, command.itt)
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME, timeout=0.2) as session:
        unit = Plain(session)
        data = bytearray(4096)
        with pytest.raises(DeadlineExceeded):
            Disk(unit, writable=True).pwrite(data, 0)
        data.append(0)  # BufferError if it were still exported
        assert is_free(unit.lock)


def test_a_link_that_ends_is_an_error_and_frees_buffer_and_blocks(places: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        talk.sock.shutdown(socket.SHUT_RDWR)
        return []

    with playing(script) as peer, swd.connect(str(peer.portal), NAME, replacement_timeout=0) as session:
        unit = Plain(session)
        disk, data = Disk(unit, writable=True), bytearray(4096)
        with pytest.raises(SwdError):
            disk.pwrite(data, 0)
        data.append(0)
        assert is_free(unit.lock)
        with pytest.raises(SwdError):
            disk.pwrite(bytes(512), 0)
        assert is_free(unit.lock)


def test_what_is_to_be_stable_is_copied_first(url: str) -> None:
    """bytes cannot change, and go straight; all else is copied, and goes the long way."""
    with swd.open(url, "r+b", stable_writes="copy") as disk:
        assert disk.stable_writes
        assert calls_seen(disk.pwrite, b"a" * 512, 0) == {}
        assert calls_seen(disk.pwrite, bytearray(b"b" * 512), 512) != {}
        assert disk.pread(1024, 0) == b"a" * 512 + b"b" * 512


def test_threads_that_write_whole_and_cut_blocks_lose_nothing(disk: Disk) -> None:
    """Each has its own bytes, and shares blocks with the next one."""

    def run(number: int) -> None:
        base = 100_000 * number
        for n in range(60):
            disk.pwrite(bytes([n]) * 100_000, base)  # cut at both ends
            disk.pwrite(bytes([number]) * 4096, SIZE // 2 + 4096 * number)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [None] * 6
    assert disk.pread(600_000, 0) == bytes([59]) * 600_000
    assert disk.pread(6 * 4096, SIZE // 2) == b"".join(bytes([n]) * 4096 for n in range(6))
