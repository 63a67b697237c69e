# SPDX-License-Identifier: Apache-2.0
"""What the FUSE file answers, without FUSE: bytes, errnos, and what reaches the unit."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ram_unit import RamUnit

from swd.disk import Disk
from swd.errors import MediumError
from swd.export.fuse import PATH, DiskFile

HOLE = 0x02 | 0x01  # PUNCH_HOLE with KEEP_SIZE


@pytest.fixture
def unit() -> RamUnit:
    return RamUnit(64)


@pytest.fixture
def file(unit: RamUnit) -> DiskFile:
    return DiskFile(Disk(unit, writable=True))


def fails(number: int, action: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno == number


def test_there_is_one_file_of_the_disks_size(file: DiskFile) -> None:
    assert file.readdir("/", None) == [".", "..", "disk"]
    assert file.getattr(PATH)["st_size"] == 64 * 512
    assert file.getattr(PATH)["st_mode"] == 0o100600
    fails(errno.ENOENT, lambda: file.getattr("/other"))
    fails(errno.ENOENT, lambda: file.open("/other", 0))


def test_bytes_go_through_at_any_offset(file: DiskFile, unit: RamUnit) -> None:
    assert file.write(PATH, b"x" * 700, 300, 0) == 700
    assert file.read(PATH, 1000, 299, 0) == b"\0" + b"x" * 700 + bytes(299)
    assert unit.data[300:1000] == b"x" * 700
    assert len(file.read(PATH, 4096, 64 * 512 - 100, 0)) == 100


def test_fsync_and_the_last_close_flush_the_unit(file: DiskFile, unit: RamUnit) -> None:
    file.fsync(PATH, 1, 0)
    file.flush(PATH, 0)
    assert [verb for verb, _, _ in unit.log] == ["flush", "flush"]


def test_a_hole_reads_as_zeros_and_ends_at_the_end(file: DiskFile, unit: RamUnit) -> None:
    unit.data[:] = b"y" * len(unit.data)
    file.fallocate(PATH, HOLE, 512, 1024, 0)
    file.fallocate(PATH, HOLE, 63 * 512, 1 << 30, 0)
    assert [entry for entry in unit.log if entry[0] != "read"] == [("zero", 1, 2), ("zero", 63, 1)]
    assert unit.data == b"y" * 512 + bytes(1024) + b"y" * (60 * 512) + bytes(512)


@pytest.mark.parametrize("mode", [0, 0x01, 0x02, 0x10, 0x10 | 0x01, 0x08, 0x20])
def test_other_modes_are_not_what_a_disk_does(file: DiskFile, unit: RamUnit, mode: int) -> None:
    fails(errno.EOPNOTSUPP, lambda: file.fallocate(PATH, mode, 0, 512, 0))
    assert unit.log == []


def test_the_size_stays(file: DiskFile) -> None:
    assert file.truncate(PATH, 64 * 512) == 0
    fails(errno.EPERM, lambda: file.truncate(PATH, 0))


def test_a_failure_comes_out_as_its_errno_and_is_counted(file: DiskFile, unit: RamUnit) -> None:
    unit.broken = MediumError("gone")
    unit.bad = set(range(64))
    fails(errno.EIO, lambda: file.read(PATH, 512, 0, 0))
    assert file.failed_writes == 0
    fails(errno.EIO, lambda: file.write(PATH, b"x" * 512, 0, 0))
    assert file.failed_writes == 1
    fails(errno.ENOSPC, lambda: file.write(PATH, b"x" * 512, 64 * 512, 0))
    assert file.failed_writes == 2


def test_a_disk_that_is_read_is_never_flushed(unit: RamUnit) -> None:
    file = DiskFile(Disk(unit, writable=False))
    assert file.getattr(PATH)["st_mode"] == 0o100400
    file.flush(PATH, 0)
    file.fsync(PATH, 0, 0)
    assert unit.log == []
    fails(errno.EROFS, lambda: file.open(PATH, 2))
    fails(errno.EBADF, lambda: file.write(PATH, b"x", 0, 0))
    fails(errno.EBADF, lambda: file.fallocate(PATH, HOLE, 0, 512, 0))


def test_the_kernel_is_asked_for_large_requests_and_no_cache(unit: RamUnit) -> None:
    told = []
    file = DiskFile(Disk(unit, writable=True), on_ready=lambda: told.append(1))
    connection, config = SimpleNamespace(max_write=131072, want=(1 << 16) | 1), SimpleNamespace(direct_io=0)
    file.init_with_config(connection, config)
    assert (connection.max_write, connection.want, config.direct_io, told) == (1 << 20, 1, 1, [1])
