# SPDX-License-Identifier: Apache-2.0
"""What a driver is: one frozen row of entry points, as in a Unix kernel's device switch, and the records they take.

A driver fills the slots that it has; `Row` fills the others with functions that raise and name the driver, so that no
caller ever tests for None.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from swd.errors import SwdError, Unsupported

if TYPE_CHECKING:
    from swd.disk import Disk
    from swd.driver.config import Config
    from swd.driver.ioctl import Request
    from swd.driver.registry import Registry
    from swd.driver.sessions import SessionPool
    from swd.proto.url import Dev

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Transfer:
    """One I/O of a batch, in bytes: a read fills `buffer` (which must be writable), a write sends it."""

    write: bool
    offset: int
    buffer: Buffer


def host_registry() -> Registry:
    """This host's."""
    from swd.driver import registry  # only a DEV by hardware path or identity costs the import of sqlite3

    return registry.host()


@dataclass(frozen=True)
class Wanted:
    """How a unit is to be attached: `options` are Python's keywords, `config` and `registry` are read when a row
    needs them.
    """

    writable: bool
    exclusive: bool
    options: Mapping[str, object]
    config: Callable[[], Config]
    sessions: SessionPool
    descriptors: Callable[[], int] = lambda: 0
    registry: Callable[[], Registry] = host_registry
    parameters: dict[str, object] = field(default_factory=dict)  # of the Driver: options that SWD_PARAMS_SET gave
    gate: Callable[[Any], None] = lambda _dev: None  # for a row that opens another DEV


class Counters:
    """What a descriptor moved. Exact under threads: the lock guards the numbers and nothing is called under it."""

    NAMES: Final = ("reads", "read_bytes", "writes", "written_bytes", "flushes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(self.NAMES, 0)

    def add(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def clear(self) -> None:
        with self._lock:
            self._values = dict.fromkeys(self.NAMES, 0)

    def values(self) -> dict[str, int]:
        with self._lock:
            return dict(self._values)


@dataclass
class Unit:
    """An attached device: its row, its canonical name, its Disk (`isw` has none), and what the row wants to keep."""

    row: Row
    name: str
    writable: bool = False
    block_device: Disk | None = None
    kept: Any = None
    counters: Counters = field(default_factory=Counters)

    @property
    def disk(self) -> Disk:
        if self.block_device is None:
            raise Unsupported(f"{self.name}: the driver {self.row.name} has no blocks, only ioctl")
        return self.block_device


def _empty(*_arguments: object) -> Any:
    """Stands in a row until `Row.__post_init__` puts the driver's name on it."""
    raise Unsupported("an empty slot was called")


@dataclass(frozen=True)
class Row:
    """One driver. Offsets and lengths are in bytes everywhere.

    match(dev)                    whether this driver's DEV form it is: by form, never by trying
    attach(dev, wanted)           the `Unit`, ready for I/O; `detach(unit)` lets it go, after the last user of it
    open(unit, flags)             a descriptor is about to appear: refuse flags; `close(unit)`: it has gone
    read(unit, length, offset)    bytes, short only at the end of the device; whole blocks
    write(unit, data, offset)     the number of bytes, which is all of them; whole blocks
    ioctl(unit, request, arg)     the result; `arg` has been checked against the table of requests
    strategy(unit, transfers)     a batch; one entry a transfer: None, or the error
    psize(unit)                   size in bytes
    flush(unit)                   what was written is durable
    discard(unit, offset, length) the range is not needed; zero(unit, offset, length): it reads as zeros
    """

    name: str
    schemes: tuple[str, ...]
    help: str
    options: tuple[str, ...] = ()
    match: Callable[[Dev], bool] = _empty
    attach: Callable[[Any, Wanted], Unit] = _empty
    detach: Callable[[Unit], None] = _empty
    open: Callable[[Unit, int], None] = _empty
    close: Callable[[Unit], None] = _empty
    read: Callable[[Unit, int, int], bytes] = _empty
    write: Callable[[Unit, Buffer, int], int] = _empty
    ioctl: Callable[[Unit, Request, Any], object] = _empty
    strategy: Callable[[Unit, Sequence[Transfer]], list[SwdError | None]] = _empty
    psize: Callable[[Unit], int] = _empty
    flush: Callable[[Unit], None] = _empty
    discard: Callable[[Unit, int, int], None] = _empty
    zero: Callable[[Unit, int, int], None] = _empty

    def __post_init__(self) -> None:
        for slot in SLOTS:
            if getattr(self, slot) is _empty:
                object.__setattr__(self, slot, _missing(self.name, slot))


SLOTS: Final = (
    "match",
    "attach",
    "detach",
    "open",
    "close",
    "read",
    "write",
    "ioctl",
    "strategy",
    "psize",
    "flush",
    "discard",
    "zero",
)
_NO_DEVICE: Final = frozenset({"match", "attach"})


def _missing(driver: str, slot: str) -> Callable[..., Any]:
    number = errno.ENODEV if slot in _NO_DEVICE else errno.EOPNOTSUPP

    def missing(*_arguments: object) -> Any:
        raise Unsupported(f"the driver {driver} has no {slot}", errno=number)

    return missing


def at(place: str) -> Callable[..., Any]:
    """A slot that is imported when it is first called: `module:function`, relative to swd.driver.rows."""
    module, _, function = place.partition(":")
    bound: list[Callable[..., Any]] = []

    def slot(*arguments: Any) -> Any:
        if not bound:
            bound.append(getattr(import_module(f"swd.driver.rows.{module}"), function))
        return bound[0](*arguments)

    return slot
