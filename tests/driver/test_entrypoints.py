# SPDX-License-Identifier: Apache-2.0
"""The entry points: descriptors, modes, positions, threads and forks, as `os.*` has them on a block device."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swd.driver import Driver, devsw
from swd.driver.fdtable import FIRST_FD
from swd.driver.ioctl import Request
from swd.driver.registry import Registry
from swd.driver.row import Row, Transfer, Unit, Wanted
from swd.errors import DeviceBusy, MediumError, NoSuchDevice, SwdError, Unsupported
from swd.proto.url import MemDev
from swd.values import Portal

MEM = "mem://64K"
BLOCK = 512


@pytest.fixture
def drv() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


def number(act: Callable[..., object], *arguments: Any, **keywords: Any) -> str:
    """The name of the errno that a call ends with."""
    with pytest.raises(SwdError) as caught:
        act(*arguments, **keywords)
    assert caught.value.errno is not None
    return errno.errorcode[caught.value.errno]


# --- descriptors ---------------------------------------------------------------------------------------------------


def test_the_smallest_free_number_from_far_above_the_systems(drv: Driver) -> None:
    fds = [drv.open(MEM) for _ in range(4)]
    assert fds == [0x40000000 + i for i in range(4)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(fds[0], 1)
    drv.close(fds[2])
    drv.close(fds[0])
    assert [drv.open(MEM) for _ in range(3)] == [fds[0], fds[2], fds[3] + 1]


def test_every_call_on_a_bad_descriptor_is_ebadf(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    drv.close(fd)
    for bad in (fd, 0, -1, FIRST_FD + 99):
        for call in calls(drv, bad):
            assert number(call) == "EBADF"


def calls(drv: Driver, fd: int) -> list[Callable[[], object]]:
    """One call of each entry point that takes a descriptor."""
    return [
        lambda: drv.read(fd, BLOCK),
        lambda: drv.write(fd, bytes(BLOCK)),
        lambda: drv.pread(fd, BLOCK, 0),
        lambda: drv.pwrite(fd, bytes(BLOCK), 0),
        lambda: drv.preadv(fd, [bytearray(BLOCK)], 0),
        lambda: drv.pwritev(fd, [bytes(BLOCK)], 0),
        lambda: drv.strategy(fd, [Transfer(False, 0, bytearray(BLOCK))]),
        lambda: drv.lseek(fd, 0, os.SEEK_SET),
        lambda: drv.fsync(fd),
        lambda: drv.poll(fd, select.POLLIN, 0),
        lambda: drv.ioctl(fd, Request.BLKGETSIZE64),
        lambda: drv.close(fd),
    ]


def test_the_mode_decides(drv: Driver) -> None:
    reader, writer = drv.open(MEM, os.O_RDONLY), drv.open(MEM, os.O_WRONLY)
    for call in (
        lambda: drv.write(reader, bytes(BLOCK)),
        lambda: drv.pwritev(reader, [bytes(BLOCK)], 0),
        lambda: drv.ioctl(reader, "BLKZEROOUT", (0, BLOCK)),
        lambda: drv.ioctl(reader, "BLKDISCARD", (0, BLOCK)),
        lambda: drv.strategy(reader, [Transfer(True, 0, bytes(BLOCK))]),
        lambda: drv.read(writer, BLOCK),
        lambda: drv.preadv(writer, [bytearray(BLOCK)], 0),
        lambda: drv.strategy(writer, [Transfer(False, 0, bytearray(BLOCK))]),
    ):
        assert number(call) == "EBADF"
    assert drv.write(writer, bytes(BLOCK)) == BLOCK
    assert drv.read(reader, BLOCK) == bytes(BLOCK)


def test_close_closes_and_the_context_closes_all(drv: Driver) -> None:
    with Driver() as other:
        fd = other.open("mem://1M?name=closed", os.O_RDWR)
        other.pwrite(fd, b"x" * BLOCK, 0)
    assert number(other.read, fd, BLOCK) == "EBADF"
    assert drv.pread(drv.open("mem://1M?name=closed"), BLOCK, 0) == b"x" * BLOCK


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (os.O_APPEND, "EINVAL"),
        (os.O_DIRECTORY, "EINVAL"),
        (os.O_WRONLY | os.O_RDWR, "EINVAL"),
        (os.O_CREAT | os.O_EXCL, "EEXIST"),
    ],
)
def test_flags_that_do_not_fit(drv: Driver, flags: int, name: str) -> None:
    assert number(drv.open, MEM, flags) == name


def test_nothing_is_created_or_truncated(drv: Driver, tmp_path: Path) -> None:
    assert number(drv.open, str(tmp_path / "none"), os.O_RDWR | os.O_CREAT) == "ENXIO"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "image").write_bytes(b"x" * BLOCK)
    fd = drv.open(str(tmp_path / "image"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
    assert drv.read(fd, BLOCK) == b"x" * BLOCK


def test_o_excl_is_for_one_at_a_time(drv: Driver) -> None:
    dev = "mem://1M?name=excl"
    first = drv.open(dev, os.O_RDWR | os.O_EXCL)
    with pytest.raises(DeviceBusy):
        drv.open(dev, os.O_EXCL)
    drv.open(dev)  # one that does not ask for it is let in, as on Linux
    drv.close(first)
    drv.open(dev, os.O_EXCL)


def test_o_excl_is_given_back_when_the_open_fails(drv: Driver, tmp_path: Path) -> None:
    image = tmp_path / "image"
    assert number(drv.open, str(image), os.O_EXCL) == "ENXIO"
    image.write_bytes(bytes(BLOCK))
    drv.open(str(image), os.O_EXCL)


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_o_sync_flushes_each_write(drv: Driver, flag: int) -> None:
    plain, synced = drv.open(MEM, os.O_RDWR), drv.open(MEM, os.O_RDWR | flag)
    for fd, flushes in ((plain, 0), (synced, 1)):
        drv.write(fd, bytes(BLOCK))
        assert drv.ioctl(fd, "SWD_STATS_GET") == {
            "reads": 0,
            "read_bytes": 0,
            "writes": 1,
            "written_bytes": BLOCK,
            "flushes": flushes,
        }


# --- bounds, alignment, positions ------------------------------------------------------------------------------------


def test_short_only_at_the_end(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    size = 65536
    assert drv.ioctl(fd, Request.BLKGETSIZE64) == size
    assert len(drv.pread(fd, 4 * BLOCK, size - BLOCK)) == BLOCK
    assert drv.pread(fd, BLOCK, size) == drv.pread(fd, BLOCK, 10 * size) == b""
    assert drv.lseek(fd, -BLOCK, os.SEEK_END) == size - BLOCK
    assert len(drv.read(fd, 2 * BLOCK)) == BLOCK
    assert drv.read(fd, BLOCK) == b""
    buffers = [bytearray(b"?" * BLOCK) for _ in range(3)]
    assert drv.preadv(fd, buffers, size - BLOCK) == BLOCK
    assert buffers[1] == b"?" * BLOCK


def test_a_write_that_does_not_fit_writes_nothing(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    for offset in (65536 - BLOCK, 65536, 1 << 40):
        with pytest.raises(MediumError, match="ends at") as caught:
            drv.pwrite(fd, b"x" * 2 * BLOCK, offset)
        assert caught.value.errno == errno.ENOSPC
    assert drv.pread(fd, BLOCK, 65536 - BLOCK) == bytes(BLOCK)
    assert drv.pwrite(fd, b"", 65536) == 0


@pytest.mark.parametrize(("length", "offset"), [(1, 0), (BLOCK, 1), (BLOCK - 1, BLOCK + 1), (3 * BLOCK // 2, 0)])
def test_misaligned_is_einval(drv: Driver, length: int, offset: int) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    for call in (
        lambda: drv.pread(fd, length, offset),
        lambda: drv.pwrite(fd, bytes(length), offset),
        lambda: drv.preadv(fd, [bytearray(length)], offset),
        lambda: drv.pwritev(fd, [bytes(length)], offset),
        lambda: drv.ioctl(fd, "BLKZEROOUT", (offset, length)),
        lambda: drv.ioctl(fd, "BLKDISCARD", (offset, length)),
    ):
        assert number(call) == "EINVAL"


def test_negative_numbers_are_einval(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    for call in (
        lambda: drv.read(fd, -BLOCK),
        lambda: drv.pread(fd, BLOCK, -BLOCK),
        lambda: drv.pwrite(fd, bytes(BLOCK), -BLOCK),
        lambda: drv.lseek(fd, -1, os.SEEK_SET),
        lambda: drv.lseek(fd, 1, os.SEEK_END),
        lambda: drv.lseek(fd, 0, 99),
        lambda: drv.ioctl(fd, "BLKZEROOUT", (-BLOCK, BLOCK)),
        lambda: drv.ioctl(fd, "BLKZEROOUT", (65536, BLOCK)),
    ):
        assert number(call) == "EINVAL"


def test_wrong_types_are_type_errors(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    wrong: list[Callable[[], object]] = [
        lambda: drv.open(b"mem://1M"),  # type: ignore[arg-type]
        lambda: drv.open(MEM, "r"),  # type: ignore[arg-type]
        lambda: drv.read(str(fd), 1),  # type: ignore[arg-type]
        lambda: drv.read(fd, 512.0),  # type: ignore[arg-type]
        lambda: drv.pread(fd, 512, None),  # type: ignore[arg-type]
        lambda: drv.write(fd, "text"),  # type: ignore[arg-type]
        lambda: drv.preadv(fd, [bytes(BLOCK)], 0),
        lambda: drv.lseek(fd, 0.0, 0),  # type: ignore[arg-type]
        lambda: drv.poll(fd, "in"),  # type: ignore[arg-type]
        lambda: drv.ioctl(fd, 1.5),  # type: ignore[arg-type]
        lambda: drv.ioctl(fd, "BLKGETSIZE64", 1),
        lambda: drv.ioctl(fd, "SG_IO", b"\0"),
        lambda: drv.ioctl(fd, "BLKDISCARD", 512),
        lambda: Driver(phase="pre-network"),  # type: ignore[arg-type]
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()


def test_vectors_are_one_range(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    data = os.urandom(2 * BLOCK)
    assert drv.pwritev(fd, [data[:100], memoryview(data)[100:600], bytearray(data[600:])], BLOCK) == 2 * BLOCK
    parts = [bytearray(1000), bytearray(24)]
    assert drv.preadv(fd, parts, BLOCK) == 2 * BLOCK
    assert b"".join(parts) == data


def test_strategy_answers_each_of_a_batch(drv: Driver) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    into, late = bytearray(BLOCK), bytearray(BLOCK)
    batch = [
        Transfer(True, 0, b"a" * BLOCK),
        Transfer(False, 0, into),
        Transfer(True, 65536, b"b" * BLOCK),
        Transfer(False, 65536, late),
        Transfer(False, 1, late),
    ]
    errors = [error and error.errno for error in drv.strategy(fd, batch)]
    assert errors == [None, None, errno.ENOSPC, errno.EIO, errno.EINVAL]
    assert into == b"a" * BLOCK


def test_poll_never_waits(drv: Driver) -> None:
    fd = drv.open(MEM)
    assert drv.poll(fd, select.POLLIN | select.POLLPRI) == select.POLLIN
    assert drv.poll(fd, select.POLLPRI, timeout=None) == 0


class OsLike(RuleBasedStateMachine):
    """The same aligned calls on a real file through `os` and on a RAM disk through the driver give the same answers."""

    SIZE = 16 * BLOCK
    BLOCKS = st.integers(0, 15)

    @initialize()
    def begin(self) -> None:
        self.drv = Driver()
        self.fd = self.drv.open(f"mem://{self.SIZE}", os.O_RDWR)
        self.twin = tempfile.TemporaryFile()  # noqa: SIM115  # closed by teardown
        self.file = self.twin.fileno()
        os.ftruncate(self.file, self.SIZE)

    @rule(block=BLOCKS, count=BLOCKS)
    def pread(self, block: int, count: int) -> None:
        where = block * BLOCK
        assert self.drv.pread(self.fd, count * BLOCK, where) == os.pread(self.file, count * BLOCK, where)

    @rule(count=BLOCKS)
    def read(self, count: int) -> None:
        assert self.drv.read(self.fd, count * BLOCK) == os.read(self.file, count * BLOCK)

    @rule(block=BLOCKS, count=st.integers(0, 4), fill=st.binary(min_size=1, max_size=8))
    def pwrite(self, block: int, count: int, fill: bytes) -> None:
        count = min(count, 16 - block)
        data = (fill * BLOCK)[:BLOCK] * count
        assert self.drv.pwrite(self.fd, data, block * BLOCK) == os.pwrite(self.file, data, block * BLOCK)

    @rule(fill=st.binary(min_size=1, max_size=8))
    def write(self, fill: bytes) -> None:
        data = (fill * BLOCK)[:BLOCK]
        if os.lseek(self.file, 0, os.SEEK_CUR) < self.SIZE:
            assert self.drv.write(self.fd, data) == os.write(self.file, data)

    @rule(block=BLOCKS, split=st.integers(0, BLOCK))
    def vectors(self, block: int, split: int) -> None:
        ours, theirs = ([bytearray(split), bytearray(BLOCK - split)] for _ in range(2))
        assert self.drv.preadv(self.fd, ours, block * BLOCK) == os.preadv(self.file, theirs, block * BLOCK)
        assert ours == theirs

    @rule(how=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]), block=st.integers(-17, 17))
    def lseek(self, how: int, block: int) -> None:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: os.lseek(self.file, 0, os.SEEK_CUR), os.SEEK_END: self.SIZE}[how]
        if 0 <= start + block * BLOCK <= self.SIZE:
            assert self.drv.lseek(self.fd, block * BLOCK, how) == os.lseek(self.file, block * BLOCK, how)

    @invariant()
    def positions_agree(self) -> None:
        assert self.drv.lseek(self.fd, 0, os.SEEK_CUR) == os.lseek(self.file, 0, os.SEEK_CUR)

    def teardown(self) -> None:
        if hasattr(self, "drv"):
            assert self.drv.pread(self.fd, self.SIZE, 0) == os.pread(self.file, self.SIZE, 0)
            self.drv.close_all()
            self.twin.close()


TestOsLike = OsLike.TestCase
TestOsLike.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


# --- threads -------------------------------------------------------------------------------------------------------


class Slow:
    """A driver of one row whose read stays inside until it is let out, and which notes what is done to it."""

    def __init__(self) -> None:
        self.inside, self.let_out, self.detached = threading.Event(), threading.Event(), threading.Event()
        self.row = Row(
            "slow",
            ("mem",),
            "for tests",
            match=lambda dev: isinstance(dev, MemDev),
            attach=self.attach,
            detach=lambda unit: self.detached.set(),
            open=lambda unit, flags: None,
            close=lambda unit: None,
            read=self.read,
            write=self.write,
            ioctl=lambda unit, request, arg: self.detached.set(),
        )
        self.offsets: list[int] = []

    def attach(self, dev: MemDev, wanted: Wanted) -> Unit:
        return Unit(self.row, str(dev), wanted.writable)

    def read(self, unit: Unit, length: int, offset: int) -> bytes:
        self.inside.set()
        assert self.let_out.wait(30)
        assert not self.detached.is_set()
        return bytes(length)

    def write(self, unit: Unit, data: bytes, offset: int) -> int:
        self.offsets.append(offset)
        self.inside.set()
        assert self.let_out.wait(30)
        return len(data)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    found = Slow()
    monkeypatch.setattr(devsw, "DEVSW", (found.row,))
    return found


def test_close_while_another_thread_reads(drv: Driver, slow: Slow) -> None:
    fd, answers = drv.open(MEM), list[bytes]()
    reader = threading.Thread(target=lambda: answers.append(drv.pread(fd, BLOCK, 0)))
    reader.start()
    assert slow.inside.wait(30)
    drv.close(fd)
    assert number(drv.pread, fd, BLOCK, 0) == "EBADF"  # gone at once, for everybody
    assert not slow.detached.is_set()  # but the device stays until the reader has left
    assert drv.open(MEM) == fd  # and the number is free
    slow.let_out.set()
    reader.join(30)
    assert slow.detached.is_set()
    assert answers == [bytes(BLOCK)]


def test_o_excl_lasts_until_the_last_user_has_left(drv: Driver, slow: Slow) -> None:
    fd = drv.open("mem://64K?name=a", os.O_EXCL)
    reader = threading.Thread(target=lambda: drv.pread(fd, BLOCK, 0))
    reader.start()
    assert slow.inside.wait(30)
    drv.close(fd)
    assert number(drv.open, "mem://64K?name=a", os.O_EXCL) == "EBUSY"
    slow.let_out.set()
    reader.join(30)
    drv.open("mem://64K?name=a", os.O_EXCL)


def test_empty_slots_name_the_driver(drv: Driver, slow: Slow) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    for call in (lambda: drv.fsync(fd), lambda: drv.lseek(fd, 0, 0), lambda: drv.strategy(fd, [])):
        with pytest.raises(Unsupported, match="slow"):
            call()


def test_a_row_need_not_know_modes(drv: Driver, slow: Slow) -> None:
    reader, writer = drv.open(MEM), drv.open(MEM, os.O_WRONLY)
    for call in (
        lambda: drv.pwrite(reader, bytes(BLOCK), 0),
        lambda: drv.ioctl(reader, "BLKZEROOUT", (0, BLOCK)),
        lambda: drv.pread(writer, BLOCK, 0),
    ):
        assert number(call) == "EBADF"
    assert not slow.inside.is_set()
    assert not slow.detached.is_set()


def test_writes_at_the_position_take_turns(drv: Driver, slow: Slow) -> None:
    fd = drv.open(MEM, os.O_RDWR)
    first, second = (threading.Thread(target=drv.write, args=(fd, bytes(BLOCK))) for _ in range(2))
    first.start()
    assert slow.inside.wait(30)
    second.start()
    second.join(0.3)
    assert slow.offsets == [0]
    slow.let_out.set()
    for thread in (first, second):
        thread.join(30)
    assert slow.offsets == [0, BLOCK]


def test_many_threads_share_one_driver(drv: Driver) -> None:
    """Each thread opens, writes at the shared position, and closes; no number is given to two at once."""
    shared = drv.open(MEM, os.O_RDWR)
    seen: list[int] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait(30)
        for _ in range(16):
            fd = drv.open("mem://4K", os.O_RDWR)
            drv.pwrite(fd, bytes([number]) * BLOCK, 0)
            drv.write(shared, bytes(BLOCK))
            assert drv.pread(fd, BLOCK, 0) == bytes([number]) * BLOCK
            seen.append(fd)
            drv.close(fd)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert drv.lseek(shared, 0, os.SEEK_CUR) == 8 * 16 * BLOCK  # no position was given to two writes
    assert max(seen) <= FIRST_FD + 8


# --- fork ----------------------------------------------------------------------------------------------------------

FORK = """
import errno, os, sys, threading
from swd.driver import Driver
from swd.errors import BadDescriptor
drv = Driver()
fd = drv.open("mem://64K?name=forked", os.O_RDWR)
drv.pwrite(fd, b"x" * 512, 0)
with drv._table._lock:  # as if another thread were in the middle of an open: the child must not wait for it
    child = os.fork()
