# SPDX-License-Identifier: Apache-2.0
"""Targets that lie, for the negative controls: one write in a thousand is acknowledged and not stored, or one read in a
thousand returns what a block held before its last write.

`python soak_liar.py forgetful|stale FILE` serves FILE as LUN 0 and prints "ready URL", as `python -m swd.target` does.
"""

from __future__ import annotations

import signal
import sys
import threading

from swd.target.config import Limits, Lun, TargetConfig
from swd.target.media import Buffer, FileMedium
from swd.target.server import TargetServer

ONE_IN = 1000
NAME = "iqn.2026-01.org.swd:liar"


class Forgetful(FileMedium):
    """Says that all is stored."""

    _lock = threading.Lock()
    _writes = 0

    def write(self, offset: int, data: Buffer) -> None:
        with self._lock:
            self._writes += 1
            lie = self._writes % ONE_IN == 0
        if not lie:
            super().write(offset, data)


class Stale(FileMedium):
    """Keeps what was there before a write, and returns that now and then."""

    _lock = threading.Lock()
    _reads = 0

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._before: dict[tuple[int, int], bytes] = {}

    def write(self, offset: int, data: Buffer) -> None:
        where = (offset, len(data))
        before = super().read(*where)
        super().write(offset, data)
        with self._lock:
            self._before[where] = before

    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._reads += 1
            before = self._before.get((offset, length))
            if before is not None and self._reads >= ONE_IN:
                self._reads = 0
                return before
        return super().read(offset, length)


MEDIA = {"forgetful": Forgetful, "stale": Stale}


def main() -> None:
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    medium = MEDIA[sys.argv[1]](sys.argv[2])
    limits = Limits(default_time2wait=0)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium, block_size=4096)}, limits=limits)]) as server:
        print(f"ready iscsi://{server.portal}/{NAME}/0", flush=True)
        signal.sigwait(stop)
    medium.close()


if __name__ == "__main__":
    main()
