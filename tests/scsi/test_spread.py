# SPDX-License-Identifier: Apache-2.0
"""One disk over several sessions: every I/O in its place, shared out, and as whole as over one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import swd
from swd.disk import Disk
from swd.errors import BadDescriptor, BatchError, InvalidArgument, NoSuchDevice, StaleIdentity
from swd.scsi.unit import LogicalUnit
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:wide"
SIZE = 4 << 20
BLOCK = 4096


@pytest.fixture
def server(places: None) -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE)), 1: Lun(RamMedium(SIZE))})]) as server:
        yield server


def open_wide(server: TargetServer, mode: str = "r+b", *, sessions: int = 3) -> Disk:
    return swd.open(f"iscsi://{server.portal}/{NAME}/0?sessions={sessions}", mode)


def units(disk: Disk) -> tuple[LogicalUnit, ...]:
    assert isinstance(disk.unit, LogicalUnit)
    assert disk.unit._spread is not None
    return disk.unit._spread.units


def counted(disk: Disk, name: str) -> list[int]:
    """A counter of each session."""
    return [unit.session.statistics[name] for unit in units(disk)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 15, 16, 33, 500])
def test_a_batch_of_any_length_is_whole(server: TargetServer, count: int) -> None:
    rng = np.random.default_rng(count)
    places = rng.permutation(SIZE // BLOCK)[:count] * BLOCK
    data = rng.integers(0, 256, (count, BLOCK), np.uint8)
    with open_wide(server) as disk:
        disk.write_many(places, data)
        assert (disk.read_many(places, BLOCK) == data).all()
        assert all(disk.pread(BLOCK, int(place)) == row.tobytes() for place, row in zip(places, data, strict=True))


def test_a_stream_stays_on_one_session_and_the_next_takes_another(server: TargetServer) -> None:
    with open_wide(server) as disk:
        disk.write_many(np.arange(0, SIZE, BLOCK), np.arange(SIZE // 8).view(np.uint8))
        where = set()
        for _ in range(3):
            before = counted(disk, "commands")
            for at, block in enumerate(disk.stream(range(0, SIZE, BLOCK), BLOCK)):
                assert np.frombuffer(block, np.int64)[0] == at * BLOCK // 8
            done = [now - then for now, then in zip(counted(disk, "commands"), before, strict=True)]
            assert sorted(done) == [0, 0, SIZE // BLOCK]
            where.add(done.index(SIZE // BLOCK))
        assert where == {0, 1, 2}


def test_a_stream_ends_with_its_disk(server: TargetServer) -> None:
    with open_wide(server, "rb") as disk:
        blocks = disk.stream(range(0, SIZE, BLOCK), BLOCK)
        next(blocks)
        disk.close()
        with pytest.raises(BadDescriptor):
            list(blocks)


def test_the_work_is_shared_out(server: TargetServer) -> None:
    with open_wide(server) as disk:
        before = counted(disk, "commands")
        disk.read_many(np.arange(0, SIZE, BLOCK), BLOCK)
        for offset in range(0, 30 * BLOCK, BLOCK):
            disk.pread(BLOCK, offset)
        done = [now - then for now, then in zip(counted(disk, "commands"), before, strict=True)]
        assert sum(done) == SIZE // BLOCK + 30
        assert max(done) - min(done) <= 2


def test_what_fails_is_told_by_its_own_number(server: TargetServer) -> None:
    """Two of the I/Os are past the end of the disk as the target has it."""
    with open_wide(server) as disk:
        blocks = np.arange(0, 90 * 8, 8, np.int64)
        blocks[[7, 80]] = SIZE // 512 - 4
        failures = disk.unit.batch(False, blocks, bytearray(90 * BLOCK), queue_depth=8)
        assert sorted(index for index, _ in failures) == [7, 80]


def test_a_session_that_dies_fails_its_part(server: TargetServer) -> None:
    with open_wide(server, sessions=2) as disk:
        units(disk)[1].session.close()  # type: ignore[attr-defined]
        with pytest.raises(BatchError):
            disk.read_many(np.arange(0, SIZE, BLOCK), BLOCK)
        data = disk.pread(BLOCK, 0)
        assert len(data) == BLOCK


def test_unaligned_writes_of_many_threads_keep_their_neighbours(server: TargetServer) -> None:
    with open_wide(server) as disk:

        def run(number: int) -> None:
            for n in range(40):
                disk.pwrite(bytes([number + 1]) * 100, n * 800 + number * 100)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(run, range(8))) == [None] * 8
        wanted = b"".join(bytes([number + 1]) * 100 for number in range(8)) * 40
        assert disk.pread(len(wanted), 0) == wanted


def test_all_sessions_end_with_the_disk(server: TargetServer) -> None:
    disk = open_wide(server)
    sessions = [unit.session for unit in units(disk)]
    assert len(set(map(id, sessions))) == 3
    disk.close()
    assert not any(session.alive for session in sessions)  # type: ignore[attr-defined]


def test_no_session_is_left_where_the_last_cannot_be_had(server: TargetServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[swd.Session] = []
    unit = swd.Session.unit

    def third_fails(session: swd.Session, lun: int, **options: object) -> Disk:
        made.append(session)
        if len(made) == 2:
            raise NoSuchDevice("no such unit there")
        return unit(session, lun, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(swd.Session, "unit", third_fails)
    with pytest.raises(NoSuchDevice):
        open_wide(server)
    assert not any(session.alive for session in made)


def test_sessions_to_different_disks_are_refused(server: TargetServer, monkeypatch: pytest.MonkeyPatch) -> None:
    number = itertools.count()
    monkeypatch.setattr(Disk, "identity", property(lambda _disk: f"naa.500000000000000{next(number)}"))
    with pytest.raises(StaleIdentity, match="different disks"):
        open_wide(server, sessions=2)


def test_one_isid_is_one_session(server: TargetServer) -> None:
    with pytest.raises(InvalidArgument, match="isid"):
        swd.open(f"iscsi://{server.portal}/{NAME}/0?sessions=2&isid=800000000001")
    with pytest.raises(InvalidArgument, match=r"swd\.open"):
        swd.connect(str(server.portal), NAME, sessions=2)