if child == 0:
    import faulthandler
    faulthandler.dump_traceback_later(20, exit=True)
    for call in (lambda: drv.pread(fd, 512, 0), lambda: drv.close(fd), lambda: drv.fsync(fd), lambda: drv.poll(fd, 1),
                 lambda: drv.ioctl(fd, "BLKGETSIZE64"), lambda: drv.open("mem://64K")):
        try:
            call()
            os._exit(3)
        except BadDescriptor as error:
            assert error.errno == errno.EBADF and "opened before fork" in error.reason, error
    with drv:
        pass
    with Driver() as fresh:
        again = fresh.open("mem://64K?name=forked")
        assert fresh.pread(again, 512, 0) == bytes(512)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert drv.pread(fd, 512, 0) == b"x" * 512
drv.close(fd)
"""


def test_after_a_fork_the_child_has_bad_descriptors_only() -> None:
    import swd

    home = str(Path(swd.__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_driver_may_have_a_registry_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite3"
    Registry(path).remember(0, 0, "unnamed", False, 512, 512)
    Registry(path).instance("iqn.2026-01.org.example:own", Portal("127.0.0.1", 1))
    for own in (path, str(path), Registry(path)):
        with Driver(registry=own) as drv, pytest.raises(NoSuchDevice, match=r"127\.0\.0\.1:1"):
            drv.open("255/0/0.0.0.0")
    with Driver() as drv, pytest.raises(NoSuchDevice, match="swdctl scan"):
        drv.open("255/0/0.0.0.0")
