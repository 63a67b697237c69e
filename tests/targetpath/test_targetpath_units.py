# SPDX-License-Identifier: Apache-2.0
"""What makes a unit's next command Python's, and what sessions do to each other, with the compiled data path in use."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest
from target_server.raw_initiator import OPERATIONAL, RawInitiator, read_10, sixteen, write_10

from swd.proto import pdu
from swd.target import Lun, RamMedium, TargetConfig, TargetServer, compiled
from swd.target.faults import Plan

NAME = "iqn.2026-01.org.example:units"
SIZE = 4 << 20
BLOCK = bytes(range(256)) * 2


@pytest.fixture
def disk() -> Lun:
    return Lun(RamMedium(SIZE))


@pytest.fixture
def server(disk: Lun) -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: disk, 1: Lun(RamMedium(SIZE), read_only=True)})]) as server:
        yield server


@pytest.fixture
def first(server: TargetServer) -> Iterator[RawInitiator]:
    yield from _logged_in(server, b"\x80\0\0\0\0\1")


@pytest.fixture
def second(server: TargetServer) -> Iterator[RawInitiator]:
    yield from _logged_in(server, b"\x80\0\0\0\0\2")


def _logged_in(server: TargetServer, isid: bytes) -> Iterator[RawInitiator]:
    with RawInitiator(server.portal, isid=isid) as raw:
        raw.login(NAME)
        raw.ready(0)
        raw.ready(1)
        yield raw


def compiled_answers(server: TargetServer) -> int:
    """SCSI answers that Python knows nothing of."""
    paths = [connection._path for connection in server._connections if connection._path is not None]
    return sum(path._path.counts()[2].get(0x25, 0) + path._path.counts()[2].get(0x21, 0) for path in paths)


def write(raw: RawInitiator, lba: int, data: bytes, lun: int = 0) -> tuple[int, tuple[int, int, int] | None]:
    ended = raw.finish(raw.command(write_10(lba, len(data) // 512), lun=lun, expect=len(data), immediate_data=data))
    return ended.status, ended.sense


def test_what_is_written_is_read(server: TargetServer, first: RawInitiator, second: RawInitiator) -> None:
    before = compiled_answers(server)
    assert write(first, 7, BLOCK) == (0, None)
    assert second.run(read_10(7, 1), expect=512).data == BLOCK
    assert compiled_answers(server) == before + 2


def test_a_command_to_one_of_many_units_asks_about_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among a thousand; and its attention, once taken, is no longer in the way of the compiled path."""
    asked = []
    real = compiled.access
    monkeypatch.setattr(compiled, "access", lambda session, unit: (asked.append(unit), real(session, unit))[1])
    medium = RamMedium(SIZE)
    many = {number: Lun(medium, serial=f"{number}") for number in range(1000)}
    with TargetServer([TargetConfig(NAME, many)]) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready(7)
        asked.clear()
        raw.ready(200)
        for _ in range(5):
            assert raw.run(bytes([0x12, 0, 0, 0, 36, 0]), lun=200, expect=36).status == 0
        assert len(asked) == 6
        before = compiled_answers(server)
        assert raw.run(read_10(0, 1), lun=200, expect=512).status == 0
        assert compiled_answers(server) == before + 1
        assert raw.run(read_10(0, 1), lun=201, expect=512).sense == (6, 0x29, 0)


def test_switches_hold_for_the_next_command(disk: Lun, first: RawInitiator) -> None:
    assert write(first, 0, BLOCK) == (0, None)
    disk.script.write_protected = True
    assert write(first, 0, BLOCK) == (2, (7, 0x27, 0))
    assert first.run(read_10(0, 1), expect=512).data == BLOCK
    disk.script.write_protected = False
    disk.script.full = True
    assert write(first, 0, BLOCK) == (2, (7, 0x27, 7))
    disk.script.full = False
    assert write(first, 0, BLOCK) == (0, None)


