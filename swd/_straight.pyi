# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

from typing_extensions import Buffer, Self, disjoint_base

from swd._fastpath import Pump, Stream
from swd._rangelock import RangeLock
from swd.errors import SwdError
from swd.values import Completion, ScsiResult

@disjoint_base
class Straight:
    open: bool
    def __new__(
        cls,
        pump: Pump,
        lun: int,
        timeout: float,
        on_error: Callable[[SwdError], object],
        result_of: Callable[[Completion], ScsiResult],
    ) -> Self: ...
    def take_writes(self, lock: RangeLock, watch: object) -> None: ...
    def shut(self) -> None: ...
    def stream(
        self,
        lbas: Buffer,
        blocks: int,
        size: int,
        queue_depth: int,
        settle: Callable[[int, memoryview, ScsiResult], object],
    ) -> Stream: ...

@disjoint_base
class StraightIO:
    _end: int
    _single: int
    _block_size: int
    writable: bool
    stable_writes: bool | None
    def _go_straight(self, way: Straight | None) -> None: ...
    def _wrote(self, losses: int) -> None: ...
    def _unflushed(self) -> int | None: ...
    def pread(self, length: int, offset: int) -> bytes: ...
    def pread_into(self, buffer: Buffer, offset: int) -> int: ...
    def pwrite(self, data: Buffer, offset: int) -> int: ...
