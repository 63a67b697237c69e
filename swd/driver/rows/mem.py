# SPDX-License-Identifier: Apache-2.0
"""`mem://SIZE`: a RAM disk. Its pages cost nothing until they are written.

Without a name each open makes a new one, which goes with its last user. A named one lives as long as the process, so
that what one open wrote, the next one reads.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace

from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.driver import partition
from swd.driver.row import Unit, Wanted
from swd.driver.rows._local import LocalUnit
from swd.errors import InvalidArgument
from swd.proto import options
from swd.proto.url import MemDev
from swd.target.media import RamMedium


class Memory(LocalUnit):
    """A RAM disk over the same memory that the embedded target serves from."""

    def __init__(self, dev: MemDev) -> None:
        identity = f"mem.{dev.name}" if dev.name else f"mem.{id(self):x}"
        super().__init__(dev.size, dev.block_size, dev.block_size, False, identity, RangeLock())
        self._medium = RamMedium(dev.size)
        self.dev = dev

    def _read(self, offset: int, view: memoryview) -> None:
        view[:] = self._medium.read(offset, len(view))

    def _write(self, offset: int, view: memoryview) -> None:
        self._medium.write(offset, view)

    def _zero(self, offset: int, length: int) -> None:
        self._medium.zero(offset, length)

    _discard = _zero

    def flush(self) -> None:
        self._medium.flush()

    def close(self) -> None:
        """Only an unnamed one goes; a named one is kept for the next open."""
        if self.dev.name is None:
            self._medium.close()


_lock = threading.Lock()  # guards _named
_named: dict[str, Memory] = {}


def attach(dev: MemDev, wanted: Wanted) -> Unit:
    """Raises `InvalidArgument` for options that do not exist, or if the named disk has another size or block size."""
    from swd.driver.devsw import find

    number = options.read(wanted.options, options.Options(partition=dev.partition)).partition
    whole = replace(dev, partition=None)
    memory = Memory(whole) if dev.name is None else _by_name(whole, dev.name)
    disk = Disk(memory, writable=wanted.writable, on_close=memory.close)
    return partition.chosen(Unit(find(dev), str(dev), wanted.writable, disk), number)


def _by_name(dev: MemDev, name: str) -> Memory:
    with _lock:
        if name not in _named:
            _named[name] = Memory(dev)
        memory = _named[name]
    if memory.dev != dev:
        raise InvalidArgument(
            f"{dev}: this process has a RAM disk of that name already, {memory.dev}: use its size, or another name"
        )
    return memory


def _forget() -> None:
    """A forked child starts without named disks: their locks may be held by threads that it does not have."""
    global _lock
    _lock = threading.Lock()
    _named.clear()


os.register_at_fork(after_in_child=_forget)
