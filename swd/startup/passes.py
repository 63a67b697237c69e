# SPDX-License-Identifier: Apache-2.0
"""The two passes over what the configuration asks for at start-up.

The first comes before the network. Every step meets the phase gate inside its own entry point and fails at once and
quietly; what is local is done. The second comes after the first attempt at the network, and does everything for real:

    discover      all portals at once
    login         a target as soon as a way to it is known, all its ways at once
    volume group  on what is up, whenever that is more; for the last time when no login is open any more
    file system   when the volume group or the target that it lies on is decided

so a portal that is dead delays nothing but the end of the pass. Both can be repeated at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from swd.driver import phase
from swd.driver.boot_order import BootOrder
from swd.errors import NetworkNotInitialized, SwdError
from swd.startup import actions
from swd.startup.jobs import Jobs
from swd.startup.plan import DISCOVER, DONE, FAILED, LOGIN, WARNING, Report, Step, steps
from swd.startup.runners import RUNNERS, Runner
from swd.values import Phase


def first(order: BootOrder) -> Report:
    """Pass 1. Raises `NetworkNotInitialized` when everything has been tried and the network has not; a step that failed
    for a reason of its own is left to pass 2 to tell.

    After the attempt there is nothing to be quiet about: then it does what pass 2 does.
    """
    if phase.current() is Phase.PRE_NETWORK:
        refused = [error for step in steps(order, ()) if (error := _refusal(step, order))]
        if refused:
            raise refused[0]
    phase.gate("startup")  # nothing may be listed
    return Report(1, second(order).steps)


def _refusal(step: Step, order: BootOrder) -> NetworkNotInitialized | None:
    jobs = Jobs(order.step_timeout)
    jobs.add(step.name, lambda: actions.ATTEMPT[step.kind](step, order))
    error = jobs.next().error
    return error if isinstance(error, NetworkNotInitialized) else None


def second(order: BootOrder) -> Report:
    """Pass 2. Ends the phase before the network if it still lasts: whoever runs it says that the attempt is over.

    Raises `SwdError` with EACCES or the system's errno if that phase cannot be ended; steps that fail raise nothing.
    """
    if phase.current() is Phase.PRE_NETWORK:
        phase.complete(evidence="startup --pass 2, which comes after the first attempt")
    return _Second(order, actions.wanted() if order.wanted else ()).run()


class _Second:
    """One run of pass 2, in one thread; only the jobs have threads of their own."""

    def __init__(self, order: BootOrder, wanted: Sequence[str]) -> None:
        self.order = order
        self.steps: list[Step] = list(steps(order, wanted))
        self._began = time.monotonic()
        self._jobs = Jobs(order.step_timeout)
        self._runners = [RUNNERS[step.kind](step, self) for step in self.steps]

    def start(self, runner: Runner, key: Hashable, work: Callable[[], Any]) -> None:
        self._jobs.add((runner, key), work, f"{runner.step.kind} {runner.step.name}")

    def settle(self, step: Step, result: str, error: SwdError | None = None) -> None:
        step.result, step.error, step.seconds = result, error, time.monotonic() - self._began

    def run(self) -> Report:
        self._advance()
        while len(self._jobs):
            ended = self._jobs.next()
            runner, key = ended.key
            runner.running -= 1
            runner.ended(key, ended)
            self._advance()
        self._soften()
        return Report(2, tuple(self.steps))

    def _advance(self) -> None:
        """In boot order, so that one look is enough: what a step waits for stands before it."""
        for runner in self._runners:
            if not runner.step.settled or runner.step.kind == LOGIN:
                runner.advance()

    def _soften(self) -> None:
        """A portal that told nothing is a warning where all targets that were asked for are up by another."""
        logins = [step for step in self.steps if step.kind == LOGIN]
        if logins and all(step.result in (DONE, WARNING) for step in logins):
            for step in self.steps:
                if (step.kind, step.result) == (DISCOVER, FAILED):
                    step.result = WARNING
