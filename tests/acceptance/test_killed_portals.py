# SPDX-License-Identifier: Apache-2.0
"""Two portals to one disk, each a process of its own: whichever is killed under load, nothing that was acknowledged is
lost, and nobody above notices."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance.conftest import Host, Served, serving

import swd

MIB = 1 << 20
WRITERS, SLOTS, BLOCK = 4, 64, 4096


class Portals:
    """Embedded targets on one file, at two addresses that stay the same over kills."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stack = stack
        self._path = path
        self.served = [self._start(f"127.0.0.{number}:0") for number in (1, 2)]
        self.kills = 0

    def _start(self, portal: str) -> Served:
        return self._stack.enter_context(serving(Host(), "--lun", f"file://{self._path}", portal=portal))

    def kill(self, portal: str) -> None:
        """Kills the one at this portal; the other one, if it is down, has come up again before."""
        for number, served in enumerate(self.served):
            if served.portal != portal and served.process.poll() is not None:
                self.served[number] = self._start(served.portal)
        (victim,) = (served for served in self.served if served.portal == portal)
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        self.kills += 1


class Writer(threading.Thread):
    """Writes blocks that say whose they are and which, reads each back, and keeps what was acknowledged last."""

    def __init__(self, disk: swd.Disk, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"writer {number}")
        self.acknowledged: dict[int, bytes] = {}
        self.error: BaseException | None = None
        self._disk, self._number, self._stop_it = disk, number, stop
        self.rounds = 0

    def run(self) -> None:
        rng = random.Random(self._number)
        try:
            while not self._stop_it.is_set():
                at = (self._number * SLOTS + rng.randrange(SLOTS)) * BLOCK
                block = rng.randbytes(BLOCK)
                self._disk.pwrite(block, at)
                self.acknowledged[at] = block
                assert self._disk.pread(BLOCK, at) == block
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001  # shown by the test
            self.error = error


@pytest.mark.parametrize("fence", ["none", "lun_reset"])
def test_killed_portals_cost_no_acknowledged_write(tmp_path: Path, fence: str) -> None:
    path = tmp_path / "lun.img"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    with ExitStack() as stack:
        portals = Portals(stack, path)
        for served in portals.served:
            (unit,) = swd.scan(served.portal)
        assert sorted(one.phase for one in swd.scan()) == ["live", "standby"]
        session = stack.enter_context(
            swd.connect(
                portals.served[0].portal,
                portals.served[0].name,
                default_time2wait=0,
                path_settle=0.2,
                failover_fence=fence,
                replacement_timeout=60,
            )
        )
        stop = threading.Event()
        with session.unit(0) as disk:
            assert disk.identity == unit.identity
            writers = [Writer(disk, number, stop) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            for _ in range(3):
                used = str(session.portal)
                portals.kill(used)
                disk.pread(512, 0)
                assert str(session.portal) != used
            stop.set()
            for writer in writers:
                writer.join(60)
            assert [writer.error for writer in writers] == [None] * WRITERS
            disk.flush()
        assert session.statistics["failovers"] == portals.kills == 3
    with path.open("rb") as file:
        for writer in writers:
            assert writer.rounds
            for at, block in writer.acknowledged.items():
                file.seek(at)
                assert file.read(BLOCK) == block