def test_a_read_only_unit_is_read(server: TargetServer, first: RawInitiator) -> None:
    before = compiled_answers(server)
    assert write(first, 0, BLOCK, lun=1) == (2, (7, 0x27, 0))
    assert first.run(read_10(0, 1), lun=1, expect=512).data == bytes(512)
    assert compiled_answers(server) == before + 1


def test_an_attention_comes_first(disk: Lun, first: RawInitiator, second: RawInitiator) -> None:
    disk.attention(0x2A, 0x09)  # CAPACITY DATA HAS CHANGED
    for raw in (first, second):
        assert raw.run(read_10(0, 1), expect=512).sense == (6, 0x2A, 9)
        assert raw.run(read_10(0, 1), expect=512).data == bytes(512)


def test_a_reset_by_another_session_comes_first(first: RawInitiator, second: RawInitiator) -> None:
    second.send(pdu.TaskManagementRequest(function=5, lun=0, itt=second.tag(), cmd_sn=second.cmd_sn))
    assert isinstance(second.receive().header, pdu.TaskManagementResponse)
    assert write(first, 0, BLOCK) == (2, (6, 0x29, 3))
    assert first.run(read_10(0, 1), expect=512).data == bytes(512)


def test_a_write_that_another_session_aborted_writes_no_more(first: RawInitiator, second: RawInitiator) -> None:
    data = BLOCK * 256
    tag = first.command(write_10(0, 256), expect=len(data), write=True)
    r2t = first.receive().header
    assert isinstance(r2t, pdu.R2T)
    half = r2t.desired_data_transfer_length // 2
    out = pdu.DataOut(itt=tag, ttt=r2t.ttt, final=False)
    first.send(out, data[:half])
    first.send(pdu.NopOut(immediate=True, itt=first.tag(), cmd_sn=first.cmd_sn))
    assert isinstance(first.receive().header, pdu.NopIn)  # so that half of it is there
    second.send(pdu.TaskManagementRequest(function=5, lun=0, itt=second.tag(), cmd_sn=second.cmd_sn))
    assert isinstance(second.receive().header, pdu.TaskManagementResponse)
    first.send(pdu.DataOut(itt=tag, ttt=r2t.ttt, data_sn=1, buffer_offset=half), data[half:])
    assert first.run(bytes(6)).sense == (6, 0x29, 3)
    assert first.run(read_10(0, 256), expect=len(data)).data == data[:half] + bytes(len(data) - half)


def test_a_write_aborted_within_a_data_segment_writes_no_more(first: RawInitiator, second: RawInitiator) -> None:
    """The rest of the segment has nowhere to go, but has to be read."""
    data = BLOCK * 128
    tag = first.tag()
    command = pdu.ScsiCommand(
        itt=tag, cdb=write_10(0, 128).ljust(16, b"\0"), cmd_sn=first.cmd_sn, write=True,
        expected_data_transfer_length=len(data), data_segment_length=len(data),
    ).pack()  # fmt: skip
    first.cmd_sn += 1
    first.sock.sendall(command + data[:40000])
    while second.run(read_10(70, 1), expect=512).data != BLOCK:
        pass  # until the first 40000 bytes have been taken
    second.send(pdu.TaskManagementRequest(function=5, lun=0, itt=second.tag(), cmd_sn=second.cmd_sn))
    assert isinstance(second.receive().header, pdu.TaskManagementResponse)
    first.sock.sendall(data[40000:])
    assert first.run(bytes(6)).sense == (6, 0x29, 3)
    found = first.run(read_10(0, 128), expect=len(data)).data
    assert found[:40000] == data[:40000]
    assert found[40000:] == bytes(len(data) - 40000)


def test_the_tag_of_an_open_write_is_in_use(first: RawInitiator) -> None:
    tag = first.command(write_10(0, 8), expect=4096, write=True)
    r2t = first.receive().header
    assert isinstance(r2t, pdu.R2T)
    read = pdu.ScsiCommand(
        itt=tag, cdb=read_10(0, 8).ljust(16, b"\0"), cmd_sn=first.cmd_sn, read=True, expected_data_transfer_length=4096
    )
    first.cmd_sn += 1
    first.send(read)
    answer = first.receive().header
    assert isinstance(answer, pdu.Reject)
    assert answer.reason == 0x07  # TASK IN PROGRESS (RFC 7143 11.17.1)
    first.send(pdu.DataOut(itt=tag, ttt=r2t.ttt), BLOCK * 8)
    assert first.finish(tag).status == 0


