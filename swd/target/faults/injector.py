# SPDX-License-Identifier: Apache-2.0
"""A plan at work, shared by all connections of a target: whose turn it is, what the dice say, and what was injected.

`due` decides, in one place and under one lock, so that "the third time" is the third time over all threads; whoever
carries a fault out calls `injected`. So the counts are of faults that happened, not of those that were planned.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from swd.target.faults.conditions import Event
from swd.target.faults.kinds import Place
from swd.target.faults.plan import Fault, Plan


class _Rule:
    """One fault of the running plan, and how often it has been looked at."""

    def __init__(self, fault: Fault, seed: int, number: int) -> None:
        self.fault = fault
        self.pdus = frozenset(fault.kind.pdus)
        self.dice = random.Random(f"{seed}/{number}")
        self._seen = 0
        self._struck = 0

    def concerns(self, place: Place) -> bool:
        return self.fault.kind.block if place == "block" else self.fault.kind.place == place

    def anyhow(self, event: Event) -> Event:
        """An event without a wire, as the PDU that this fault strikes."""
        return event._replace(pdu=min(self.pdus))

    def strikes(self) -> bool:
        """Whether it does, this time that all conditions hold."""
        when = self.fault.when
        self._seen += 1
        if when.limit is not None and self._struck >= when.limit:
            return False
        if when.nth is not None and self._seen != when.nth:
            return False
        if when.every is not None and self._seen % when.every:
            return False
        if when.chance is not None and self.dice.random() >= when.chance:
            return False
        self._struck += 1
        return True


class Injector:
    """Plan, dice and counts of one target (or one DEV). `clock` gives seconds."""

    def __init__(self, plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Condition()  # guards everything here; nothing is called under it but the rules' own
        self._counts: Counter[str] = Counter()
        self._connections = 0
        self._timers: set[threading.Timer] = set()
        self.replace(plan)

    @property
    def plan(self) -> Plan:
        return self._plan

    def replace(self, plan: Plan) -> None:
        """Go on by another plan: its counting, its clock and its dice begin anew; what was injected stays counted."""
        with self._lock:
            self._plan = plan
            self._rules = [_Rule(fault, plan.seed, number) for number, fault in enumerate(plan.faults)]
            self._started = self._clock()

    def connected(self) -> int:
        """The number of a new connection, from 1."""
        with self._lock:
            self._connections += 1
            return self._connections

    def due(self, place: Place, event: Event, fits: Callable[[Fault], bool] = lambda _fault: True) -> list[Fault]:
        """The faults of a place that strike now, in the order of the plan. `fits`: whether one could be carried out.

        On a DEV ("block") there are no PDUs: the event's is empty.
        """
        if not self._rules:
            return []
        with self._lock:
            elapsed = self._clock() - self._started
            return [
                rule.fault
                for rule in self._rules
                if rule.concerns(place)
                and rule.fault.when.meets(event if event.pdu else rule.anyhow(event), rule.pdus, elapsed)
                and fits(rule.fault)
                and rule.strikes()
            ]

    def injected(self, fault: Fault) -> None:
        """It has happened."""
        with self._lock:
            self._counts[fault.kind.name] += 1
            self._lock.notify_all()

    def random_bytes(self, length: int) -> bytes:
        """By dice of the plan's seed."""
        with self._lock:
            return random.Random(f"{self._plan.seed}/{sum(self._counts.values())}").randbytes(length)

    @property
    def counts(self) -> dict[str, int]:
        """Faults injected so far, by kind."""
        with self._lock:
            return dict(self._counts)

    def wait_for(self, kind: str, count: int = 1, timeout: float = 10.0) -> bool:
        """Wait until so many faults of a kind have been injected; False if that takes longer than `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: self._counts[kind] >= count, timeout)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` in a thread of its own, unless `stop` comes first."""

        def run() -> None:
            with self._lock:
                alive = timer in self._timers
                self._timers.discard(timer)
            if alive:
                action()

        timer = threading.Timer(seconds, run)
        timer.daemon = True
        with self._lock:
            self._timers.add(timer)
        timer.start()

    def stop(self) -> None:
        """Nothing that was put off happens any more."""
        with self._lock:
            timers, self._timers = self._timers, set()
        for timer in timers:
            timer.cancel()
