# SPDX-License-Identifier: Apache-2.0
"""How each kind of step of pass 2 proceeds: when it may try, and when it is decided. No threads and no clock in here.

`advance` is called whenever a job has ended anywhere, `ended` for each end of a job of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

from swd.driver.boot_order import BootOrder, Group
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


def units(board: Board) -> set[str]:
    """The units behind the targets that have been logged in to."""
    return {dev for step in board.steps for dev in step.units}


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
            self.start("", lambda: actions.ATTEMPT[self.step.kind](self.step, self.board.order))

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
            self.step.notes += [job.said if str(key.portal) in job.said else f"{key.portal}: {job.said}"]
        else:
            self._proved(job.value)
        if self.step.settled and self.step.result != FAILED and any(self.tried.values()):
            self.step.result = WARNING


    def _proved(self, proof: Proof) -> None:
        self.step.units += [f"wwid:{one.identity}" if one.strong else one.dev for one in proof.units if one.size]
        if not self.step.settled:
            actions.note(proof.target, None)
            self.step.notes[:0] = [said(proof)]
            self.board.settle(self.step, DONE)


def said(proof: Proof) -> str:
    """A login that works, for people."""
    units = len(proof.units)
    return f"up at {proof.portal}, auth {proof.auth}, {units} unit{'' if units == 1 else 's'}"


class Groups(Runner):
    """A volume group is looked for on the units of the targets that are up, again whenever there are more; and for the
    last time, when no login is open any more, on all units that the registry knows. One that may be partial waits for
    that: a volume that comes a moment later is not missing. Where `devices` are listed it is on those or nowhere.
    """

    def __init__(self, step: Step, board: Board) -> None:
        super().__init__(step, board)
        self._group = step.group or Group(step.name)
        self._seen: set[str] = set()
        self._last = False

    def advance(self) -> None:
        if self.running:
            return
        devices = set(self.board.order.devices) or units(self.board)
        if decided(self.board, DISCOVER, LOGIN):
            if not self._last:
                self._last = True
                self._try(self.board.order.devices)
        elif devices > self._seen and not self._group.partial:
            self._seen = devices
            self._try(sorted(devices))

    def _try(self, devices: Sequence[str]) -> None:
        self.start("", lambda: actions.activate(self._group, devices))

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
        below = [step for step in self.board.steps if self._lies_on(dev, step)]
        if below or isinstance(dev, (FileDev, MemDev)):
            return all(step.settled for step in below)
        return decided(self.board, DISCOVER, LOGIN)

    def _lies_on(self, dev: Dev, step: Step) -> bool:
        if isinstance(dev, LvmDev):
            return (step.kind, step.name) == (GROUP, dev.vg)
        return isinstance(dev, IscsiDev) and (step.kind, step.name) in ((LOGIN, dev.target), (LOGIN, str(dev)))


RUNNERS: dict[str, type[Runner]] = {DISCOVER: Once, LOGIN: Login, GROUP: Groups, FILESYSTEM: FileSystems}
