# SPDX-License-Identifier: Apache-2.0
"""Disk over a RAM unit: against a bytearray, at its bounds, from threads, as a stream, and in arrays."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
import threading
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram_unit import RamUnit

from swd.disk import Disk
from swd.errors import (
    BadDescriptor,
    BatchError,
    CacheLost,
    ConnectionLost,
    InvalidArgument,
    MediumError,
    SwdError,
    Unsupported,
)

SIZE = 64 * 512


def filled(**options: int) -> RamUnit:
    unit = RamUnit(**options)
    unit.data[:] = bytes(i % 251 for i in range(len(unit.data)))
    return unit


@pytest.fixture
def unit() -> RamUnit:
    return filled()


@pytest.fixture
def disk(unit: RamUnit) -> Disk:
    return Disk(unit, writable=True)


# ---- against a bytearray

_ranges = st.tuples(st.integers(0, 3200), st.integers(0, 1400))
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pread"), _ranges),
        st.tuples(st.just("pread_into"), _ranges),
        st.tuples(st.just("pwrite"), _ranges),
        st.tuples(st.just("zero"), _ranges),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(_steps, st.sampled_from([128, 130]), st.sampled_from([256, 1024, 1 << 20]), st.randoms(use_true_random=False))
def test_a_disk_is_a_bytearray(steps, block_size: int, max_transfer: int, random) -> None:
    unit = RamUnit(blocks=24, block_size=block_size, max_transfer=max(block_size, max_transfer))
    disk, model = Disk(unit, writable=True), bytearray(24 * block_size)
    for verb, (offset, length) in steps:
        if verb == "pread":
            assert disk.pread(length, offset) == model[offset : offset + length]
        elif verb == "pread_into":
            buffer = bytearray(b"\xee" * length)
            count = disk.pread_into(buffer, offset)
            expected = model[offset : offset + length]
            assert buffer == expected + b"\xee" * (length - len(expected))
            assert count == len(expected)
        else:
            data = random.randbytes(length) if verb == "pwrite" else bytes(length)
            change: Callable[[], object] = (
                (lambda data=data, offset=offset: disk.pwrite(data, offset))
                if verb == "pwrite"
                else (lambda offset=offset, length=length: disk.zero(offset=offset, length=length))
            )
            if offset + length > len(model):
                with pytest.raises(MediumError) as caught:
                    change()
                assert caught.value.errno == errno.ENOSPC
            else:
                change()
                model[offset : offset + length] = data
        assert unit.data == model


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4096), st.integers(1, 300_000), st.booleans())
def test_long_unaligned_ranges(offset: int, length: int, write: bool) -> None:
    """Longer than what goes through a buffer at once: head, body and tail."""
    unit = filled(blocks=700, max_transfer=64 << 10)
    disk, model = Disk(unit, writable=True), bytearray(unit.data)
    if write:
        data = os.urandom(length)
        assert disk.pwrite(data, offset) == length
        model[offset : offset + length] = data
        assert unit.data == model
    else:
        assert disk.pread(length, offset) == model[offset : offset + length]


# ---- what it costs


def test_an_aligned_read_is_one_command(unit: RamUnit, disk: Disk) -> None:
    buffer = bytearray(1024)
    assert disk.pread_into(buffer, 512) == 1024
    assert buffer == unit.data[512:1536]
    assert unit.log == [("read", 1, 2)]


def test_an_aligned_read_is_a_few_calls(disk: Disk) -> None:
    """A bounds check and the unit: Python functions called on the way."""
    calls: list[str] = []

    def profile(frame, event: str, arg: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    buffer = bytearray(512)
    sys.setprofile(profile)
    try:
        disk.pread_into(buffer, 512)
    finally:
        sys.setprofile(None)
    assert calls[:2] == ["_pread_into", "read_blocks"]


def test_64_mib_are_one_batch() -> None:
    unit = RamUnit(blocks=1 << 17)
    disk = Disk(unit, writable=True)
    assert len(disk.pread(64 << 20, 0)) == 64 << 20
    assert unit.log == [("batch read", 0, 64)]


def test_pread_into_makes_no_copy(disk: Disk) -> None:
    """The unit fills the caller's own bytes."""
    where: list[int] = []
    read_blocks = disk.unit.read_blocks

    def spy(lba: int, buffer: memoryview) -> None:
        where.append(np.frombuffer(buffer, np.uint8).ctypes.data)
        read_blocks(lba, buffer)

    disk.unit.read_blocks = spy  # type: ignore[method-assign]
    data = bytearray(4096)
    disk.pread_into(data, 0)
    assert where == [np.frombuffer(data, np.uint8).ctypes.data]


