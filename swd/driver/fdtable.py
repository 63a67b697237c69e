# SPDX-License-Identifier: Apache-2.0
"""Open descriptors of one Driver: small numbers, their records, and who is using them at this moment.

A descriptor that is closed while another thread is inside a call on it is gone at once, for everybody; its device is
detached when the last thread has left. A forked child finds every descriptor bad, and lets nothing go: it must not send
or log out on connections that are its parent's. The process is therefore compared before any lock is taken, because in
a child a lock may be held by a thread that is not there.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable
from types import TracebackType

from swd.driver.row import Unit
from swd.errors import BadDescriptor

FIRST_FD = 0x40000000  # far above what the system hands out: os.read() of one is EBADF
_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


class OpenFile:
    """One open descriptor. `position` is guarded by `position_lock`, which a read or write at the position holds
    throughout.
    """

    __slots__ = ("closed", "flags", "position", "position_lock", "readable", "unit", "users", "writable")

    def __init__(self, unit: Unit, flags: int) -> None:
        access = flags & _ACCESS
        self.unit = unit
        self.flags = flags
        self.readable = access in (os.O_RDONLY, os.O_RDWR)
        self.writable = access in (os.O_WRONLY, os.O_RDWR)
        self.position = 0
        self.position_lock = threading.Lock()
        self.users = 0
        self.closed = False


class FdTable:
    """Descriptors to open files. `_lock` guards the table, the free numbers and `users`/`closed` of all files;
    nothing is called under it.
    """

    def __init__(self, release: Callable[[OpenFile], None]) -> None:
        self._release = release
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._files: dict[int, OpenFile] = {}
        self._free: list[int] = []  # a heap: numbers below _next that were closed
        self._next = FIRST_FD

    def __len__(self) -> int:
        return len(self._files)

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child of the process that the table belongs to."""
        return os.getpid() != self._pid

    def check_process(self) -> None:
        if self.foreign:
            raise BadDescriptor("opened before fork: this Driver belongs to the parent process, make a new one here")

    def add(self, file: OpenFile) -> int:
        """The smallest free number, which is `file`'s from now on."""
        with self._lock:
            if self._free:
                fd = heapq.heappop(self._free)
            else:
                fd, self._next = self._next, self._next + 1
            self._files[fd] = file
            return fd

    def use(self, fd: int) -> Use:
        """`with table.use(fd) as file:` keeps the device attached meanwhile. `BadDescriptor` if `fd` is not open."""
        if type(fd) is not int:
            raise TypeError(f"a descriptor is an int, not {type(fd).__name__}")
        self.check_process()
        with self._lock:
            file = self._files.get(fd)
            if file is None:
                raise BadDescriptor(f"{fd:#x} is not an open descriptor of this Driver")
            file.users += 1
        return Use(self, file)

    def remove(self, fd: int) -> None:
        """The number is free again, and the device is let go now or by the last thread that uses it."""
        with self.use(fd) as file, self._lock:
            if file.closed:
                raise BadDescriptor(f"{fd:#x} was closed by another thread")
            file.closed = True
            del self._files[fd]
            heapq.heappush(self._free, fd)

    def numbers(self) -> list[int]:
        with self._lock:
            return sorted(self._files)

    def leave(self, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            last = file.closed and file.users == 0
        if last:
            self._release(file)


class Use:
    """A thread's stay in an open file."""

    __slots__ = ("_file", "_table")

    def __init__(self, table: FdTable, file: OpenFile) -> None:
        self._table = table
        self._file = file

    def __enter__(self) -> OpenFile:
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.leave(self._file)
