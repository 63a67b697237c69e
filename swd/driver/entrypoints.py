# SPDX-License-Identifier: Apache-2.0
"""The entry points: `os.*` on a block device without a page cache, through the driver table, with ordinary errnos.

Each call is looked up in the descriptor table, passes through `errnos.translated`, and ends in a slot of a row. This
module knows descriptors, positions and modes; blocks are the rows' business. The phase gate comes before everything
else that an open does.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from swd import messages
from swd.driver import config as configuration
from swd.driver import devsw, phase
from swd.driver.errnos import During, translated
from swd.driver.fdtable import FdTable, OpenFile
from swd.driver.ioctl import Request, check, lookup
from swd.driver.row import Buffer, Row, Transfer, Unit, Wanted
from swd.driver.sessions import SessionPool
from swd.errors import BadDescriptor, DeviceBusy, InvalidArgument, SwdError
from swd.proto.url import parse_dev
from swd.values import Phase

if TYPE_CHECKING:
    from swd.driver.registry import Registry

_log = logging.getLogger("swd.driver")

_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
# Flags that mean the same here as on a block device, or nothing there either: a device is never created or truncated.
_FLAGS: Final = (
    _ACCESS
    | os.O_EXCL
    | os.O_CREAT
    | os.O_TRUNC
    | os.O_SYNC
    | os.O_DSYNC
    | os.O_NONBLOCK
    | os.O_CLOEXEC
    | os.O_NOCTTY
    | getattr(os, "O_DIRECT", 0)
    | getattr(os, "O_LARGEFILE", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
_READY: Final = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM


class Driver:
    """The driver table of a process. Usable from many threads; a context manager that closes all its descriptors.

    `registry` None is this host's; else a `swd.driver.registry.Registry`, or the path of its file. `config` None is
    this host's too; else a path, a mapping, or a `Config`. `phase` stands in for the host's network phase, for this
    Driver only, with the errno profile of `config`.
    """

    def __init__(
        self,
        registry: Registry | str | os.PathLike[str] | None = None,
        config: configuration.Source = None,
        phase: Phase | None = None,
    ) -> None:
        if phase is not None and not isinstance(phase, Phase):
            raise TypeError(f"phase is a swd.Phase, not {type(phase).__name__}")
        self._phase = phase
        self._own_registry = registry
        self._config = None if config is None else configuration.load(config)
        self._config_lock = threading.Lock()
        self._sessions = SessionPool()
        self._parameters: dict[str, object] = {}
        self._exclusive: set[str] = set()  # names that are open with O_EXCL; guarded by _exclusive_lock
        self._exclusive_lock = threading.Lock()
        self._table = FdTable(self._release)

    @property
    def devsw(self) -> tuple[Row, ...]:
        """The table: one row a driver, one slot an entry point."""
        return devsw.DEVSW

    # --- open and close --------------------------------------------------------------------------------------------

    def open(self, dev: str, flags: int = os.O_RDONLY, **options: object) -> int:
        """A descriptor for a DEV, the smallest free one from 0x40000000. `options`: the keys of a DEV's query.

        O_EXCL: EBUSY while another descriptor of this Driver has the same DEV open with O_EXCL. O_SYNC and O_DSYNC:
        each write is flushed. O_CREAT and O_TRUNC do nothing, as on a device. Raises `NetworkNotInitialized` before
        anything else.
        """
        self._table.check_process()
        parsed = parse_dev(_text(dev))
        self._gate(parsed)
        writable = _check_flags(flags)
        row, name = devsw.find(parsed), str(parsed)
        self._claim(name, flags)
        try:
            wanted = Wanted(
                writable,
                bool(flags & os.O_EXCL),
                options,
                self._configuration,
                self._sessions,
                self._count,
                self._registry,
                self._parameters,
                self._gate,
            )
            with translated(During.OPEN, name):
                unit = row.attach(parsed, wanted)
                self._opened(unit, flags)
            return self._table.add(OpenFile(unit, flags))
        except BaseException:
            self._disclaim(name, flags)
            raise

    def _gate(self, dev: Any) -> None:
        profile = phase.DEFAULT_PROFILE if self._config is None else self._config.errno_profile
        phase.gate(dev, phase=self._phase, errno_profile=profile)

    def _opened(self, unit: Unit, flags: int) -> None:
        try:
            unit.row.open(unit, flags)
        except BaseException:
            unit.row.detach(unit)
            raise

    @contextlib.contextmanager
    def trace(self, path: str, *, with_chap: bool = False) -> Iterator[None]:
        """While it lasts, all iSCSI connections of this process are recorded in `path`: a pcap (mode 0600).

        The values of CHAP_R and CHAP_C are masked unless `with_chap`. Raises DeviceBusy if the process is traced
        already, SwdError if the file cannot be made.
        """
        from swd.iscsi import keeper, trace

        trace.start(path, keeper.sessions(), with_chap=with_chap)
        try:
            yield
        finally:
            lost = trace.stop(keeper.sessions())
            if lost:
                messages.say(_log, "SWD_LOG_TRACE_GAP", portal=path, lost=lost)

    def close(self, fd: int) -> None:
        """The descriptor is gone at once; the device is let go when no thread is inside a call on it any more."""
        self._table.remove(fd)

    def close_all(self) -> None:
        """Close every descriptor; the first error, if any, is raised after all have been closed. In a forked child:
        nothing.
        """
        if self._table.foreign:
            return
        failures: list[OSError] = []
        for fd in self._table.numbers():
            try:
                self.close(fd)
            except OSError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def __enter__(self) -> Driver:  # noqa: PYI034  # typing.Self is of 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_all()

    def _release(self, file: OpenFile) -> None:
        """Called once a descriptor, by the last thread that leaves it."""
        unit = file.unit
        try:
            with translated(During.IO, unit.name):
                unit.row.close(unit)
                unit.row.detach(unit)
        finally:
            self._disclaim(unit.name, file.flags)

    def _claim(self, name: str, flags: int) -> None:
        if not flags & os.O_EXCL:
            return
        with self._exclusive_lock:
            if name in self._exclusive:
                raise DeviceBusy(f"{name} is open with O_EXCL already: close that descriptor first")
            self._exclusive.add(name)

    def _disclaim(self, name: str, flags: int) -> None:
        if flags & os.O_EXCL:
            with self._exclusive_lock:
                self._exclusive.discard(name)

    def _configuration(self) -> configuration.Config:
        """Read when the first row asks for it, and then frozen for the life of this Driver."""
        with self._config_lock:
            if self._config is None:
                self._config = configuration.load()
            return self._config

    def _registry(self) -> Registry:
        """Opened when a DEV needs it: a hardware path or an identity."""
        from swd.driver import registry

        if self._own_registry is None:
            return registry.host()
        if not isinstance(self._own_registry, registry.Registry):
            self._own_registry = registry.Registry(Path(self._own_registry))
        return self._own_registry

    def _count(self) -> int:
        return len(self._table)

    # --- input and output ------------------------------------------------------------------------------------------

    def read(self, fd: int, n: int) -> bytes:
        """`n` bytes from the position on; fewer only at the end of the device, b"" there."""
        with self._table.use(fd) as file, file.position_lock:
            data = self._pread(file, n, file.position)
            file.position += len(data)
            return data

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """As `read`, from `offset`; the position stays."""
        with self._table.use(fd) as file:
            return self._pread(file, n, offset)

    def _pread(self, file: OpenFile, n: int, offset: int) -> bytes:
        _not_negative(n=n, offset=offset)
        self._readable(file)
        with translated(During.IO, file.unit.name):
            return file.unit.row.read(file.unit, n, offset)

    def write(self, fd: int, data: Buffer) -> int:
        """All of `data` at the position, or an error: ENOSPC where it does not fit, and then nothing is written."""
        with self._table.use(fd) as file, file.position_lock:
            count = self._pwrite(file, data, file.position)
            file.position += count
            return count

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        """As `write`, at `offset`; the position stays."""
        with self._table.use(fd) as file:
            return self._pwrite(file, data, offset)

    def _pwrite(self, file: OpenFile, data: Buffer, offset: int) -> int:
        view = memoryview(data).cast("B")
        _not_negative(offset=offset)
        self._writable(file)
        with translated(During.IO, file.unit.name):
            count = file.unit.row.write(file.unit, view, offset)
            self._settle(file)
            return count

    def preadv(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Fill the buffers one after the other from `offset` on; the number of bytes, fewer only at the end of the
        device.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if any(view.readonly for view in views):
            raise TypeError("preadv fills its buffers: they must be writable")
        with self._table.use(fd) as file:
            # Blocks are cut at the buffers' edges, which need not be block edges: one read, then one copy.
            data = memoryview(self._pread(file, sum(map(len, views)), offset))
            count = len(data)
            for view in views:
                part, data = data[: len(view)], data[len(view) :]
                view[: len(part)] = part
            return count

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """The buffers one after the other, as one write at `offset`."""
        return self.pwrite(fd, b"".join(buffers), offset)

    def strategy(self, fd: int, transfers: Sequence[Transfer]) -> list[SwdError | None]:
        """A batch of transfers of whole blocks: one entry each, None or the error. All have ended when it returns."""
        with self._table.use(fd) as file:
            if any(transfer.write for transfer in transfers):
                self._writable(file)
            if not all(transfer.write for transfer in transfers):
                self._readable(file)
            with translated(During.IO, file.unit.name):
                results = file.unit.row.strategy(file.unit, transfers)
                self._settle(file)
                return results

    def lseek(self, fd: int, pos: int, how: int) -> int:
        """Move the position; anywhere from 0 to the end, where reads and writes must then start on whole blocks."""
        if type(pos) is not int or type(how) is not int:
            raise TypeError("lseek takes (fd, position, how), all of them int")
        with self._table.use(fd) as file, file.position_lock:
            size = file.unit.row.psize(file.unit)
            starts = {os.SEEK_SET: 0, os.SEEK_CUR: file.position, os.SEEK_END: size}
            if how not in starts or not 0 <= starts[how] + pos <= size:
                raise InvalidArgument(f"{file.unit.name}: cannot seek to {pos} (how {how}): positions are 0 to {size}")
            file.position = starts[how] + pos
            return file.position

    def fsync(self, fd: int) -> None:
        """What was written is durable when this returns."""
        with self._table.use(fd) as file, translated(During.IO, file.unit.name):
            file.unit.row.flush(file.unit)

    def poll(self, fd: int, events: int, timeout: float | None = None) -> int:
        """Those of `events` that are ready: a disk always is, so this never waits, whatever `timeout`
        (milliseconds) says.
        """
        if type(events) is not int or not (timeout is None or isinstance(timeout, (int, float))):
            raise TypeError("poll takes (fd, events, timeout): int, int, and a number or None")
        with self._table.use(fd):
            return events & _READY

    def ioctl(self, fd: int, request: Request | str | int, arg: object = None) -> object:
        """The result of a control request: a `Request`, its name or its number. Never writes into `arg`. Unknown:
        ENOTTY.
        """
        with self._table.use(fd) as file:
            entry = lookup(request)
            check(entry, arg)
            if entry.writes:
                self._writable(file)
            with translated(During.IO, file.unit.name):
                answer = _SAME_FOR_ALL.get(entry.request)
                return answer(self, file.unit) if answer else file.unit.row.ioctl(file.unit, entry.request, arg)

    def _version(self, unit: Unit) -> dict[str, object]:
        from swd import __version__

        return {"version": __version__, "driver": unit.row.name, "device": unit.name}

    def _phase_get(self, _unit: Unit) -> dict[str, object]:
        if self._phase is None:
            return phase.show().record()
        return phase.State(self._phase, evidence="given by the program").record()

    def _settle(self, file: OpenFile) -> None:
        if file.flags & (os.O_SYNC | os.O_DSYNC):
            file.unit.row.flush(file.unit)

    def _readable(self, file: OpenFile) -> None:
        if not file.readable:
            raise BadDescriptor(f"{file.unit.name} is open for writing only")

    def _writable(self, file: OpenFile) -> None:
        if not file.writable:
            raise BadDescriptor(f"{file.unit.name} is open for reading only")


_SAME_FOR_ALL: Final = {Request.SWD_VERSION: Driver._version, Request.SWD_PHASE_GET: Driver._phase_get}


def _text(dev: object) -> str:
    if not isinstance(dev, str):
        raise TypeError(f"a DEV is a str, not {type(dev).__name__}")
    return dev


def _check_flags(flags: int) -> bool:
    """Whether they ask for writing. EINVAL for what has no meaning on a disk (O_APPEND, O_DIRECTORY ...)."""
    if type(flags) is not int:
        raise TypeError(f"open flags are an int, not {type(flags).__name__}")
    if flags & ~_FLAGS or flags & _ACCESS == os.O_WRONLY | os.O_RDWR:
        raise InvalidArgument(
            f"open flags {flags:#o} do not fit a disk: use O_RDONLY, O_WRONLY or O_RDWR, O_EXCL, O_SYNC"
        )
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise SwdError(
            "O_CREAT with O_EXCL would make a new device, and devices are never made: leave O_CREAT out",
            errno=errno.EEXIST,
        )
    return flags & _ACCESS != os.O_RDONLY


def _not_negative(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} is an int, not {type(number).__name__}")
        if number < 0:
            raise InvalidArgument(f"{name} is {number}: it cannot be negative")
