# SPDX-License-Identifier: Apache-2.0
"""How each kind of step of pass 2 proceeds: when it may try, and when it is decided. No threads and no clock in here.

`advance` is called whenever a job has ended anywhere, `ended` for each end of a job of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from swd.driver.boot_order import BootOrder
from swd.driver.login import Place, Proof
from swd.errors import SwdError
from swd.proto.url import Dev, FaultDev, FileDev, IscsiDev, LvmDev, MemDev, parse_dev
from swd.startup import actions
from swd.startup.jobs import Ended
from swd.startup.plan import DISCOVER, DONE, FAILED, FILESYSTEM, GROUP, LOGIN, WARNING, Step


class Board(Protocol):
    """What a runner sees of the pass."""

    order: BootOrder
    steps: list[Step]

    def start(self, runner: Runner, key: Hashable, work: Callable[[], Any]) -> None:
        """Run `work` in a thread; its end comes to `runner.ended` with `key`."""

    def settle(self, step: Step, result: str, error: SwdError | None = None) -> None:
        """The step is decided."""


def decided(board: Board, *kinds: str) -> bool:
    return all(step.settled for step in board.steps if step.kind in kinds)


def up(board: Board) -> int:
    """How many targets have been logged in to."""
    return sum(step.kind == LOGIN and step.result in (DONE, WARNING) for step in board.steps)


class Runner:
    """A step on its way. `running` counts its jobs."""

    def __init__(self, step: Step, board: Board) -> None:
        self.step = step
        self.board = board
        self.running = 0

    def advance(self) -> None:
        """Do what can be done now."""

    def ended(self, key: Any, job: Ended) -> None:
        """A job of this step has ended."""
        raise NotImplementedError

    def start(self, key: Hashable, work: Callable[[], Any]) -> None:
        self.running += 1
        self.board.start(self, key, work)


class Once(Runner):
    """A step that is tried once, as soon as `ready` says so."""

    tried = False

    def ready(self) -> bool:
        return True

    def advance(self) -> None:
        if not self.tried and self.ready():
            self.tried = True
            self.start("", lambda: actions.ATTEMPT[self.step.kind](self.step))

    def ended(self, key: Any, job: Ended) -> None:  # noqa: ARG002  # it has one job
        self.step.notes += [job.said]
        self.board.settle(self.step, FAILED if job.error else DONE, job.error)


class Login(Runner):
    """A target is up as soon as one way to it works, whenever that way became known. The others are tried, too: a dead
    one is a warning.
    """

    def __init__(self, step: Step, board: Board) -> None:
        super().__init__(step, board)
        self.tried: dict[Place, SwdError | None] = {}  # in the order in which they became known

    def advance(self) -> None:
        for place in actions.ways(self.step.name):
            if place not in self.tried:
                self.tried[place] = None
                self.start(place, partial(actions.prove, place))
        if not self.running and not self.step.settled and decided(self.board, DISCOVER):
            error = next((error for error in self.tried.values() if error), None) or actions.unknown(self.step.name)
            for target in {place.target for place in self.tried}:
                actions.note(target, error)
            self.step.notes[:0] = [error.reason]
            self.board.settle(self.step, FAILED, error)

    def ended(self, key: Any, job: Ended) -> None:
        self.tried[key] = job.error
        if job.error is not None:
            self.step.notes += [f"{key.portal}: {job.said}"]
        elif not self.step.settled:
            actions.note(key.target, None)
            self.step.notes[:0] = [said(job.value)]
            self.board.settle(self.step, DONE)
        if self.step.settled and self.step.result != FAILED and any(self.tried.values()):
            self.step.result = WARNING


def said(proof: Proof) -> str:
    """A login that works, for people."""
    units = len(proof.units)
    return f"up at {proof.portal}, auth {proof.auth}, {units} unit{'' if units == 1 else 's'}"


class Groups(Runner):
    """A volume group is tried whenever one more target is up, and for the last time when no login is open any more. One
    that may be partial waits for that: a volume that comes a moment later is not missing.
    """

    def __init__(self, step: Step, board: Board) -> None:
        super().__init__(step, board)
        self._seen = -1 if board.order.devices else 0
        self._last = False

    def advance(self) -> None:
        last = decided(self.board, DISCOVER, LOGIN)
        now, patient = up(self.board), self.step.group is not None and self.step.group.partial
        if not self.running and ((last and not self._last) or (now > self._seen and not patient)):
            self._seen, self._last = now, last
            self.start("", lambda: actions.ATTEMPT[GROUP](self.step))

    def ended(self, key: Any, job: Ended) -> None:  # noqa: ARG002  # one job at a time
        if job.error is None or self._last:
            self.step.notes += [job.said]
            self.board.settle(self.step, FAILED if job.error else DONE, job.error)


class FileSystems(Once):
    """A file system waits for what it lies on: its volume group, its target, or all of them where the name hides it."""

    def ready(self) -> bool:
        dev: Dev = parse_dev(self.step.name)
        while isinstance(dev, FaultDev):
            dev = dev.on
        if isinstance(dev, LvmDev):
            return self._decided(GROUP, dev.vg) and decided(self.board, DISCOVER, LOGIN)
        if isinstance(dev, IscsiDev):
            return self._decided(LOGIN, dev.target)
        return isinstance(dev, (FileDev, MemDev)) or decided(self.board, DISCOVER, LOGIN)

    def _decided(self, kind: str, name: str) -> bool:
        return all(step.settled for step in self.board.steps if (step.kind, step.name) == (kind, name))


RUNNERS: dict[str, type[Runner]] = {DISCOVER: Once, LOGIN: Login, GROUP: Groups, FILESYSTEM: FileSystems}
