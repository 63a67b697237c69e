# SPDX-License-Identifier: Apache-2.0
"""LogicalUnit over a disk that can be told to misbehave. Pauses are recorded instead of taken."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable

import pytest
from fake_disk import (
    BUSY,
    INVALID_FIELD,
    INVALID_OPCODE,
    NAA_6,
    OUT_OF_RANGE,
    POWER_ON,
    FakeDisk,
    check_condition,
    designator,
    page,
)

from swd.disk import Disk
from swd.errors import (
    BadDescriptor,
    ConnectionLost,
    NoSuchDevice,
    ProtocolViolation,
    ScsiError,
    StaleIdentity,
    SwdError,
    Unsupported,
)
from swd.scsi.probe import list_luns
from swd.scsi.unit import LogicalUnit
from swd.values import ScsiResult

NOT_READY = check_condition(0x2, 0x04, 0x01)
INQUIRY_CHANGED = check_condition(0x6, 0x3F, 0x03)
RECOVERED = check_condition(0x1, 0x17)


class Opened:
    """A disk, its unit, and the pauses that the unit made."""

    def __init__(self, disk: FakeDisk, timeout: float | None = 30.0) -> None:
        self.disk = disk
        self.pauses: list[float] = []
        self.unit = LogicalUnit(disk, disk.lun, timeout=timeout, sleep=self.pauses.append)
        disk.log.clear()
        disk.timeouts.clear()


@pytest.fixture
def opened() -> Opened:
    return Opened(FakeDisk())


# ---- opening


def test_a_disk_tells_about_itself() -> None:
    disk = FakeDisk(blocks=1000, block_size=512)
    unit = Opened(disk).unit
    assert (unit.blocks, unit.block_size, unit.physical_block_size) == (1000, 512, 4096)
    assert unit.identity == "naa." + NAA_6.hex()
    assert unit.identity_strong
    assert not unit.read_only
    assert unit.max_transfer == 128 * 512  # VPD B0
    assert unit.facts.identity.serial == "SN0001"
    assert unit.facts.mode.write_cache is True


def test_a_disk_that_knows_next_to_nothing_is_a_disk() -> None:
    disk = FakeDisk()
    disk.pages.clear()
    disk.lacks = {0x9E, 0x1A, 0x5A}
    unit = Opened(disk).unit
    assert (unit.blocks, unit.physical_block_size, unit.identity) == (256, 512, "unnamed")
    assert unit.max_transfer == 8 << 20
    assert unit.facts.mode.write_cache is None


def test_only_listed_pages_are_asked_for() -> None:
    disk = FakeDisk()
    del disk.pages[0xB0], disk.pages[0xB2]
    LogicalUnit(disk, 0, timeout=1.0)
    assert [cdb[2] for cdb in disk.log if cdb[0] == 0x12 and cdb[1]] == [0x00, 0x80, 0x83]


def test_a_page_that_is_listed_and_then_not_there() -> None:
    disk = FakeDisk()
    disk.script[0x12].extend([ScsiResult(0, bytes(36)), ScsiResult(0, page(0, b"\0\x80\x83")), INVALID_FIELD])
    assert Opened(disk).unit.identity == "naa." + NAA_6.hex()


def test_a_long_page_is_asked_for_again() -> None:
    disk = FakeDisk()
    many = b"".join(designator(1, b"FAKE    %04d" % n, code_set=2) for n in range(40))
    disk.pages[0x83] = many + designator(3, NAA_6)
    assert Opened(disk).unit.identity == "naa." + NAA_6.hex()


def test_a_disk_of_more_than_2_tib_needs_read_capacity_16() -> None:
    disk = FakeDisk()
    disk.blocks = 1 << 33
    assert Opened(disk).unit.blocks == 1 << 33
    disk.lacks = {0x9E}
    with pytest.raises(Unsupported, match="size cannot be known"):
        Opened(disk)


def test_write_protection_is_seen_through_either_mode_sense() -> None:
    for lacks in ({0x5A}, {0x1A}):
        disk = FakeDisk()
        disk.write_protected, disk.lacks = True, lacks
        assert Opened(disk).unit.read_only
    disk = FakeDisk()
    disk.write_protected, disk.write_cache = True, None  # no caching page: asked for all pages instead
    assert Opened(disk).unit.read_only


def test_ten_unit_attentions_are_swallowed_and_no_more() -> None:
    disk = FakeDisk()
    disk.script[0x00].extend([POWER_ON] * 10)
    assert Opened(disk).unit.blocks == 256
    disk.script[0x00].extend([POWER_ON] * 11)
    with pytest.raises(ScsiError, match="unit attentions without end"):
        Opened(disk)


def test_a_unit_that_becomes_ready() -> None:
    disk = FakeDisk()
    disk.script[0x00].extend([NOT_READY] * 3)
    assert Opened(disk).pauses == [0.1, 0.2, 0.4]


def test_a_unit_that_does_not_become_ready() -> None:
    disk = FakeDisk()
    disk.script[0x00].extend([NOT_READY] * 50)
    with pytest.raises(ScsiError) as caught:
        Opened(disk)
    assert caught.value.errno == errno.EBUSY
    assert len(disk.script[0x00]) > 40  # within reason


@pytest.mark.parametrize("spoil", [lambda d: setattr(d, "qualifier", 3), lambda d: setattr(d, "device_type", 0x1F)])
def test_no_such_unit_by_inquiry(spoil: Callable[[FakeDisk], None]) -> None:
    disk = FakeDisk(lun=5)
    spoil(disk)
    with pytest.raises(NoSuchDevice, match="no logical unit 5") as caught:
        Opened(disk)
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("opcode", [0x00, 0x12])
def test_no_such_unit_by_sense(opcode: int) -> None:
    disk = FakeDisk()
    disk.script[opcode].append(check_condition(0x5, 0x25))
    with pytest.raises(NoSuchDevice):
        Opened(disk)


def test_what_is_no_disk_is_named() -> None:
    disk = FakeDisk()
    disk.device_type = 0x0C
    with pytest.raises(Unsupported, match="storage array controller") as caught:
        Opened(disk)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_no_medium() -> None:
    disk = FakeDisk()
    disk.script[0x00].append(check_condition(0x2, 0x3A))
    with pytest.raises(ScsiError) as caught:
        Opened(disk)
    assert caught.value.errno == getattr(errno, "ENOMEDIUM", errno.ENXIO)


def test_nonsense_is_a_violation() -> None:
    disk = FakeDisk()
    disk.script[0x12].append(ScsiResult(0, b""))
    with pytest.raises(ProtocolViolation):
        Opened(disk)


def test_small_transfers_where_a_block_is_larger_than_the_limit() -> None:
    disk = FakeDisk(block_size=4096)
    disk.pages[0xB0] = bytes(4) + (1).to_bytes(4, "big") + bytes(52)
    assert Opened(disk).unit.max_transfer == 4096


# ---- reading and writing


def test_blocks_go_where_they_belong(opened: Opened) -> None:
    opened.unit.write_blocks(3, b"\x11" * 1024)
    assert bytes(opened.disk.data[2 * 512 : 6 * 512]) == bytes(512) + b"\x11" * 1024 + bytes(512)
    buffer = bytearray(512)
    opened.unit.read_blocks(4, buffer)
    assert buffer == b"\x11" * 512
    assert opened.disk.opcodes() == [0x2A, 0x28]
    assert opened.disk.timeouts == [30.0, 30.0]


def test_a_busy_unit_is_waited_for(opened: Opened) -> None:
    opened.disk.script[0x28].extend([BUSY, POWER_ON, ScsiResult(0x28), BUSY])
    opened.disk.data[:512] = b"\x22" * 512
    buffer = bytearray(512)
    opened.unit.read_blocks(0, buffer)
    assert buffer == b"\x22" * 512
    assert opened.pauses == [0.01, 0.02, 0.04]


def test_a_unit_that_stays_busy_is_given_up_within_the_deadline() -> None:
    opened = Opened(FakeDisk(), timeout=3.0)
    opened.disk.script[0x2A].extend([BUSY] * 1000)
    with pytest.raises(ScsiError, match="stayed busy") as caught:
        opened.unit.write_blocks(0, bytes(512))
    assert caught.value.errno == errno.EBUSY
    assert 1.0 < sum(opened.pauses) <= 3.0


@pytest.mark.parametrize("write", [False, True])
def test_a_short_good_is_an_error(opened: Opened, write: bool) -> None:
    opened.disk.script[0x2A if write else 0x28].append(ScsiResult(0, residual=512))
    with pytest.raises(ScsiError, match="ended GOOD but moved 512 bytes too few") as caught:
        opened.unit.write_blocks(0, bytes(1024)) if write else opened.unit.read_blocks(0, bytearray(1024))
    assert caught.value.errno == errno.EIO


def test_a_read_that_really_is_short_is_an_error(opened: Opened) -> None:
    opened.disk.short = 100
    with pytest.raises(ScsiError, match="100 bytes too few"):
        opened.unit.read_blocks(0, bytearray(1024))


def test_more_data_than_asked_for_is_an_error(opened: Opened) -> None:
    opened.disk.script[0x28].append(ScsiResult(0, residual=-3584))
    with pytest.raises(ScsiError, match="3584 bytes more"):
        opened.unit.read_blocks(0, bytearray(512))


@pytest.mark.parametrize("result", [RECOVERED, ScsiResult(0x04)], ids=["recovered error", "condition met"])
def test_a_recovered_error_leaves_the_data(opened: Opened, result: ScsiResult) -> None:
    opened.disk.data[:1024] = b"\x33" * 1024
    opened.disk.script[0x28].append(result)  # it says that nothing is missing, but not a byte came
    buffer = bytearray(1024)
    opened.unit.read_blocks(0, buffer)
    assert buffer == b"\x33" * 1024


def test_a_recovered_error_with_half_of_the_data_is_an_error(opened: Opened) -> None:
    half = ScsiResult(0x02, bytes(512), RECOVERED.sense)
    opened.disk.script[0x28].extend([RECOVERED, half])
    with pytest.raises(ScsiError, match="too few"):
        opened.unit.read_blocks(0, bytearray(1024))


@pytest.mark.parametrize(
    ("result", "number"),
    [
        (check_condition(0x3, 0x0C), errno.EIO),
        (check_condition(0x7, 0x27), errno.EROFS),
        (check_condition(0x7, 0x27, 0x07), errno.ENOSPC),
        (ScsiResult(0x18), errno.EBUSY),
        (ScsiResult(0, response=1), errno.EIO),
    ],
)
def test_a_failed_write_raises(opened: Opened, result: ScsiResult, number: int) -> None:
    opened.disk.script[0x2A].append(result)
    with pytest.raises(ScsiError) as caught:
        opened.unit.write_blocks(0, bytes(512))
    assert caught.value.errno == number
    assert caught.value.sense == result.sense


def test_out_of_range_is_asked_twice_with_the_capacity_between(opened: Opened) -> None:
    opened.disk.script[0x2A].extend([OUT_OF_RANGE, OUT_OF_RANGE])
    with pytest.raises(ScsiError) as caught:
        opened.unit.write_blocks(0, bytes(512))
    assert caught.value.errno == errno.ENOSPC
    asked = opened.disk.opcodes()
    assert asked[0] == asked[-1] == 0x2A
    assert 0x9E in asked[1:-1]


def test_what_the_session_raises_passes_through(opened: Opened) -> None:
    opened.disk.script[0x28].append(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        opened.unit.read_blocks(0, bytearray(512))


# ---- another disk


def test_the_same_disk_after_a_change_notice(opened: Opened) -> None:
    opened.disk.script[0x2A].append(INQUIRY_CHANGED)
    opened.unit.write_blocks(0, b"\x44" * 512)
    assert opened.disk.data[:512] == b"\x44" * 512


@pytest.mark.parametrize("what", ["designator", "serial", "size", "block size"])
def test_another_disk_gets_not_a_byte(opened: Opened, what: str) -> None:
    disk = opened.disk
    if what == "designator":
        disk.pages[0x83] = designator(3, NAA_6[:-1] + b"\0")
    if what == "serial":
        disk.pages[0x80] = b"SN0002"
    if what == "size":
        disk.blocks -= 1
    if what == "block size":
        disk.block_size = 4096
    disk.script[0x2A].append(INQUIRY_CHANGED)
    with pytest.raises(StaleIdentity) as caught:
        opened.unit.write_blocks(0, b"\x55" * 512)
    assert caught.value.errno == errno.ESTALE
    assert 0x2A not in disk.opcodes()[1:]
    calls: list[Callable[[], object]] = [
        lambda: opened.unit.read_blocks(0, bytearray(512)),
        lambda: opened.unit.write_blocks(0, bytes(512)),
        lambda: opened.unit.batch(True, array("q", [0]), bytes(512), queue_depth=1),
        lambda: opened.unit.execute(bytes(6)),
        opened.unit.flush,
        lambda: opened.unit.zero(0, 1),
        lambda: opened.unit.discard(0, 1),
    ]
    for call in calls:
        with pytest.raises(StaleIdentity):
            call()
    assert disk.log == []
    assert not any(disk.data)


CAPACITY_CHANGED = check_condition(0x6, 0x2A, 0x09)


@pytest.mark.parametrize("strong", [True, False])
def test_a_disk_that_grew_goes_on_with_more_blocks(strong: bool) -> None:
    """The unit itself says so, on the same session: whatever its identity is worth, it is the same one."""
    disk = FakeDisk()
    if not strong:
        disk.pages[0x83] = designator(0x1, b"FAKE    0001", code_set=2)
    unit = LogicalUnit(disk, 0, timeout=10.0)
    assert unit.identity_strong is strong
    with Disk(unit, writable=True) as opened:
        disk.blocks += 8
        disk.data += bytes(8 * 512)
        disk.script[0x2A].append(CAPACITY_CHANGED)
        opened.pwrite(b"\x55" * 512, 0)
        assert (unit.blocks, opened.size) == (264, 264 * 512)
        assert opened.pwrite(b"\x66" * 512, 263 * 512) == 512
        assert opened.pread(1024, 263 * 512) == b"\x66" * 512
        with pytest.raises(SwdError) as caught:
            opened.pwrite(bytes(512), 264 * 512)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("strong", [True, False])
def test_after_a_new_login_only_a_strong_identity_may_have_grown(strong: bool) -> None:
    disk = FakeDisk()
    if not strong:
        disk.pages[0x83] = designator(0x1, b"FAKE    0001", code_set=2)
    unit = LogicalUnit(disk, 0, timeout=10.0)
    disk.blocks += 8
    assert isinstance(unit.confirm(disk), StaleIdentity) is not strong
    assert unit.blocks == (264 if strong else 256)


def test_change_notices_without_end_end(opened: Opened) -> None:
    """Also while identity is being read: no recursion, no loop."""
    opened.disk.script[0x28].extend([INQUIRY_CHANGED] * 100)
    opened.disk.script[0x9E].extend([INQUIRY_CHANGED] * 1000)
    with pytest.raises(ScsiError, match="unit attentions without end"):
        opened.unit.read_blocks(0, bytearray(512))


def test_closed(opened: Opened) -> None:
    opened.unit.close()
    with pytest.raises(BadDescriptor):
        opened.unit.read_blocks(0, bytearray(512))
    with pytest.raises(BadDescriptor):
        opened.unit.flush()
    assert opened.disk.log == []


# ---- batches


def test_a_batch_reads_and_writes(opened: Opened) -> None:
    data = bytes(range(1, 5)) * 256
    assert opened.unit.batch(True, array("q", [7, 3]), data, queue_depth=2) == []
    assert opened.disk.data[7 * 512 : 8 * 512] == data[:512]
    assert opened.disk.data[3 * 512 : 4 * 512] == data[512:]
    buffer = bytearray(1024)
    assert opened.unit.batch(False, array("q", [3, 7]), buffer, queue_depth=2) == []
    assert buffer == data[512:] + data[:512]


def test_the_odd_ones_of_a_batch_are_tried_again_one_by_one(opened: Opened) -> None:
    opened.disk.data[:] = bytes(i // 512 for i in range(len(opened.disk.data)))
    opened.disk.script[0x28].extend([POWER_ON, BUSY, RECOVERED])
    buffer = bytearray(4 * 512)
    assert opened.unit.batch(False, array("q", [9, 8, 7, 6]), buffer, queue_depth=4) == []
    assert [buffer[i * 512] for i in range(4)] == [9, 8, 7, 6]


def test_only_what_stays_wrong_is_reported(opened: Opened) -> None:
    bad = check_condition(0x3, 0x11)
    opened.disk.script[0x28].extend([BUSY, bad, ScsiResult(0, residual=512)])
    failures = opened.unit.batch(False, array("q", [1, 2, 3, 300]), bytearray(4 * 512), queue_depth=4)
    assert [index for index, _ in failures] == [1, 2, 3]
    assert all(isinstance(error, ScsiError) and error.errno == errno.EIO for _, error in failures)


def test_a_batch_whose_retry_loses_the_connection(opened: Opened) -> None:
    opened.disk.script[0x2A].extend([BUSY, BUSY, ConnectionLost("gone"), ConnectionLost("gone")])
    failures = opened.unit.batch(True, array("q", [1, 2]), bytes(1024), queue_depth=2)
    assert [(index, type(error)) for index, error in failures] == [(0, ConnectionLost), (1, ConnectionLost)]


def test_an_empty_batch(opened: Opened) -> None:
    assert opened.unit.batch(False, array("q"), bytearray(), queue_depth=1) == []
    assert opened.disk.log == []


# ---- flush, zero, discard


def test_flush(opened: Opened) -> None:
    opened.unit.flush()
    assert opened.disk.opcodes() == [0x35]


def test_flush_with_sixteen_bytes(opened: Opened) -> None:
    opened.disk.lacks = {0x35}
    opened.unit.flush()
    assert opened.disk.opcodes() == [0x35, 0x91]


def test_a_cache_that_cannot_be_flushed_is_an_error(opened: Opened) -> None:
    opened.disk.lacks = {0x35, 0x91}
    with pytest.raises(ScsiError) as caught:
        opened.unit.flush()
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("write_cache", [False, None])
def test_nothing_to_flush(write_cache: bool | None) -> None:
    disk = FakeDisk()
    disk.write_cache, disk.lacks = write_cache, {0x35, 0x91}
    opened = Opened(disk)
    opened.unit.flush()
    assert disk.opcodes() == [0x35, 0x91]
    opened.unit.flush()
    assert disk.opcodes() == []


def test_a_flush_that_fails_is_an_error(opened: Opened) -> None:
    opened.disk.script[0x35].append(check_condition(0x3, 0x0C))
    with pytest.raises(ScsiError):
        opened.unit.flush()


def test_zero_by_write_same_in_pieces(opened: Opened) -> None:
    opened.disk.data[:] = b"\xff" * len(opened.disk.data)
    opened.unit.zero(10, 100)  # VPD B0: at most 64 blocks
    assert opened.disk.opcodes() == [0x93, 0x93]
    assert opened.disk.data == b"\xff" * 5120 + bytes(51200) + b"\xff" * (146 * 512)
    assert opened.disk.timeouts == [300.0, 300.0]  # long-running


def test_zero_may_unmap_where_that_reads_as_zeros() -> None:
    disk = FakeDisk()
    disk.pages[0xB2] = bytes([0, 0xC4, 2, 0])  # LBPU, LBPWS, LBPRZ; thin
    opened = Opened(disk)
    disk.script[0x93].append(INVALID_FIELD)
    opened.unit.zero(0, 8)  # the unit will not have the bit: once more without
    opened.unit.zero(8, 8)
    assert [cdb[1] for cdb in disk.log if cdb[0] == 0x93] == [0x08, 0, 0]
    assert disk.opcodes() == [0x93, 0x93, 0x93]


@pytest.mark.parametrize("flags", [0x80, 0x84])  # no LBPWS
def test_zero_does_not_unmap_otherwise(flags: int) -> None:
    disk = FakeDisk()
    disk.pages[0xB2] = bytes([0, flags, 2, 0])
    Opened(disk).unit.zero(0, 8)
    assert [cdb[1] for cdb in disk.log if cdb[0] == 0x93] == [0]


@pytest.mark.parametrize(("refusal", "times"), [(INVALID_OPCODE, 1), (INVALID_FIELD, 2)])  # with UNMAP, and without
def test_zero_by_writing(opened: Opened, refusal: ScsiResult, times: int) -> None:
    opened.disk.script[0x93].extend([refusal] * times)
    opened.disk.data[:] = b"\xff" * len(opened.disk.data)
    opened.unit.zero(0, 200)
    assert opened.disk.opcodes() == [0x93] * times + [0x2A] * 4
    assert opened.disk.data == bytes(200 * 512) + b"\xff" * (56 * 512)


def test_discard(opened: Opened) -> None:
    opened.disk.data[:] = b"\xff" * len(opened.disk.data)
    opened.unit.discard(6, 150)  # VPD B0: at most 100 blocks
    assert opened.disk.opcodes() == [0x42, 0x42]
    assert opened.disk.data == b"\xff" * 3072 + bytes(150 * 512) + b"\xff" * (100 * 512)


@pytest.mark.parametrize("thin", [False, True])
def test_discard_where_it_cannot_be(thin: bool) -> None:
    disk = FakeDisk()
    disk.thin = thin
    if thin:
        disk.pages[0xB2] = bytes(4)
    with pytest.raises(Unsupported, match="UNMAP"):
        Opened(disk).unit.discard(0, 1)
    assert 0x42 not in disk.opcodes()


# ---- raw commands


def test_a_raw_command_sees_its_end_but_no_unit_attention(opened: Opened) -> None:
    opened.disk.script[0x00].extend([POWER_ON, BUSY, NOT_READY])
    result = opened.unit.execute(bytes(6))
    assert result.sense == NOT_READY.sense
    assert opened.disk.opcodes() == [0x00] * 3


def test_a_raw_command_moves_data_both_ways(opened: Opened) -> None:
    write, read = bytes([0x2A, 0, 0, 0, 0, 2, 0, 0, 1, 0]), bytes([0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0])
    assert opened.unit.execute(write, data_out=memoryview(b"\x66" * 512), timeout=7.0).status == 0
    assert opened.unit.execute(read, data_in=512).data == b"\x66" * 512
    assert opened.disk.timeouts == [7.0, 30.0]


def test_a_raw_command_out_of_range_is_not_repeated(opened: Opened) -> None:
    assert opened.unit.execute(bytes([0x28, 0, 0, 1, 0, 0, 0, 0, 1, 0]), data_in=512).status == 0x02
    assert opened.disk.opcodes() == [0x28]


def test_luns() -> None:
    disk = FakeDisk()
    assert list_luns(disk) == (0, 1 << 48)
    disk.luns = [n << 48 for n in range(256)] + [(0x4000 | n) << 48 for n in range(256, 400)]
    assert list_luns(disk) == tuple(disk.luns)
    disk.lacks = {0xA0}
    with pytest.raises(SwdError):
        list_luns(disk)
