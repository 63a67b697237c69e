# SPDX-License-Identifier: Apache-2.0
"""Reads that go straight to the pump: no Python on the way; and whatever is not plain comes out as it always did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.peer import NAME, Talk, playing
from support.straight import Plain, calls_seen

import swd
from swd.disk import Disk
from swd.errors import BadDescriptor, DeadlineExceeded, InvalidArgument, StaleIdentity, SwdError
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

SIZE = 4 << 20
CONTENT = b"".join(n.to_bytes(8, "big") for n in range(SIZE // 8))
POWER_ON, CHANGED_INQUIRY = 0x29, 0x3F


@pytest.fixture
def lun() -> Lun:
    medium = RamMedium(SIZE)
    medium.write(0, CONTENT)
    return Lun(medium)


@pytest.fixture
def disk(lun: Lun, places: None) -> Iterator[Disk]:
    with TargetServer([TargetConfig(NAME, {0: lun})]) as server, swd.open(f"iscsi://{server.portal}/{NAME}/0") as disk:
        yield disk


def test_no_python_is_called_for_a_plain_read(disk: Disk) -> None:
    buffer = bytearray(8192)
    assert calls_seen(disk.pread_into, buffer, 4096) == {}
    assert buffer == CONTENT[4096 : 4096 + 8192]
    assert calls_seen(disk.pread, 8192, 4096) == {}


@pytest.mark.parametrize(
    ("length", "offset"),
    [
        *[(512, 0), (SIZE, 0), (1 << 20, SIZE - (1 << 20)), (512, SIZE - 512)],
        *[(1000, 0), (512, 7), (4096, SIZE - 512), (0, 0), (9, SIZE)],
    ],
)
def test_every_range_reads_what_is_there(disk: Disk, length: int, offset: int) -> None:
    wanted = CONTENT[offset : offset + length]
    buffer = bytearray(length)
    assert disk.pread(length, offset) == wanted
    assert disk.pread_into(buffer, offset) == len(wanted)
    assert buffer[: len(wanted)] == wanted
    assert disk.pread(np.int64(length), np.int64(offset)) == wanted
    assert disk.pread_into(np.zeros(length, np.uint8), np.int64(offset)) == len(wanted)


def test_the_bytes_of_pread_are_its_own(disk: Disk) -> None:
    first, second = disk.pread(512, 0), disk.pread(512, 512)
    assert (first, second) == (CONTENT[:512], CONTENT[512:1024])
    assert disk.pread(512, 0) is not first


def test_bad_arguments_are_told_as_ever(disk: Disk) -> None:
    for wrong in (-512, -1):
        with pytest.raises(InvalidArgument):
            disk.pread(512, wrong)
        with pytest.raises(InvalidArgument):
            disk.pread_into(bytearray(512), wrong)
    with pytest.raises(InvalidArgument):
        disk.pread(-512, 0)
    with pytest.raises(TypeError, match="read-only"):
        disk.pread_into(bytes(512), 0)
    for never in ("0", 0.0, None):
        with pytest.raises(TypeError):
            disk.pread(512, never)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        disk.pread_into(512, 0)  # type: ignore[arg-type]
    with pytest.raises((ValueError, BufferError, TypeError)):
        disk.pread_into(np.zeros((512, 2), np.uint8)[:, 0], 0)
    assert disk.pread(512, 1 << 70) == b""
    assert disk.pread_into(bytearray(512), 1 << 70) == 0


def test_a_closed_disk_does_not_go_straight(disk: Disk) -> None:
    disk.close()
    for read in (lambda: disk.pread(512, 0), lambda: disk.pread_into(bytearray(512), 0)):
        with pytest.raises(BadDescriptor):
            read()


def test_a_unit_attention_in_between_is_settled_by_the_policy(disk: Disk, lun: Lun) -> None:
    buffer = bytearray(4096)
    for ascq in (0, 3):
        lun.script.attention(POWER_ON, ascq)
        assert disk.pread_into(buffer, 0) == 4096
        assert buffer == CONTENT[:4096]
        lun.script.attention(POWER_ON, ascq)
        assert disk.pread(4096, 8192) == CONTENT[8192 : 8192 + 4096]
    assert calls_seen(disk.pread, 4096, 0) == {}


def test_a_unit_that_is_refused_is_refused_here(disk: Disk) -> None:
    disk.unit._refuse(lambda: StaleIdentity("another disk answers now"))  # type: ignore[attr-defined]
    for read in (lambda: disk.pread(512, 0), lambda: disk.pread_into(bytearray(512), 0)):
        with pytest.raises(StaleIdentity):
            read()


def test_many_threads_read_their_own(disk: Disk) -> None:
    def run(number: int) -> None:
        buffer = bytearray(4096)
        for n in range(200):
            offset = (number * 131 + n * 17) % (SIZE // 4096) * 4096
            disk.pread_into(buffer, offset)
            assert buffer == CONTENT[offset : offset + 4096]
            assert disk.pread(4096, offset) == buffer

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [None] * 6


def test_a_deadline_climbs_the_ladder_and_frees_the_buffer(places: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        assert (abort.function, abort.referenced_task_tag) == (1, command.itt)
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME, timeout=0.2) as session:
        reads = Disk(Plain(session), writable=False)
        place = bytearray(4096)
        with pytest.raises(DeadlineExceeded):
            reads.pread_into(place, 0)
        place.append(0)  # BufferError if it were still exported


def test_a_link_that_ends_is_an_error_and_frees_the_buffer(places: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        talk.sock.shutdown(socket.SHUT_RDWR)
        return []

    with playing(script) as peer, swd.connect(str(peer.portal), NAME, replacement_timeout=0) as session:
        reads = Disk(Plain(session), writable=False)
        place = bytearray(4096)
        with pytest.raises(SwdError):
            reads.pread_into(place, 0)
        place.append(0)
        with pytest.raises(SwdError):
            reads.pread(512, 0)


def test_a_close_from_another_thread_ends_the_wait(places: None) -> None:
    waiting = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        waiting.set()
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        reads = Disk(Plain(session), writable=False)

        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(reads.pread, 4096, 0)
            assert waiting.wait(10)
            session.close()
            assert isinstance(read.exception(10), BadDescriptor)
