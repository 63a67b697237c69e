# SPDX-License-Identifier: Apache-2.0
"""The ends of a transfer, over a disk that is a bytearray and files that are real."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from swd.cli import stream
from swd.cli.progress import Progress
from swd.errors import CacheLost, DeviceBusy, MediumError, SwdError


class RamDisk:
    """What a transfer uses of a Disk, counting flushes."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.flushed_at: list[int] = []
        self.written = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        buffer[:] = self.data[offset : offset + len(buffer)]
        return len(buffer)

    def pwrite(self, data: memoryview, offset: int) -> int:
        self.data[offset : offset + len(data)] = data
        self.written += len(data)
        return len(data)

    def flush(self) -> None:
        self.flushed_at.append(self.written)


def silent(total: int | None = None) -> Progress:
    return Progress("test", total, stream=None)


def disk_source(disk: RamDisk, offset: int = 0, length: int | None = None) -> stream.DiskSource:
    return stream.DiskSource(disk, "disk", offset, length)  # type: ignore[arg-type]


def disk_sink(disk: RamDisk, size: int | None = None, offset: int = 0) -> stream.DiskSink:
    return stream.DiskSink(disk, "disk", size, offset)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, stream.CHUNK - 1, stream.CHUNK, 2 * stream.CHUNK + 7])
def test_all_bytes_arrive(size: int) -> None:
    source, target = RamDisk(os.urandom(size)), RamDisk(bytes(size))
    sink = disk_sink(target, size)
    assert stream.transfer(disk_source(source), sink, silent()) == size
    sink.finish()
    assert target.data == source.data


def test_a_range_is_a_range() -> None:
    disk, target = RamDisk(os.urandom(1000)), RamDisk(bytes(100))
    stream.transfer(disk_source(disk, 300, 100), disk_sink(target, 50, 0), silent())
    assert target.data == disk.data[300:400]


@pytest.mark.parametrize(("offset", "length"), [(1001, None), (0, 1001), (1000, 1), (1 << 60, 0)])
def test_reading_past_the_end_is_eio_before_anything(offset: int, length: int | None) -> None:
    with pytest.raises(MediumError, match="ends at byte 1000") as caught:
        disk_source(RamDisk(bytes(1000)), offset, length)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(("size", "offset"), [(1001, 0), (1, 1000), (None, 1001), (0, 1001)])
def test_what_does_not_fit_is_enospc_before_anything(size: int | None, offset: int) -> None:
    disk = RamDisk(bytes(1000))
    with pytest.raises(SwdError, match="1000 bytes") as caught:
        disk_sink(disk, size, offset)
    assert (caught.value.errno, disk.written) == (errno.ENOSPC, 0)


def test_a_source_of_unknown_length_fills_the_disk_and_is_enospc() -> None:
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(writer, bytes(3000)), os.close(writer)))
    feeder.start()
    disk = RamDisk(b"x" * 1000)
    with pytest.raises(SwdError, match="more was to come") as caught:
        stream.transfer(stream.FileSource(reader), disk_sink(disk), silent())
    feeder.join()
    os.close(reader)
    assert caught.value.errno == errno.ENOSPC


def test_a_flush_every_64_mib() -> None:
    disk = RamDisk(bytes((2 * stream.FLUSH_EVERY) + 1))
    sink = disk_sink(disk)
    stream.transfer(disk_source(RamDisk(bytes(disk.size))), sink, silent())
    assert disk.flushed_at == [stream.FLUSH_EVERY, 2 * stream.FLUSH_EVERY]
    sink.finish()
    assert disk.flushed_at[-1] == disk.size


def test_a_pipe_that_drips_fills_whole_buffers() -> None:
    reader, writer = os.pipe()

    def drip() -> None:
        for _ in range(100):
            os.write(writer, b"ab")
        os.close(writer)

    feeder = threading.Thread(target=drip)
    feeder.start()
    source = stream.FileSource(reader)
    buffer = memoryview(bytearray(150))
    assert [source.size, source.fill(buffer), source.fill(buffer), source.fill(buffer)] == [None, 150, 50, 0]
    feeder.join()
    os.close(reader)


def test_a_new_file_has_its_name_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "image"
    sink = stream.file_sink(str(path))
    sink.put(memoryview(b"half"))
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    sink.finish()
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, SwdError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"old")

    class Failing:
        size = None

        def fill(self, buffer: memoryview) -> int:
            raise failure("broken")

    with pytest.raises(failure):
        stream.transfer(Failing(), stream.file_sink(str(path)), silent())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    real, link, fresh = tmp_path / "real", tmp_path / "link", tmp_path / "fresh"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        for path in (link, fresh):
            sink = stream.file_sink(str(path))
            sink.put(memoryview(b"new"))
            sink.finish()
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (real, fresh)] == [0o640, 0o640]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "image")
    with pytest.raises(FileNotFoundError) as caught:
        stream.file_sink(path)
    assert caught.value.filename == path


def test_a_device_is_written_in_place() -> None:
    sink = stream.file_sink("/dev/null")
    sink.put(memoryview(b"x"))
    sink.finish()
    full = stream.file_sink("/dev/full")
    with pytest.raises(OSError, match="/dev/full") as caught:
        full.put(memoryview(b"x"))
    assert caught.value.errno == errno.ENOSPC
    full.abandon()


def test_checks_find_the_place_that_differs() -> None:
    disk = RamDisk(os.urandom(stream.CHUNK + 100))
    checks = stream.Checks()
    target = RamDisk(bytes(disk.size))
    stream.transfer(disk_source(disk), disk_sink(target), silent(), checks)
    checks.compare(disk_source(target), "target", silent())
    target.data[-1] ^= 1
    with pytest.raises(MediumError, match=f"between byte {stream.CHUNK} and {stream.CHUNK + 100}"):
        checks.compare(disk_source(target), "target", silent())


def test_checks_find_a_copy_that_is_too_short() -> None:
    checks = stream.Checks()
    checks.add(memoryview(b"abc"))
    with pytest.raises(MediumError):
        checks.compare(disk_source(RamDisk(b"ab")), "short", silent())


def test_a_block_device_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"XFSB" + bytes(4092))
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: False)
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    with pytest.raises(DeviceBusy, match=r"XFS(.|\n)*swdctl copy --overwrite"):
        stream.file_sink(str(image))


@pytest.mark.parametrize(("losses", "ends"), [(1, True), (stream.REWRITES - 1, True), (stream.REWRITES, False)])
def test_what_a_lost_cache_took_is_written_again(losses: int, ends: bool) -> None:
    data = os.urandom(stream.FLUSH_EVERY + 3 * stream.CHUNK + 5)
    disk = LossyDisk(len(data), losses)
    sink = disk_sink(disk, len(data))
    stream.transfer(disk_source(RamDisk(data)), sink, silent())
    if ends:
        sink.finish()
        assert disk.data == data
    else:
        with pytest.raises(CacheLost):
            sink.finish()


class LossyDisk(RamDisk):
    """Forgets, at the last flush, what came since the one before; so many times."""

    def __init__(self, size: int, losses: int) -> None:
        super().__init__(bytes(size))
        self._losses = losses
        self._safe = bytes(size)

    def flush(self) -> None:
        super().flush()
        if len(self.flushed_at) > 1 and self._losses:
            self._losses -= 1
            self.data[:] = self._safe
            raise CacheLost("gone")
        self._safe = bytes(self.data)
