# SPDX-License-Identifier: Apache-2.0
"""CDBs against bytes written from the standards, and the table that describes them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.scsi import cdb
from swd.scsi.opcodes import BY_NAME, TABLE, lookup
from swd.values import Direction

GOLDEN = [
    ("TEST UNIT READY", cdb.TEST_UNIT_READY, "000000000000"),
    ("REQUEST SENSE", cdb.request_sense(), "03000000fc00"),
    ("INQUIRY", cdb.inquiry(96), "120000006000"),
    ("INQUIRY", cdb.inquiry_page(0x83, 0x0201), "120183020100"),
    ("MODE SENSE(6)", cdb.mode_sense_6(0x08, 192), "1a080800c000"),
    ("MODE SENSE(10)", cdb.mode_sense_10(0x3F, 192), "5a083f0000000000c000"),
    ("READ CAPACITY(10)", cdb.read_capacity_10(), "25000000000000000000"),
    ("READ CAPACITY(16)", cdb.read_capacity_16(32), "9e100000000000000000000000200000"),
    ("REPORT LUNS", cdb.report_luns(0x00010203), "a00000000000000102030000"),
    ("READ(10)", cdb.read(0x01020304, 0x0506), "28000102030400050600"),
    ("WRITE(10)", cdb.write(0x01020304, 0x0506), "2a000102030400050600"),
    ("READ(16)", cdb.read(0x0102030405060708, 0x090A0B0C), "88000102030405060708090a0b0c0000"),
    ("WRITE(16)", cdb.write(0x0102030405060708, 0x090A0B0C), "8a000102030405060708090a0b0c0000"),
    ("SYNCHRONIZE CACHE(10)", cdb.synchronize_cache_10(), "35000000000000000000"),
    ("SYNCHRONIZE CACHE(16)", cdb.synchronize_cache_16(), "91000000000000000000000000000000"),
    ("WRITE SAME(16)", cdb.write_same_16(0x0102030405060708, 0x090A0B0C), "93000102030405060708090a0b0c0000"),
    ("WRITE SAME(16)", cdb.write_same_16(1, 2, unmap=True), "93080000000000000001000000020000"),
    ("UNMAP", cdb.unmap(24), "42000000000000001800"),
]


@pytest.mark.parametrize(("name", "built", "golden"), GOLDEN)
def test_a_cdb_is_what_the_standard_says(name: str, built: bytes, golden: str) -> None:
    assert built.hex() == golden
    assert lookup(built).name == name
    assert lookup(built).length == len(built)


def test_the_parameters_of_unmap() -> None:
    built = cdb.unmap_parameters(0x0102030405060708, 0x090A0B0C)
    assert built.hex() == "0016001000000000" + "0102030405060708090a0b0c00000000"


@pytest.mark.parametrize(
    ("lba", "blocks", "length"),
    [
        (0, 0xFFFF, 10),
        (0, 0x10000, 16),
        (0xFFFFFFFF, 1, 10),
        (0xFFFFFFFF, 2, 16),
        (0x100000000, 1, 16),
    ],
)
def test_ten_bytes_where_address_and_count_fit(lba: int, blocks: int, length: int) -> None:
    assert len(cdb.read(lba, blocks)) == len(cdb.write(lba, blocks)) == length


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(struct.error):
        cdb.read(1 << 64, 1)
    with pytest.raises(struct.error):
        cdb.read(0, 1 << 32)
    with pytest.raises(ValueError, match="to the end"):
        cdb.write_same_16(0, 0)


def test_the_table_has_each_command_once() -> None:
    assert len({(row.code, row.action) for row in TABLE}) == len(TABLE) == len(BY_NAME)


GROUP_LENGTHS = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}  # SPC-4 4.2.5.1


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_lengths_follow_the_group_of_the_code(row) -> None:
    assert row.length == GROUP_LENGTHS[row.code >> 5]


def test_directions_follow_the_names() -> None:
    for row in TABLE:
        if row.name.startswith(("READ(", "MODE SENSE", "REPORT", "INQUIRY")):
            assert row.direction is Direction.READ
        if row.name.startswith(("WRITE", "MODE SELECT", "UNMAP", "COMPARE")):
            assert row.direction is Direction.WRITE


def test_what_must_never_be_sent_twice() -> None:
    for name in ("COMPARE AND WRITE", "RESERVE(6)", "PERSISTENT RESERVE OUT", "EXTENDED COPY", "FORMAT UNIT"):
        assert not BY_NAME[name].replayable
    for name in ("READ(10)", "WRITE(16)", "SYNCHRONIZE CACHE(10)", "INQUIRY", "WRITE SAME(16)", "UNMAP"):
        assert BY_NAME[name].replayable


def test_service_actions_are_told_apart() -> None:
    assert lookup(bytes([0x9E, 0x10]) + bytes(14)).name == "READ CAPACITY(16)"
    assert lookup(bytes([0x9E, 0x12]) + bytes(14)).name == "GET LBA STATUS"
    assert lookup(bytes([0x9E, 0x1F]) + bytes(14)).name == "opcode 9Eh/1Fh"
    assert lookup(bytes([0x28, 0x1F]) + bytes(8)).name == "READ(10)"  # not a service action here
    assert lookup(bytes([0x5E, 0x02]) + bytes(8)).name == "PERSISTENT RESERVE IN"


@given(st.binary(max_size=40))
def test_any_cdb_has_a_row(raw: bytes) -> None:
    row = lookup(raw)
    assert row.name
    assert row in TABLE or not row.replayable
