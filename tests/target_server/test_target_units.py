# SPDX-License-Identifier: Apache-2.0
"""The device server without a socket: CDBs in, replies and sense out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_initiator import read_10, sixteen, write_10
from scsi_bench import BLOCKS, ILLEGAL, NAME, Bench

from swd.errors import InvalidArgument
from swd.target.config import Lun, TargetConfig
from swd.target.media import FileMedium, RamMedium
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reply import CHECK_CONDITION, GOOD, Later, Reply, Request, WantData
from swd.target.scsi.target import ScsiTarget
from swd.target.scsi.unit import TABLE

ABSENT = 7 << 48


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pattern(blocks: int, size: int = 512) -> bytes:
    return b"".join(number.to_bytes(4, "big") * (size // 4) for number in range(1, blocks + 1))


# Reading and writing

WRITES = {
    "6": (bytes([0x0A, 0, 0, 3, 4, 0]), bytes([0x08, 0, 0, 3, 4, 0])),
    "10": (write_10(3, 4), read_10(3, 4)),
    "12": (bytes([0xAA, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0]), bytes([0xA8, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0])),
    "16": (sixteen(0x8A, 3, 4), sixteen(0x88, 3, 4)),
}


@pytest.mark.parametrize("size", WRITES)
@pytest.mark.parametrize(("lun", "block"), [(0, 512), (1, 4096)])
def test_each_size_of_write_is_read_back(bench: Bench, size: str, lun: int, block: int) -> None:
    write, read = WRITES[size]
    data = pattern(4, block)
    bench.good(write, lun, data)
    assert bench.good(read, lun) == data
    assert bench.good(sixteen(0x88, 2, 6), lun) == bytes(block) + data + bytes(block)


def test_six_byte_commands_take_zero_for_256(bench: Bench) -> None:
    assert len(bench.good(bytes([0x08, 0, 0, 0, 0, 0]))) == 256 * 512


def test_a_write_that_was_cut_short_stores_whole_blocks_only(bench: Bench) -> None:
    want = bench.start(write_10(0, 2))
    assert isinstance(want, WantData)
    assert bench.target.units[0].finish(want, memoryview(b"\xee" * 700)).status == GOOD
    assert bench.good(read_10(0, 2)) == b"\xee" * 512 + bytes(512)


@pytest.mark.parametrize("opcode", [0x28, 0x2A, 0x2F])
@pytest.mark.parametrize(("lba", "blocks"), [(BLOCKS, 0), (BLOCKS, 1), (BLOCKS - 1, 2), (0xFFFFFFFF, 1)])
def test_out_of_range(bench: Bench, opcode: int, lba: int, blocks: int) -> None:
    cdb = bytes([opcode]) + read_10(lba, blocks)[1:]
    assert bench.sense(cdb) == (ILLEGAL, 0x21, 0)


@pytest.mark.parametrize("opcode", [0x88, 0x8A, 0x8F, 0x91, 0x93])
def test_out_of_range_in_64_bits(bench: Bench, opcode: int) -> None:
    assert bench.sense(sixteen(opcode, (1 << 64) - 1, 1)) == (ILLEGAL, 0x21, 0)


def test_no_blocks_at_the_last_block_are_fine(bench: Bench) -> None:
    assert bench.good(read_10(BLOCKS - 1, 0)) == b""
    assert bench.good(write_10(BLOCKS - 1, 0)) == b""


@pytest.mark.parametrize("cdb", [bytes([0x28, 0x20]), bytes([0x2A, 0x20]), bytes([0x2F, 0xE0]), bytes([0x2F, 0x04])])
def test_protection_information_is_refused(bench: Bench, cdb: bytes) -> None:
    assert bench.sense(cdb + read_10(0, 1)[2:]) == (ILLEGAL, 0x24, 0)


def test_a_transfer_beyond_block_limits_is_refused() -> None:
    target = ScsiTarget(TargetConfig(NAME, {0: Lun(RamMedium(128 << 20))}))
    nexus = target.nexuses.enter(NexusId("a", b"1"))
    nexus.take(0)
    reply = target.execute(0, Request(sixteen(0x88, 0, (32 << 20) // 512 + 1), nexus))
    assert isinstance(reply, Reply)
    assert reply.sense[12] == 0x24


def test_verify_compares(bench: Bench) -> None:
    bench.good(write_10(0, 4), data=pattern(4))
    assert bench.good(bytes([0x2F, 0x02]) + read_10(0, 4)[2:], data=pattern(4)) == b""
    wrong = bytearray(pattern(4))
    wrong[1030] ^= 1
    reply = bench.run(bytes([0x2F, 0x02]) + read_10(0, 4)[2:], data=bytes(wrong))
    assert (reply.sense[2], reply.sense[12]) == (0xE, 0x1D)
    assert reply.sense[0] == 0xF0
    assert int.from_bytes(reply.sense[3:7], "big") == 1030


def test_verify_compares_one_block_with_all(bench: Bench) -> None:
    bench.good(write_10(0, 2), data=b"\x11" * 1024)
    assert bench.good(bytes([0x2F, 0x06]) + read_10(0, 2)[2:], data=b"\x11" * 512) == b""
    assert bench.sense(bytes([0x2F, 0x06]) + read_10(0, 3)[2:], data=b"\x11" * 512) == (0xE, 0x1D, 0)


@pytest.mark.parametrize("cdb", [write_10(0, 1), sixteen(0x93, 0, 1), bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0])])
def test_a_write_protected_unit_does_not_change(bench: Bench, cdb: bytes) -> None:
    assert bench.sense(cdb, 2) == (7, 0x27, 0)


# Provisioning


def unmap(*ranges: tuple[int, int]) -> tuple[bytes, bytes]:
    body = b"".join(lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4) for lba, blocks in ranges)
    data = (len(body) + 6).to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes(4) + body
    return bytes([0x42, 0, 0, 0, 0, 0, 0]) + len(data).to_bytes(2, "big") + b"\0", data


def test_unmapped_blocks_read_as_zeros(bench: Bench) -> None:
    bench.good(write_10(0, 32), data=b"\xaa" * (32 * 512))
    cdb, data = unmap((1, 2), (8, 16))
    bench.good(cdb, data=data)
    blocks = [any(bench.good(read_10(lba, 1))) for lba in range(32)]
    assert blocks == [lba not in (1, 2, *range(8, 24)) for lba in range(32)]


def test_a_bad_unmap_range_touches_nothing(bench: Bench) -> None:
    bench.good(write_10(0, 1), data=b"\xaa" * 512)
    cdb, data = unmap((0, 1), (BLOCKS, 1))
    assert bench.sense(cdb, data=data) == (ILLEGAL, 0x21, 0)
    assert bench.good(read_10(0, 1)) == b"\xaa" * 512


def test_unmap_needs_thin_provisioning_and_a_header(bench: Bench) -> None:
    cdb, _ = unmap((0, 1))
    assert bench.sense(cdb, 1) == (ILLEGAL, 0x20, 0)
    assert bench.sense(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 4, 0]), data=bytes(4)) == (ILLEGAL, 0x1A, 0)


def test_too_many_unmap_descriptors(bench: Bench) -> None:
    cdb, data = unmap(*[(0, 1)] * 257)
    assert bench.sense(cdb, data=data) == (ILLEGAL, 0x26, 0)


@pytest.mark.parametrize("block", [b"\xab" * 512, bytes(512)])
def test_write_same_repeats_its_block(bench: Bench, block: bytes) -> None:
    bench.good(write_10(0, 8), data=b"\x55" * 4096)
    bench.good(sixteen(0x93, 2, 3), data=block)
    assert bench.good(read_10(0, 8)) == b"\x55" * 1024 + block * 3 + b"\x55" * 1536


def test_write_same_without_data_writes_zeros(bench: Bench) -> None:
    bench.good(write_10(0, 2), data=b"\x55" * 1024)
    bench.good(sixteen(0x93, 0, 1, flags=0x09))
    assert bench.good(read_10(0, 2)) == bytes(512) + b"\x55" * 512


def test_write_same_is_held_to_the_block_limits_page(bench: Bench) -> None:
    assert bench.sense(sixteen(0x93, 0, 0)) == (ILLEGAL, 0x24, 0)
    assert bench.sense(sixteen(0x93, 0, 1, flags=0x08), 1) == (ILLEGAL, 0x24, 0)  # UNMAP on a thick unit


def lba_status(bench: Bench, lba: int = 0, room: int = 4096) -> list[tuple[int, int, int]]:
    """(LBA, blocks, status) of each run."""
    data = bench.good(bytes([0x9E, 0x12]) + lba.to_bytes(8, "big") + room.to_bytes(4, "big"))
    assert int.from_bytes(data[:4], "big") + 4 == len(data) or len(data) == room
    body = [data[at : at + 16] for at in range(8, len(data), 16)]
    return [(int.from_bytes(run[:8], "big"), int.from_bytes(run[8:12], "big"), run[12]) for run in body]


@pytest.mark.parametrize("kind", ["ram", "file"])
@pytest.mark.parametrize("block", [512, 4096])
def test_lba_status_follows_writes_and_unmaps(kind: str, block: int, tmp_path: Path) -> None:
    bench, page = Bench(), 65536 // block  # as large as any page or file system block
    size = 8 * 65536
    medium = RamMedium(size) if kind == "ram" else FileMedium(tmp_path / "image", size=size, create=True)
    bench.target = ScsiTarget(TargetConfig(NAME, {0: Lun(medium, block_size=block)}))
    assert lba_status(bench) == [(0, 8 * page, 1)]
    bench.good(write_10(2 * page, 4 * page), data=b"\xff" * (4 * 65536))
    medium.flush()
    assert lba_status(bench) == [(0, 2 * page, 1), (2 * page, 4 * page, 0), (6 * page, 2 * page, 1)]
    cdb, data = unmap((3 * page, page))
    bench.good(cdb, data=data)
    assert lba_status(bench, lba=3 * page, room=24) == [(3 * page, page, 1)]
    assert [status for _, _, status in lba_status(bench)] == [1, 0, 1, 0, 1]
    assert bench.sense(bytes([0x9E, 0x12]) + (8 * page).to_bytes(8, "big") + bytes(4)) == (ILLEGAL, 0x21, 0)


def test_unmap_punches_a_file(tmp_path: Path) -> None:
    medium = FileMedium(tmp_path / "image", size=1 << 20, create=True)
    bench = Bench()
    bench.target = ScsiTarget(TargetConfig(NAME, {0: Lun(medium)}))
    bench.nexus.take(0)
    bench.good(write_10(0, 2048), data=b"\xff" * (1 << 20))
    medium.flush()
    before = (tmp_path / "image").stat().st_blocks
    cdb, data = unmap((0, 2048))
    bench.good(cdb, data=data)
    assert (tmp_path / "image").stat().st_blocks < before


# Identity, capacity, modes


def test_standard_inquiry(bench: Bench) -> None:
    data = bench.good(bytes([0x12, 0, 0, 0, 255, 0]))
    assert (data[0], data[2], data[4] + 5) == (0, 6, len(data))
    assert data[8:16] == b"SWD     "


def test_inquiry_rules(bench: Bench) -> None:
    assert bench.sense(bytes([0x12, 0, 0x80, 0, 255, 0])) == (ILLEGAL, 0x24, 0)
    assert bench.sense(bytes([0x12, 1, 0xC0, 0, 255, 0])) == (ILLEGAL, 0x24, 0)
    assert len(bench.good(bytes([0x12, 0, 0, 0, 5, 0]))) == 5
    assert bench.good(bytes([0x12, 0, 0, 0, 0, 0])) == b""


def page(bench: Bench, code: int, lun: int = 0) -> bytes:
    data = bench.good(bytes([0x12, 1, code, 4, 0, 0]), lun)
    assert data[1] == code
    assert int.from_bytes(data[2:4], "big") == len(data) - 4
    return data[4:]


def test_supported_pages_are_sorted_and_all_there(bench: Bench) -> None:
    codes = list(page(bench, 0))
    assert codes == sorted(codes)
    assert {0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2} == set(codes)
    for code in codes:
        page(bench, code)


def test_identity_is_stable_strong_and_one_a_unit(bench: Bench) -> None:
    first, second = page(bench, 0x83), page(bench, 0x83, 1)
    assert first == page(Bench(), 0x83)
    assert first[:4] == bytes([0x01, 0x03, 0, 16])
    assert first[4] >> 4 == 6
    assert first[4:20] != second[4:20]
    assert int.from_bytes(first[4:8], "big") >> 4 & 0xFFFFFF == 0x025357  # a company id with the local bit, not zero
    assert page(bench, 0x80) != page(bench, 0x80, 1)


def test_one_serial_is_one_identity_over_two_targets() -> None:
    names = []
    for target_name in (NAME, NAME + "2"):
        target = ScsiTarget(TargetConfig(target_name, {0: Lun(RamMedium(4096), serial="S1")}))
        nexus = target.nexuses.enter(NexusId("a", b"1"))
        reply = target.execute(0, Request(bytes([0x12, 1, 0x83, 4, 0]).ljust(16, b"\0"), nexus))
        assert isinstance(reply, Reply)
        names.append(bytes(reply.data)[4:24])
    assert names[0] == names[1]


def test_capacity(bench: Bench) -> None:
    assert bench.good(bytes([0x25]) + bytes(9)) == (BLOCKS - 1).to_bytes(4, "big") + (512).to_bytes(4, "big")
    long = bench.good(bytes([0x9E, 0x10]) + bytes(8) + (32).to_bytes(4, "big") + bytes(2))
    assert (int.from_bytes(long[:8], "big"), int.from_bytes(long[8:12], "big")) == (BLOCKS - 1, 512)
    assert (long[13], long[14]) == (3, 0xC0)  # 4096-byte physical blocks; LBPME and LBPRZ
    thick = bench.good(bytes([0x9E, 0x10]) + bytes(8) + (32).to_bytes(4, "big") + bytes(2), 1)
    assert (int.from_bytes(thick[:8], "big"), int.from_bytes(thick[8:12], "big"), thick[14]) == (BLOCKS - 1, 4096, 0)


def test_capacity_beyond_32_bits(tmp_path: Path) -> None:
    medium = FileMedium(tmp_path / "sparse", size=(1 << 41) + 512, create=True)
    target = ScsiTarget(TargetConfig(NAME, {0: Lun(medium)}))
    nexus = target.nexuses.enter(NexusId("a", b"1"))
    nexus.take(0)
    reply = target.execute(0, Request(bytes([0x25]).ljust(16, b"\0"), nexus))
    assert isinstance(reply, Reply)
    assert bytes(reply.data[:4]) == b"\xff" * 4


def test_modes(bench: Bench) -> None:
    short = bench.good(bytes([0x1A, 0, 0x3F, 0, 255, 0]))
    assert (short[0] + 1, short[2], short[3]) == (len(short), 0x10, 8)
    assert [short[at] for at in (12, 24, 44, 56)] == [0x01, 0x08, 0x0A, 0x1C]
    assert short[24 + 2] & 0x04  # WCE
    assert bench.good(bytes([0x1A, 8, 0x08, 0, 255, 0]), 2)[2] & 0x80  # WP
    long = bench.good(bytes([0x5A, 0x18, 0x0A, 0, 0, 0, 0, 0, 255, 0]))
    assert int.from_bytes(long[:2], "big") + 2 == len(long)
    assert long[8] == 0x0A
    changeable = bench.good(bytes([0x1A, 8, 0x40 | 0x08, 0, 255, 0]))
    assert (changeable[6], *changeable[7:]) == (0x04, *bytes(17))  # WCE alone
    assert bench.sense(bytes([0x1A, 0, 0xC0 | 0x08, 0, 255, 0])) == (ILLEGAL, 0x39, 0)
    assert bench.sense(bytes([0x1A, 0, 0x02, 0, 255, 0])) == (ILLEGAL, 0x24, 0)


def test_report_luns(bench: Bench) -> None:
    cdb = bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    listed = bench.good(cdb)
    assert int.from_bytes(listed[:4], "big") == 24
    assert [listed[9 + 8 * at] for at in range(3)] == [0, 1, 2]
    assert bench.sense(bytes([0xA0, 0, 3]) + cdb[3:]) == (ILLEGAL, 0x24, 0)
    assert bench.sense(bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 8])) == (ILLEGAL, 0x24, 0)


# What is not there, and unit attentions


def test_an_unknown_command(bench: Bench) -> None:
    for opcode in set(range(256)) - {key if isinstance(key, int) else key[0] for key in TABLE} - {0xA0}:
        assert bench.sense(bytes([opcode])) == (ILLEGAL, 0x20, 0)
    assert bench.sense(bytes([0x9E, 0x1F])) == (ILLEGAL, 0x24, 0)  # the service action is a field


def test_an_absent_unit(bench: Bench) -> None:
    reply = bench.start(bytes([0x12, 0, 0, 0, 36, 0]), ABSENT)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.data[0], len(reply.data)) == (GOOD, 0x7F, 36)
    for cdb in (bytes(6), read_10(0, 1), write_10(0, 1)):
        refused = bench.start(cdb, ABSENT)
        assert isinstance(refused, Reply)
        assert (refused.sense[2], refused.sense[12]) == (ILLEGAL, 0x25)
    sense = bench.start(bytes([3, 0, 0, 0, 18, 0]), ABSENT)
    assert isinstance(sense, Reply)
    assert (sense.status, sense.data[12]) == (GOOD, 0x25)


def test_power_on_is_reported_once_to_each_nexus(bench: Bench) -> None:
    other = bench.nexus = bench.target.nexuses.enter(NexusId("iqn.2026-01.org.example:other", b"\x80\0\0\0\0\2"))
    assert bench.good(bytes([0x12, 0, 0, 0, 36, 0]))  # INQUIRY and REPORT LUNS do not clear it
    assert bench.good(bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0]))
    assert bench.sense(bytes(6)) == (6, 0x29, 0)
    assert bench.good(bytes(6)) == b""
    assert bench.sense(bytes(6), 1) == (6, 0x29, 0)
    assert bench.target.nexuses.enter(other.identity) is other
    assert bench.sense(bytes(6)) == (6, 0x29, 7)  # the same port again: its nexus was lost


def test_request_sense_takes_the_attention(bench: Bench) -> None:
    bench.target.reset_unit(0)
    assert bench.good(bytes([3, 0, 0, 0, 18, 0]))[12:14] == b"\x29\x03"
    assert bench.good(bytes(6)) == b""


def test_a_command_with_an_attention_is_not_carried_out(bench: Bench) -> None:
    bench.target.reset_unit(0)
    assert bench.sense(write_10(0, 1)) == (6, 0x29, 3)
    assert not any(bench.good(read_10(0, 1)))


def test_start_stop_prevent_and_flush(bench: Bench) -> None:
    for cdb in (bytes([0x1B, 0, 0, 0, 1]), bytes([0x1B]), bytes([0x1E, 0, 0, 0, 1]), bytes([0x35]), bytes([0x91])):
        assert bench.good(cdb) == b""
    assert bench.sense(bytes([0x1B, 0, 0, 0, 2])) == (ILLEGAL, 0x24, 0)
    assert bench.sense(bytes([0x1E, 0, 0, 0, 3])) == (ILLEGAL, 0x24, 0)


def test_a_store_that_fails_is_a_medium_error(tmp_path: Path) -> None:
    medium = FileMedium(tmp_path / "image", size=1 << 20, create=True)
    bench = Bench()
    bench.target = ScsiTarget(TargetConfig(NAME, {0: Lun(medium)}))
    (tmp_path / "image").write_bytes(b"")
    assert bench.sense(read_10(0, 1)) == (3, 0, 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_store_that_is_full_is_no_medium_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bench = Bench()
    medium = FileMedium(tmp_path / "image", size=1 << 20, create=True)
    bench.target = ScsiTarget(TargetConfig(NAME, {0: Lun(medium)}))

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    assert bench.sense(write_10(0, 1), data=bytes(512)) == ((3, 0, 0) if number == errno.EIO else (7, 0x27, 7))
    assert bench.run(read_10(0, 1)).data == bytes(512)


@given(cdb=st.binary(min_size=16, max_size=16), lun=st.sampled_from([0, 1, 2]), data=st.binary(max_size=64))
@settings(max_examples=400, deadline=None)
def test_no_cdb_is_too_strange(cdb: bytes, lun: int, data: bytes) -> None:
    bench = Bench()
    outcome = bench.start(cdb, lun)
    if isinstance(outcome, WantData):
        assert 0 < outcome.length <= 32 << 20
        outcome = bench.target.units[lun << 48].finish(outcome, memoryview(bytearray(data[: outcome.length])))
    if isinstance(outcome, Later):
        outcome = outcome.work()
    assert isinstance(outcome, Reply)
    assert outcome.status in (GOOD, CHECK_CONDITION)
    assert bool(outcome.sense) == (outcome.status == CHECK_CONDITION)


def test_a_unit_needs_a_whole_block_of_a_known_size() -> None:
    with pytest.raises(InvalidArgument):
        Lun(RamMedium(4096), block_size=520)
    with pytest.raises(InvalidArgument):
        ScsiTarget(TargetConfig(NAME, {0: Lun(RamMedium(100))}))
