# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

from typing_extensions import Buffer, Self, disjoint_base

from swd._fastpath import Pump, Stream
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
class StraightReads:
    _end: int
    _single: int
    _block_size: int
    def _go_straight(self, way: Straight | None) -> None: ...
    def pread(self, length: int, offset: int) -> bytes: ...
    def pread_into(self, buffer: Buffer, offset: int) -> int: ...
