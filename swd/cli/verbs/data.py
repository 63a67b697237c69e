# SPDX-License-Identifier: Apache-2.0
"""`read`, `write`, `copy`: bytes between devices, files and pipes.

The device is opened first, and only then the file: what may not be opened leaves no file behind, and with several
failures the first in the order of the arguments is the one reported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import swd
from swd.cli import guard, stream
from swd.cli.call import Call, UsageProblem
from swd.proto.url import FileDev, parse_dev

if TYPE_CHECKING:
    from swd.cli.stream import Source
    from swd.disk import Disk


@dataclass(frozen=True, slots=True)
class Transfer:
    """The answer of all three verbs."""

    source: str
    destination: str
    length_bytes: int
    seconds: float
    speed_mb_s: float
    verified: bool | None = None


def read(call: Call, *, dev: str, offset: int, length: int | None, output: str) -> Transfer | None:
    """Device to file. To standard output the answer is the data; the record goes to stderr if it was asked for."""
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise UsageProblem("standard output is a terminal: name a file with -o, or pipe the bytes somewhere")
    with swd.open(dev, "rb", **call.options) as disk:
        source = stream.DiskSource(disk, dev, offset, length)
        sink = stream.file_sink(output)
        progress = call.progress("read", source.size)
        count = stream.transfer(source, sink, progress)
        sink.finish()
    return _answer(call, dev, output, count, progress.seconds)


def write(call: Call, *, dev: str, offset: int, input: str, overwrite: bool, force: bool) -> Transfer:
    """File to device."""
    with swd.open(dev, "r+b", **call.options) as disk, _input(input) as source:
        check(dev, disk, overwrite, force)
        sink = stream.DiskSink(disk, dev, source.size, offset)
        progress = call.progress("write", source.size)
        with sink.accounted():
            count = stream.transfer(source, sink, progress)
            sink.finish()
    return _record(input, dev, count, progress.seconds)


def copy(call: Call, *, src: str, dst: str, verify: bool, overwrite: bool, force: bool) -> Transfer | None:
    """Device to device; each end may be `-`, and a DST file that is not there, or empty, is made."""
    if src == dst == "-":
        raise UsageProblem("one of SRC and DST must be a device")
    if dst == "-":
        if verify:
            raise UsageProblem("--verify reads DST back, and standard output cannot be read")
        return read(call, dev=src, offset=0, length=None, output="-")
    checks = stream.Checks() if verify else None
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_source(call, src))
        if new := _new_file(dst):
            return _to_new_file(call, source, src, new, checks)
        disk = stack.enter_context(swd.open(dst, "r+b", **call.options))
        if isinstance(source, stream.DiskSource):
            guard.check_apart(source.disk, disk, (src, dst))
        check(dst, disk, overwrite, force)
        sink = stream.DiskSink(disk, dst, source.size)
        progress = call.progress("copy", source.size)
        with sink.accounted():
            count = stream.transfer(source, sink, progress, checks)
            sink.finish()
        seconds = progress.seconds
        if checks is not None:
            _compare(call, checks, stream.DiskSource(disk, dst, 0, count), dst)
    return _record(src, dst, count, seconds, None if checks is None else True)


def _to_new_file(call: Call, source: Source, src: str, path: str, checks: stream.Checks | None) -> Transfer:
    sink = stream.NewFileSink(path)
    progress = call.progress("copy", source.size)
    count = stream.transfer(source, sink, progress, checks)
    seconds = progress.seconds
    try:
        if checks is not None:
            os.fsync(sink.fd)
            with open(os.dup(sink.fd), "rb") as again:  # the descriptor, since the file has no name of its own yet
                os.lseek(again.fileno(), 0, os.SEEK_SET)
                _compare(call, checks, stream.FileSource(again.fileno()), path)
    except BaseException:
        sink.abandon()
        raise
    sink.finish()
    return _record(src, path, count, seconds, None if checks is None else True)


def _compare(call: Call, checks: stream.Checks, source: Source, name: str) -> None:
    with call.progress("verify", source.size) as progress:
        checks.compare(source, name, progress)


def check(dev: str, disk: Disk, overwrite: bool, force: bool) -> None:
    """The guard of destructive verbs: raises DeviceBusy (EBUSY) if the unit holds something or is attached here."""
    if not overwrite:
        guard.check_content(dev, disk.size, disk.pread)
    if not force:
        for identity in guard.identities(disk):
            guard.check_attached(dev, identity)


@contextlib.contextmanager
def _source(call: Call, src: str) -> Iterator[Source]:
    if src == "-":
        yield stream.FileSource(0)
        return
    with swd.open(src, "rb", **call.options) as disk:
        yield stream.DiskSource(disk, src)


@contextlib.contextmanager
def _input(path: str) -> Iterator[Source]:
    if path == "-":
        yield stream.FileSource(0)
        return
    with open(path, "rb", buffering=0) as file:
        yield stream.FileSource(file.fileno())


def _new_file(dst: str) -> str | None:
    """The path, when DST is a local file that has to be made."""
    dev = parse_dev(dst)
    return dev.path if isinstance(dev, FileDev) and not stream.exists(dev.path) else None


def _answer(call: Call, source: str, output: str, count: int, seconds: float) -> Transfer | None:
    record = _record(source, output, count, seconds)
    if output != "-":
        return record
    call.aside(record)
    return None


def _record(source: str, destination: str, count: int, seconds: float, verified: bool | None = None) -> Transfer:
    speed = count / seconds / 1e6 if seconds > 0 else 0.0
    return Transfer(source, destination, count, round(seconds, 3), round(speed, 1), verified)
