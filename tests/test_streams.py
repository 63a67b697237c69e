# SPDX-License-Identifier: Apache-2.0
"""`Disk.stream`: by a session's compiled stream and a group at a time, the same to whoever looks."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram_unit import RamUnit
from support.peer import NAME

import swd
from swd._fastpath import Stream
from swd.disk import Disk
from swd.errors import BadDescriptor, InvalidArgument, SwdError
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Plan

SIZE = 4 << 20
CONTENT = b"".join(n.to_bytes(8, "big") for n in range(SIZE // 8))


@pytest.fixture
def unit() -> RamUnit:
    unit = RamUnit(SIZE // 512)
    unit.data[:] = CONTENT
    return unit


@pytest.fixture(params=["compiled", "in groups", "several sessions"])
def disk(request: pytest.FixtureRequest, unit: RamUnit, places: None) -> Iterator[Disk]:
    if request.param == "in groups":
        yield Disk(unit, writable=False)
        return
    medium = RamMedium(SIZE)
    medium.write(0, CONTENT)
    sessions = 2 if request.param == "several sessions" else 1
    with (
        TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server,
        swd.open(f"iscsi://{server.portal}/{NAME}/0", sessions=sessions) as disk,
    ):
        assert isinstance(disk.stream([0], 512), Stream)
        yield disk


@pytest.mark.parametrize("queue_depth", [1, 5, 32])
@pytest.mark.parametrize("size", [512, 4096, 5000, 1 << 20])  # 5000 bytes are no whole blocks
def test_the_bytes_at_each_place_in_order(disk: Disk, size: int, queue_depth: int) -> None:
    places = [(n * 7919 * 512) % (SIZE - size) // 512 * 512 for n in range(23)]
    found = []
    for block in disk.stream(places, size, queue_depth=queue_depth):
        assert block.readonly
        found.append(bytes(block))
    assert found == [CONTENT[at : at + size] for at in places]
    assert list(disk.stream(np.zeros(0, np.int64), size)) == []
    assert [bytes(block) for block in disk.stream([5, 7], 0)] == [b"", b""]


def test_the_end_of_the_disk_cuts_a_block_short(disk: Disk) -> None:
    places = [0, SIZE - 512, SIZE - 256, 512, SIZE, SIZE + 512, 1 << 62, 1024]
    found = []
    for block in disk.stream(places, 512, queue_depth=2):
        assert block.readonly
        found.append(bytes(block))
    assert found == [CONTENT[at : at + 512] for at in places]
    with pytest.raises(InvalidArgument):
        list(disk.stream([SIZE, -512], 512))
    with pytest.raises(InvalidArgument):
        list(disk.stream([-512], 512))


def test_wrong_arguments_and_a_closed_disk(disk: Disk) -> None:
    for arguments, depth in ((([0], -1), 1), (([0], 512), 0), ((np.zeros((1, 1), np.int64), 512), 1)):
        with pytest.raises(InvalidArgument):
            disk.stream(*arguments, queue_depth=depth)
    with pytest.raises(TypeError):
        disk.stream([0.5], 512)
    under_way = disk.stream(range(0, SIZE, 512), 512, queue_depth=2)
    next(under_way)
    disk.close()
    with pytest.raises(BadDescriptor):
        for _ in under_way:
            pass
    with pytest.raises(BadDescriptor):
        disk.stream([0], 512)


def test_a_disk_that_is_closed_while_its_session_lives(places: None) -> None:
    with (
        TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as server,
        swd.connect(str(server.portal), NAME) as session,
        session.unit(0) as kept,
    ):
        disk = session.unit(0)
        blocks = disk.stream(range(0, SIZE, 512), 512, queue_depth=2)
        next(blocks)
        disk.close()
        with pytest.raises(BadDescriptor, match="the disk is closed"):
            next(blocks)
        assert kept.pread(512, 0) == bytes(512)


def test_a_bad_block_ends_it_in_its_turn(unit: RamUnit) -> None:
    unit.bad = {5}
    found = []
    with pytest.raises(SwdError) as caught:
        blocks = Disk(unit, writable=False).stream([n * 512 for n in range(9)], 512, queue_depth=4)
        found.extend(bytes(block) for block in blocks)
    assert caught.value.errno == errno.EIO
    assert b"".join(found) == CONTENT[: 5 * 512]


TROUBLE = """
[[fault]]
do = "busy"
nth = 30
[[fault]]
do = "close"
pdu = "SCSI_COMMAND"
nth = 90
[[fault]]
do = "check_condition"
sense = "3/11/00"
lba = "3000"
"""


def test_busy_lost_connections_and_bad_blocks_of_a_target(places: None) -> None:
    """The policy retries what is busy, the session comes back, and what cannot be read is an error in its turn."""
    medium = RamMedium(SIZE)
    medium.write(0, CONTENT)
    offsets = [*range(0, 1 << 20, 4096), 3000 * 512, 0]
    config = TargetConfig(NAME, {0: Lun(medium)}, limits=Limits(default_time2wait=0))
    with TargetServer([config], faults=Plan.parse(TROUBLE)) as server:
        with swd.open(f"iscsi://{server.portal}/{NAME}/0", default_time2wait=0) as disk:
            found = []
            with pytest.raises(SwdError) as caught:
                found.extend(bytes(block) for block in disk.stream(offsets, 4096, queue_depth=16))
            assert caught.value.errno == errno.EIO
            assert b"".join(found) == CONTENT[: 1 << 20]
            assert disk.pread(512, 0) == CONTENT[:512]
        assert server.faults is not None
        assert {"busy", "close", "check_condition"} <= {kind for kind, count in server.faults.counts.items() if count}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 3000), st.integers(1, 9))
def test_as_read_many_in_groups(places: list[int], size: int, queue_depth: int) -> None:
    unit = RamUnit(200)
    unit.data[:] = CONTENT[: len(unit.data)]
    disk = Disk(unit, writable=False)
    offsets = [place * 512 for place in places if place * 512 <= len(unit.data) - size]
    found = [bytes(block) for block in disk.stream(offsets, size, queue_depth=queue_depth)]
    assert found == [bytes(row) for row in disk.read_many(offsets, size)]