def test_a_read_that_failed_is_collected_in_peace(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffer stays exported while the traceback lives; whatever is collected first, nothing is said of it."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: complaints.append(found.exc_value))

    def fail(lba: int, buffer: memoryview) -> None:
        part = buffer[:512]
        raise MediumError(f"cannot read {len(part)} bytes at block {lba}")

    disk.unit.read_blocks = fail  # type: ignore[method-assign]
    for _ in range(20):
        try:
            disk.pread(4096, 0)
        except MediumError as error:
            error.circle = error  # type: ignore[attr-defined]  # only the collector ends this one
    gc.collect()
    assert complaints == []


def test_an_unaligned_write_reads_only_the_blocks_hit_in_part(unit: RamUnit, disk: Disk) -> None:
    disk.pwrite(b"x" * 1024, 100)
    assert unit.log == [("read", 0, 1), ("read", 2, 1), ("write", 0, 3)]
    unit.log.clear()
    disk.pwrite(b"x" * 10, 100)
    assert unit.log == [("read", 0, 1), ("write", 0, 1)]
    unit.log.clear()
    disk.pwrite(b"x" * 600, 512)
    assert unit.log == [("read", 2, 1), ("write", 1, 2)]


# ---- bounds, modes, types


def test_facts(disk: Disk) -> None:
    assert (disk.size, disk.block_size, disk.physical_block_size) == (SIZE, 512, 4096)
    assert (disk.identity, disk.read_only, disk.writable) == ("ram.test", False, True)
    with pytest.raises(AttributeError):
        disk.size = 1  # type: ignore[misc]


def test_reads_end_at_the_end(unit: RamUnit, disk: Disk) -> None:
    assert disk.pread(1024, SIZE - 512) == unit.data[-512:]
    assert disk.pread(1024, SIZE - 5) == unit.data[-5:]
    assert disk.pread(1, SIZE) == b""
    assert disk.pread(1, SIZE + 1) == b""
    buffer = bytearray(b"\xee" * 1024)
    assert disk.pread_into(buffer, SIZE - 512) == 512
    assert buffer == unit.data[-512:] + b"\xee" * 512
    assert disk.pread_into(buffer, SIZE) == 0
    assert disk.pread_into(b"", 0) == 0


def test_a_write_past_the_end_writes_nothing(unit: RamUnit, disk: Disk) -> None:
    before = bytes(unit.data)
    for data, offset in ((b"x" * 513, SIZE - 512), (b"x" * 1024, SIZE - 512), (b"x", SIZE), (b"x", SIZE + 1)):
        with pytest.raises(MediumError) as caught:
            disk.pwrite(data, offset)
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(MediumError):
        disk.zero(offset=0, length=SIZE + 1)
    with pytest.raises(MediumError):
        disk.discard(offset=SIZE, length=512)
    assert unit.data == before
    assert unit.log == []
    assert disk.pwrite(b"", SIZE) == 0


def test_negative_numbers(disk: Disk) -> None:
    calls: list[Callable[[], object]] = [
        lambda: disk.pread(1, -1),
        lambda: disk.pread(-1, 0),
        lambda: disk.pread_into(bytearray(512), -512),
        lambda: disk.pread_into(bytearray(5), -512),
        lambda: disk.pwrite(b"x", -1),
        lambda: disk.pwrite(bytes(512), -512),
        lambda: disk.zero(offset=-512, length=512),
        lambda: disk.discard(offset=0, length=-1),
        lambda: disk.read_many([0], -1),
        lambda: disk.raw().seek(-1),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert caught.value.errno == errno.EINVAL


def test_wrong_types(unit: RamUnit, disk: Disk) -> None:
    calls: list[Callable[[], object]] = [
        lambda: disk.pread(1.0, 0),  # type: ignore[arg-type]
        lambda: disk.pread(1, "0"),  # type: ignore[arg-type]
        lambda: disk.pread_into(b"\0" * 512, 0),
        lambda: disk.pread_into(b"\0" * 5, 0),
        lambda: disk.pread_into(bytearray(512), 512.0),  # type: ignore[arg-type]
        lambda: disk.pread_into(memoryview(bytearray(1024))[::2], 0),
        lambda: disk.pread_into(512, 0),
        lambda: disk.pwrite("text", 0),
        lambda: disk.pwrite(b"x", None),  # type: ignore[arg-type]
        lambda: disk.pwrite(memoryview(b"\0" * 1024)[::2], 0),
        lambda: disk.zero(offset=0.0, length=512),  # type: ignore[arg-type]
        lambda: disk.read_many(["a"], 512),
        lambda: disk.read_many(np.zeros(1), 512),
        lambda: disk.read_many(np.zeros(1, np.int32), 512),
        lambda: disk.read_many([0], 512, np.zeros((1, 512), np.int8)),
        lambda: disk.read_many([0], 512, bytearray(512)),  # type: ignore[arg-type]
        lambda: disk.read_many([0], 512, errors=[0]),
        lambda: disk.read_many([0], 512, errors=np.zeros(1, np.int64)),
        lambda: disk.write_many([0], "text"),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert unit.log == []  # found out before anything was asked of the unit


def test_any_contiguous_buffer_will_do(unit: RamUnit, disk: Disk) -> None:
    words = array("I", range(256))
    assert disk.pwrite(words, 512) == 1024
    assert unit.data[512:1536] == words.tobytes()
    grid = np.zeros((4, 64), np.uint32)
    assert disk.pread_into(grid, 512) == 1024
    assert grid.tobytes() == words.tobytes()
    assert disk.pread_into(np.zeros((0, 3), np.uint8), 0) == 0


def test_reading_only(unit: RamUnit) -> None:
    disk = Disk(unit, writable=False)
    assert disk.pread(5, 0) == unit.data[:5]
    calls: list[Callable[[], object]] = [
        lambda: disk.pwrite(b"x", 0),
        lambda: disk.pwrite(b"", 0),
        lambda: disk.zero(offset=0, length=512),
        lambda: disk.discard(offset=0, length=512),
        lambda: disk.write_many([0], bytes(512)),
        lambda: disk.raw("r+b"),
        lambda: disk.raw("rb").write(b"x"),
    ]
    for call in calls:
        with pytest.raises(BadDescriptor) as caught:
            call()
        assert caught.value.errno == errno.EBADF
    assert not any(verb != "read" for verb, _, _ in unit.log)


def test_a_write_protected_medium(unit: RamUnit) -> None:
    unit.read_only = True
    with pytest.raises(SwdError) as caught:
        Disk(unit, writable=True)
    assert caught.value.errno == errno.EROFS
    assert Disk(unit, writable=False).read_only


def test_closed(unit: RamUnit) -> None:
    closed = []
    with Disk(unit, writable=True, on_close=lambda: closed.append(1)) as disk:
        raw = disk.raw()
    disk.close()
    assert closed == [1]
    calls: list[Callable[[], object]] = [
        lambda: disk.pread(1, 0),
        lambda: disk.pread_into(bytearray(512), 0),
        lambda: disk.pread_into(bytearray(0), 0),
        lambda: disk.pwrite(bytes(512), 0),
        lambda: disk.zero(offset=0, length=0),
        lambda: disk.discard(offset=0, length=0),
        lambda: disk.read_many([0], 512),
        lambda: disk.write_many([0], bytes(512)),
        disk.flush,
        disk.raw,
        disk.__enter__,
        lambda: raw.read(1),
    ]
    for call in calls:
        with pytest.raises(BadDescriptor):
            call()
    assert unit.log == []


def test_flush_discard_and_zero_reach_the_unit(unit: RamUnit, disk: Disk) -> None:
    disk.flush()
    disk.discard(offset=100, length=1500)
    disk.discard(offset=100, length=500)  # no whole block in it
    disk.zero(offset=512, length=1024)
    assert unit.log == [("flush", 0, 0), ("discard", 1, 2), ("zero", 1, 2)]


# ---- threads


def until_one_waits(unit: RamUnit, thread: threading.Thread) -> None:
    """Until a thread waits for the unit's lock; it fails if `thread` ends without that."""
    while not unit.lock.waiting:
        assert thread.is_alive(), "it did not wait for the lock"
        thread.join(0.001)


def test_neighbours_in_one_block_do_not_undo_each_other(unit: RamUnit) -> None:
    """Two Disks, two threads, the two halves of a block, many times over."""
    turns, start = 300, threading.Barrier(2)
    disks = [Disk(unit, writable=True), Disk(unit, writable=True)]
    found: list[bool] = []

    def work(which: int) -> None:
        for turn in range(turns):
            start.wait(10)
            mine = bytes([turn % 256]) * 256
            disks[which].pwrite(mine, 512 + 256 * which)
            start.wait(10)
            found.append(bytes(unit.data[512 + 256 * which : 768 + 256 * which]) == mine)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * 2 * turns


@pytest.mark.parametrize("first_is_aligned", [True, False])
def test_aligned_and_unaligned_writes_wait_for_each_other(unit: RamUnit, disk: Disk, first_is_aligned: bool) -> None:
    """One stops in the middle of its write; the other, over the same block, begins only when it is done."""
    whole, some = (b"W" * 512, 512), (b"s" * 100, 600)
    first, second = (whole, some) if first_is_aligned else (some, whole)
    unit.gate = threading.Event()
    one = threading.Thread(target=disk.pwrite, args=first)
    one.start()
    assert unit.entered.wait(10)
    so_far = len(unit.log)
    other = threading.Thread(target=disk.pwrite, args=second)
    other.start()
    until_one_waits(unit, other)
    assert len(unit.log) == so_far
    unit.gate.set()
    one.join(10)
    other.join(10)
    expected = bytearray(b"W" * 512)
    if first_is_aligned:
        expected[88:188] = b"s" * 100
    assert unit.data[512:1024] == expected


# ---- as a stream


def test_the_raw_stream(unit: RamUnit, disk: Disk) -> None:
    raw = disk.raw("r+b")
    assert isinstance(raw, io.RawIOBase)
    assert (raw.readable(), raw.writable(), raw.seekable()) == (True, True, True)
    assert raw.read(5) == unit.data[:5]
    assert raw.seek(-10, os.SEEK_END) == SIZE - 10
    assert raw.read(100) == unit.data[-10:]
    assert raw.read(1) == b""
    assert raw.seek(10) == 10
    assert raw.write(b"hello") == 5
    assert raw.tell() == 15
    assert raw.seek(-5, os.SEEK_CUR) == 10
    assert raw.readall() == b"hello" + unit.data[15:]
    with pytest.raises(Unsupported):
        raw.truncate(0)
    with pytest.raises(MediumError) as caught:
        raw.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(InvalidArgument):
        raw.seek(0, 9)
    raw.close()
    with pytest.raises(ValueError, match="closed"):
        raw.read(1)
    assert disk.pread(5, 10) == b"hello"
    assert not disk.raw().writable()
    with pytest.raises(InvalidArgument):
        disk.raw("wb")


def test_buffered_streams(unit: RamUnit, disk: Disk) -> None:
    reader = io.BufferedReader(disk.raw())
    assert reader.read(1000) == unit.data[:1000]
    assert reader.peek(1)[:1] == unit.data[1000:1001]
    with io.BufferedRandom(disk.raw("r+b"), 1024) as both:
        both.seek(700)
        both.write(b"buffered" * 300)
        both.seek(700)
        assert both.read(8) == b"buffered"
    assert unit.data[700:3100] == b"buffered" * 300
    assert unit.data[3100] == 3100 % 251


# ---- in arrays


@pytest.mark.parametrize("make", [list, lambda x: array("q", x), lambda x: np.array(x, np.int64)])
def test_read_many(unit: RamUnit, disk: Disk, make) -> None:
    offsets = [512, 0, 31 * 512, 512]
    found = disk.read_many(make(offsets), 1024)
    assert found.shape == (4, 1024)
    assert found.dtype == np.uint8
    assert [row.tobytes() for row in found] == [bytes(unit.data[o : o + 1024]) for o in offsets]
    assert unit.log == [("batch read", 1, 4)]


def test_read_many_into_an_array(unit: RamUnit, disk: Disk) -> None:
    out = np.zeros((2, 512), np.uint8)
    assert disk.read_many([512, 0], 512, out, queue_depth=1) is out
    assert out[0].tobytes() == unit.data[512:1024]
    for wrong in (np.zeros((2, 511), np.uint8), np.zeros(1024, np.uint8)):
        with pytest.raises(InvalidArgument):
            disk.read_many([512, 0], 512, wrong)
    with pytest.raises(TypeError):
        disk.read_many([512, 0], 512, np.zeros((2, 1024), np.uint8)[:, ::2])


def test_offsets_with_gaps_between_them(unit: RamUnit, disk: Disk) -> None:
    strided = np.arange(0, 8, dtype=np.int64)[::2] * 512
    assert disk.read_many(strided, 512)[3].tobytes() == unit.data[6 * 512 : 7 * 512]


def test_read_many_unaligned(unit: RamUnit, disk: Disk) -> None:
    found = disk.read_many([1, 512, 700], 300)
    assert [row.tobytes() for row in found] == [bytes(unit.data[o : o + 300]) for o in (1, 512, 700)]


def test_many_of_nothing(unit: RamUnit, disk: Disk) -> None:
    assert disk.read_many([], 512).shape == (0, 512)
    assert disk.read_many(np.empty(0, np.int64), 512).shape == (0, 512)
    assert disk.read_many([0, 512], 0).shape == (2, 0)
    disk.write_many([], b"")
    disk.write_many([0, 512], b"")
    assert unit.log == []


def test_write_many(unit: RamUnit, disk: Disk) -> None:
    data = np.arange(3 * 512, dtype=np.uint16).astype(np.uint8).reshape(3, 512)
    disk.write_many([1024, 0, 5120], data)
    assert unit.log == [("batch write", 2, 3)]
    assert unit.data[:512] == data[1].tobytes()
    assert unit.data[5120:5632] == data[2].tobytes()
    disk.write_many([10, 530], b"AB" * 50)
    assert unit.data[10:60] == b"AB" * 25
    assert unit.data[530:580] == b"AB" * 25
    for offsets, size in (([0, 512], 1023), ([], 1)):
        with pytest.raises(InvalidArgument):
            disk.write_many(offsets, bytes(size))


def test_failures_are_told_after_all_have_ended(unit: RamUnit, disk: Disk) -> None:
    unit.bad = {1, 3}
    with pytest.raises(BatchError, match="2 of 4 I/Os failed; the first, at byte 1536") as caught:
        disk.read_many([0, 1536, 512, 1024], 512)
    assert caught.value.results == [0, errno.EIO, errno.EIO, 0]
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, MediumError)
    errors = np.full(4, 77, np.int32)
    found = disk.read_many([0, 1536, 512, 1024], 512, errors=errors)
    assert errors.tolist() == [0, errno.EIO, errno.EIO, 0]
    assert found[3].tobytes() == unit.data[1024:1536]
    plain = array("i", [77] * 4)
    disk.write_many([0, 1536, 512, 1024], bytes(2048), errors=plain)
    assert plain.tolist() == [0, errno.EIO, errno.EIO, 0]
    assert not any(unit.data[1024:1536])


def test_one_out_of_bounds_does_not_stop_the_rest(unit: RamUnit, disk: Disk) -> None:
    errors = np.zeros(4, np.int32)
    found = disk.read_many([0, SIZE - 511, -512, SIZE - 512], 512, errors=errors)
    assert errors.tolist() == [0, errno.EIO, errno.EINVAL, 0]
    assert found[3].tobytes() == unit.data[-512:]
    disk.write_many([0, SIZE, -512, SIZE - 512], b"y" * 2048, errors=errors)
    assert errors.tolist() == [0, errno.ENOSPC, errno.EINVAL, 0]
    assert unit.data[-512:] == b"y" * 512


def test_a_lost_connection_fails_all(unit: RamUnit, disk: Disk) -> None:
    unit.broken = ConnectionLost("the target went away")
    with pytest.raises(BatchError, match="went away") as caught:
        disk.read_many([0, 512], 512)
    assert caught.value.results == [errno.EIO] * 2
    assert isinstance(caught.value.__cause__, ConnectionLost)


def test_bad_arguments_of_a_batch(disk: Disk) -> None:
    for options in ({"queue_depth": 0}, {"errors": np.zeros(3, np.int32)}):
        with pytest.raises(InvalidArgument):
            disk.read_many([0, 512], 512, **options)
    with pytest.raises(InvalidArgument):
        disk.read_many(np.zeros((1, 1), np.int64), 512)


def test_read_many_makes_as_many_calls_for_ten_times_as_much() -> None:
    unit = RamUnit(blocks=64)
    unit.batch = lambda *_, **__: []  # type: ignore[method-assign]
    disk = Disk(unit, writable=False)

    def calls(count: int) -> int:
        offsets, seen = np.zeros(count, np.int64), []
        sys.setprofile(lambda frame, event, arg: seen.append(event))
        try:
            disk.read_many(offsets, 512)
        finally:
            sys.setprofile(None)
        return len(seen)

    calls(10)  # numpy imports itself
    assert calls(1000) == calls(10_000)


def test_write_many_respects_a_read_modify_write(unit: RamUnit, disk: Disk) -> None:
    thread = threading.Thread(target=disk.write_many, args=([0, 5 * 512], bytes(1024)))
    with unit.lock.modify(3, 1):
        thread.start()
        until_one_waits(unit, thread)
        assert unit.log == []
    thread.join(10)
    assert unit.log == [("batch write", 0, 2)]


# ---- a cache that is lost


def test_each_disk_that_wrote_is_told_once(unit: RamUnit) -> None:
    writers = [Disk(unit, writable=True) for _ in range(3)]
    reader, early = Disk(unit, writable=False), Disk(unit, writable=True)
    early.pwrite(b"x", 0)
    early.flush()
    writers[0].pwrite(b"x", 100)
    writers[1].zero(offset=512, length=512)
    writers[2].write_many([1024], bytes(512))
    unit.cache_losses += 1
    for disk in (reader, early):
        disk.flush()
    for disk in writers:
        with pytest.raises(CacheLost) as caught:
            disk.flush()
        assert caught.value.errno == errno.EIO
        disk.flush()
        disk.pwrite(b"again", 0)
        disk.flush()


def test_a_flush_that_fails_forgets_nothing(unit: RamUnit, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.pwrite(b"x", 0)
    unit.cache_losses += 1

    def fail() -> None:
        raise ConnectionLost("gone")

    with monkeypatch.context() as patch:
        patch.setattr(unit, "flush", fail)
        with pytest.raises(ConnectionLost):
            disk.flush()
    with pytest.raises(CacheLost):
        disk.flush()


def test_a_write_that_a_flush_overtakes_is_not_forgotten(unit: RamUnit, disk: Disk) -> None:
    """It ends after the flush, so the flush has not covered it."""
    unit.gate = threading.Event()
    thread = threading.Thread(target=disk.pwrite, args=(bytes(512), 0))
    thread.start()
    assert unit.entered.wait(10)
    disk.flush()
    unit.gate.set()
    thread.join()
    unit.cache_losses += 1
    with pytest.raises(CacheLost):
        disk.flush()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=2, max_size=5), st.booleans())
def test_neighbours_do_not_undo_each_other(widths: list[int], many: bool) -> None:
    """Threads write pieces that lie side by side, in parts of the same blocks; at the end every piece is there."""
    unit = RamUnit()
    starts = [sum(widths[:i]) + 3 for i in range(len(widths))]

    def work(number: int) -> None:
        disk, piece = Disk(unit, writable=True), bytes([number + 1]) * widths[number]
        for _ in range(20):
            if many:
                disk.write_many([starts[number], starts[number] + 8192], piece * 2)
            else:
                disk.pwrite(piece, starts[number])
                disk.pwrite(piece, starts[number] + 8192)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(widths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line = b"".join(bytes([number + 1]) * width for number, width in enumerate(widths))
    for at in (3, 8195):
        assert bytes(unit.data[at : at + len(line)]) == line
