# SPDX-License-Identifier: Apache-2.0
"""Faults by a seeded plan, each counted when it has happened, not when it was planned.

Must run in a network namespace of its own: it drops packets and takes the loopback down.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from soak_load import Silences
from soak_targets import Proxy, SoakTarget
from support.process import run

PAUSE = (0.3, 1.5)  # seconds between the end of a fault and the next
SHORT = (0.2, 1.5)  # seconds that a fault lasts
PING = 5.0  # seconds that a ping of an overdue command may take


class Faults:
    """What can go wrong between this process and a target that is reached by its own port and by a proxy's."""

    def __init__(
        self, target: SoakTarget, proxy: Proxy, seed: str, silences: Silences, without: tuple[str, ...] = ()
    ) -> None:
        self._target = target
        self._proxy = proxy
        self._silences = silences
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._kinds: dict[str, Callable[[], bool]] = {
            "reset": self._reset,
            "stop and continue": self._stop,
            "silent past deadline": self._silence,
            "kill -9 and restart": self._kill,
            "link down and up": self._link,
            "packets dropped": self._drop,
            "data digest, target's": lambda: self._spoil("in"),
            "data digest, ours": lambda: self._spoil("out"),
        }
        for kind in without:
            del self._kinds[kind]

    def run(self, stop: threading.Event) -> None:
        """One after the other until `stop`; all is whole again when it returns, unless there is a `failure`."""
        try:
            for kind in self._plan():
                if stop.wait(self._random.uniform(*PAUSE)):
                    return
                if self._kinds[kind]():
                    self.counts[kind] += 1
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            self.failure = error  # told by the main thread: faults that end unseen would make a quiet run

    def _plan(self) -> Iterator[str]:
        """Every kind once in each round, in random order."""
        while True:
            yield from self._random.sample(list(self._kinds), len(self._kinds))

    def _last(self, more: float = 0.0) -> None:
        """Lets the fault last for a while, whether the run is over or not: half a fault is none."""
        threading.Event().wait(more + self._random.uniform(*SHORT))

    def _ports(self) -> list[int]:
        return [self._target.port, self._proxy.port]

    def _reset(self) -> bool:
        port = self._random.choice(self._ports())
        done = subprocess.run(
            ["ss", "-H", "-t", "-K", "dst", "127.0.0.1", "dport", "=", str(port)], capture_output=True, text=True
        )
        return "ESTAB" in done.stdout

    def _stop(self) -> bool:
        self._target.process.signal(signal.SIGSTOP)
        self._last()
        self._target.process.signal(signal.SIGCONT)
        return True

    def _silence(self) -> bool:
        """Longer than a command may take and the ping after it: the ladder is climbed to its top. Counts if a call
        ended by it.
        """
        excused = self._silences.excused
        self._target.process.signal(signal.SIGSTOP)
        self._silences.begin()
        self._last(self._silences.deadline + PING)
        self._silences.end()
        self._target.process.signal(signal.SIGCONT)
        return self._silences.excused > excused

    def _kill(self) -> bool:
        self._target.kill()
        self._last()
        self._target.start()
        return True

    def _link(self) -> bool:
        run("ip", "link", "set", "lo", "down")
        self._last()
        run("ip", "link", "set", "lo", "up")
        return True

    def _drop(self) -> bool:
        ports = "{ " + ", ".join(map(str, self._ports())) + " }"
        way = self._random.choice(("dport", "sport"))
        run("nft", "add table inet soak")
        run("nft", "add chain inet soak out { type filter hook output priority 0 ; }")
        run("nft", f"add rule inet soak out tcp {way} {ports} counter drop")
        self._last()
        dropped = run("nft", "list table inet soak")
        run("nft", "delete table inet soak")
        return "packets 0 " not in dropped

    def _spoil(self, way: str) -> bool:
        self._proxy.spoil(way)
        return True