def unmap(raw: RawInitiator, lba: int) -> None:
    """Eight blocks."""
    parameters = b"\0\x16\0\x10" + bytes(4) + lba.to_bytes(8, "big") + b"\0\0\0\x08" + bytes(4)
    assert raw.run(b"\x42" + bytes(7) + b"\x18\0", data=parameters).status == 0


def test_blocks_unmapped_between_a_write_and_its_data_have_storage(disk: Lun, first: RawInitiator) -> None:
    tag = first.command(write_10(4000, 8), expect=4096, write=True)
    r2t = first.receive().header
    assert isinstance(r2t, pdu.R2T)
    unmap(first, 4000)
    assert disk.medium.extent(4000 * 512)[0] is False
    first.send(pdu.DataOut(itt=tag, ttt=r2t.ttt), BLOCK * 8)
    assert first.finish(tag).status == 0
    assert disk.medium.extent(4000 * 512) == (True, 4096)
    assert first.run(read_10(4000, 8), expect=4096).data == BLOCK * 8


def test_provisioning_follows_what_was_written(first: RawInitiator) -> None:
    """GET LBA STATUS (SBC-3 5.6) after writes, UNMAP, and writes again."""

    def mapped(lba: int) -> bool:
        data = first.run(b"\x9e\x12" + lba.to_bytes(8, "big") + bytes(3) + b"\x18\0\0", expect=24).data
        return data[20] == 0

    assert not mapped(4000)
    assert write(first, 4000, BLOCK * 8) == (0, None)
    assert mapped(4000)
    unmap(first, 4000)
    assert not mapped(4000)
    assert first.run(read_10(4000, 8), expect=4096).data == bytes(4096)
    assert first.run(sixteen(0x8A, 4000, 8), data=BLOCK * 8).status == 0
    assert mapped(4000)


def test_an_ordered_command_does_not_reach_back(server: TargetServer, disk: Lun) -> None:
    """What reads before it have queued, and the peer has not taken, is not changed by an ORDERED write behind them."""
    old, new = b"o" * (2 << 20), b"n" * 65536
    disk.medium.write(0, old)
    with RawInitiator(server.portal) as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        raw.login(NAME)
        raw.ready()
        tags = [raw.command(read_10(0, 4096), expect=len(old)) for _ in range(3)]
        ordered = pdu.ScsiCommand(
            itt=99, cdb=write_10(4096 - 128, 128).ljust(16, b"\0"), cmd_sn=raw.cmd_sn, write=True, attributes=2,
            expected_data_transfer_length=len(new),
        )  # fmt: skip
        raw.send(ordered, new)
        while bytes(disk.medium.read(len(old) - 1, 1)) != b"n":
            select.select([], [], [], 0.01)
        for tag in tags:
            assert raw.finish(tag).data == old
        assert raw.finish(99).status == 0


