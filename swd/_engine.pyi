# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Mapping
from typing import Final

from typing_extensions import Buffer, disjoint_base

from swd.errors import SwdError
from swd.values import Completion, Event, Leftover, Negotiated

FAULT_NAMES: Final[dict[int, str]]
FAULTS: Final[dict[int, tuple[type[SwdError], str, str]]]

@disjoint_base
class Engine:
    def __init__(self, negotiated: Negotiated, slots: int = 256, ring: int = 262144) -> None: ...
    @property
    def header_digest(self) -> bool: ...
    @property
    def data_digest(self) -> bool: ...
    @property
    def fault(self) -> SwdError | None: ...
    def submit(
        self,
        lun: bytes,
        cdb: bytes,
        data_out: Buffer | None = None,
        data_in: Buffer | None = None,
        timeout: float = 30.0,
        now: float = 0.0,
    ) -> int: ...
    def control(
        self,
        bhs: bytes,
        data: bytes = b"",
        *,
        answer: int,
        itt: int = ...,
        timeout: float = 30.0,
        now: float = 0.0,
    ) -> int: ...
    def restart(
        self,
        negotiated: Negotiated,
        order: Iterable[int] = (),
        losses: Mapping[int, SwdError] | None = None,
        one_by_one: bool = False,
    ) -> None: ...
    def let_go(self, itt: int) -> None: ...
    def feed(self, data: Buffer, now: float = 0.0) -> None: ...
    def output(self, limit: int = -1, now: float = 0.0) -> bytes: ...
    def completions(self) -> list[tuple[int, Completion | Event | SwdError]]: ...
    def take_events(self) -> list[Event]: ...
    def leftover(self) -> Leftover: ...
    def statistics(self) -> dict[str, int]: ...
    def faults_seen(self) -> dict[int, int]: ...
    def last_headers(self) -> list[tuple[str, float, bytes]]: ...
    def latencies_seen(self) -> dict[tuple[int | None, str], tuple[int, int, list[int]]]: ...