def compare_and_write(raw: RawInitiator, lba: int, old: bytes, new: bytes) -> None:
    cdb = b"\x89\0" + lba.to_bytes(8, "big") + bytes([0, 0, 0, len(old) // 512, 0, 0])
    assert raw.run(cdb, data=old + new).status == 0


@pytest.mark.parametrize("digest", ["None", "CRC32C"])
def test_a_compare_and_write_does_not_reach_back(
    server: TargetServer, disk: Lun, second: RawInitiator, digest: str
) -> None:
    """Reads of another session that have been answered, and are on their way out, show the blocks before it."""
    old, new = b"o" * (2 << 20), b"n" * (255 * 512)
    disk.medium.write(0, old)
    with RawInitiator(server.portal) as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        raw.login(NAME, operational=tuple({**dict(OPERATIONAL), "DataDigest": digest}.items()))
        raw.ready()
        before = compiled_answers(server)
        tags = [raw.command(read_10(0, 4096), expect=len(old)) for _ in range(3)]
        while digest == "None" and compiled_answers(server) < before + 3 * 32:
            select.select([], [], [], 0.01)  # until they have been answered
        compare_and_write(second, 4096 - 255, b"o" * len(new), new)
        after = old[: -len(new)] + new
        seen = [{old: "before", after: "after"}.get(raw.finish(tag).data) for tag in tags]
        if digest == "None":
            assert seen == ["before"] * 3
        else:  # they are answered one by one, as the peer takes them
            assert seen == ["before"] * seen.count("before") + ["after"] * seen.count("after")


def test_reads_and_writes_wait_while_the_memory_is_for_one(
    server: TargetServer, disk: Lun, first: RawInitiator, second: RawInitiator
) -> None:
    """Of sessions that use it and of one that is new, and nobody else's."""
    assert write(first, 0, BLOCK) == (0, None)
    flat = disk.medium.flat()
    flat.stop()
    try:
        tag = first.command(read_10(0, 1), expect=512)
        other = second.command(write_10(8, 1), expect=512, immediate_data=BLOCK)
        third = RawInitiator(server.portal, isid=b"\x80\0\0\0\0\3")
        third.login(NAME)
        third.command(read_10(0, 1), expect=512)  # its attention
        waiting = [third.sock, first.sock, second.sock]
        assert not select.select(waiting, [], [], 0.2)[0]
        assert bytes(disk.medium.read(8 * 512, 512)) == bytes(512)
        disk.medium.write(0, bytes(512))
    finally:
        flat.go()
    with third:
        assert third.receive().header.status == 2
        assert third.run(read_10(0, 1), expect=512).data == bytes(512)
    assert first.finish(tag).data == bytes(512)
    assert second.finish(other).status == 0
    assert second.run(read_10(8, 1), expect=512).data == BLOCK


def test_a_reservation_of_another_session_holds(first: RawInitiator, second: RawInitiator) -> None:
    """EXCLUSIVE ACCESS, taken and given back while the other session is busy (SPC-4 5.12)."""

    def persistent(action: int, *, key: int = 0, new_key: int = 0) -> int:
        parameters = key.to_bytes(8, "big") + new_key.to_bytes(8, "big") + bytes(8)
        return second.run(bytes([0x5F, action, 3, 0, 0, 0, 0, 0, 24, 0]), data=parameters).status

    assert write(first, 0, BLOCK) == (0, None)
    assert persistent(0, new_key=7) == 0
    assert write(first, 0, BLOCK) == (0, None)
    assert persistent(1, key=7) == 0
    assert write(first, 0, BLOCK) == (0x18, None)
    assert first.run(read_10(0, 1), expect=512).status == 0x18
    assert write(second, 0, BLOCK) == (0, None)
    assert persistent(2, key=7) == 0
    assert write(first, 0, BLOCK) == (0, None)


def test_write_protection_by_an_initiator_holds(first: RawInitiator, second: RawInitiator) -> None:
    """SWP of the control mode page, set by one session and reported to the other (SPC-4 7.5.8)."""
    before = second.run(bytes([0x1A, 8, 0x0A, 0, 255, 0]), expect=255).data
    page = bytearray(before[4:])
    page[4] |= 0x08
    assert write(first, 0, BLOCK) == (0, None)
    assert second.run(bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), data=bytes(4) + bytes(page)).status == 0
    assert write(first, 0, BLOCK) == (2, (6, 0x2A, 1))
    assert write(first, 0, BLOCK) == (2, (7, 0x27, 0))
    assert first.run(read_10(0, 1), expect=512).data == BLOCK


def test_a_fault_plan_keeps_a_connection_in_python(disk: Lun) -> None:
    with TargetServer([TargetConfig(NAME, {0: disk})], faults=Plan()) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        assert write(raw, 3, BLOCK) == (0, None)
        assert [one._path for one in server._connections] == [None]
