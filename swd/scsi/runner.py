# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of one logical unit through a session until the policy is content.

`Runner` knows the loop and nothing else: send, ask `policy.judge`, pause or look again, send once more. It has no
clock: the pauses that it made itself are what counts against the time allowed, and each single attempt has the
session's own deadline. What the session raises (a lost connection, a deadline) passes through untouched.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from swd._straight import Straight
from swd.errors import SwdError
from swd.iscsi.tally import PROCESS
from swd.scsi import policy
from swd.scsi.opcodes import lookup
from swd.scsi.policy import Action, Cause, Verdict
from swd.values import ScsiResult, Sense

_RAW_CAUSES = frozenset({Cause.ATTENTION, Cause.BUSY})  # what a caller with a CDB of his own does not want to see

_COUNTED = {Cause.ATTENTION: "unit_attention", Cause.BUSY: "busy"}  # in the statistics of the session

Buffer = Any  # an object with the buffer protocol; `collections.abc.Buffer` is of Python 3.12


class ScsiSession(Protocol):
    """What is needed of `swd.iscsi.session.Session`; its methods make one attempt each and apply no policy."""

    def execute(
        self, cdb: bytes, *, lun: int, data_out: Buffer | None = None, data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult: ...

    def straight(self, lun: int, timeout: float | None = None) -> Straight | None:
        """The compiled way to a unit, if there is one."""

    def read_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Buffer, timeout: float | None = None
    ) -> ScsiResult | None: ...

    def write_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Buffer, timeout: float | None = None
    ) -> ScsiResult | None: ...

    def batch(
        self,
        write: bool,
        lun: int,
        lbas: Buffer,
        blocks: int,
        buffer: Buffer,
        *,
        queue_depth: int = 32,
        timeout: float | None = None,
    ) -> list[tuple[int, ScsiResult | SwdError]]: ...


class Runner:
    """Commands for one logical unit. `reread` is called when identity or capacity may have changed: it raises if so;
    `saw` with the sense data of every end that is looked at.
    """

    def __init__(
        self, session: ScsiSession, lun: int, *, timeout: float | None, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.session = session
        self.lun = lun
        self.timeout = timeout
        self.reread: Callable[[], None] = _nothing
        self.saw: Callable[[Sense | None], None] = _unheard
        self._sleep = sleep

    def check(self, cdb: bytes, *, data_out: Buffer | None = None, data_in: int = 0) -> bytes:
        """Run a command to its good end and return its data. Raises ScsiError for any other end."""
        once = self._attempt(cdb, data_out, data_in, self._deadline(cdb))
        result, verdict = self.settle(cdb, once(), once)
        if verdict.error is not None:
            raise verdict.error
        return result.data

    def raw(
        self, cdb: bytes, *, data_out: Buffer | None = None, data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult:
        """Run a caller's own command: unit attentions and BUSY are retried, the last result is returned as it is."""
        once = self._attempt(cdb, data_out, data_in, self._deadline(cdb) if timeout is None else timeout)
        return self.settle(cdb, once(), once, _RAW_CAUSES)[0]

    def settle(
        self,
        cdb: bytes,
        result: ScsiResult,
        again: Callable[[], ScsiResult],
        causes: frozenset[Cause] = frozenset(Cause),
    ) -> tuple[ScsiResult, Verdict]:
        """Judge `result`, and try `again` as long as the policy says so for one of `causes`.

        Returns the last result and verdict: DONE, or one with an `error`. Raises what `reread` and the session raise.
        """
        tried: Counter[Cause] = Counter()
        paused = 0.0
        while True:
            self.saw(result.sense)
            verdict = policy.judge(cdb, result, tried)
            if verdict.cause is None or verdict.cause not in causes:
                return result, verdict
            paused += verdict.delay
            if self.timeout is not None and paused > self.timeout:
                return result, Verdict(Action.FAIL, error=policy.error_for(result, cdb, given_up=verdict.cause))
            tried[verdict.cause] += 1
            if verdict.cause in _COUNTED:
                getattr(self.session, "tally", PROCESS).add(_COUNTED[verdict.cause])
            if verdict.action is Action.REREAD:
                self.reread()
            if verdict.delay:
                self._sleep(verdict.delay)
            result = again()

    def _deadline(self, cdb: bytes) -> float | None:
        return None if self.timeout is None else self.timeout * lookup(cdb).patience

    def _attempt(
        self, cdb: bytes, data_out: Buffer | None, data_in: int, timeout: float | None
    ) -> Callable[[], ScsiResult]:
        def once() -> ScsiResult:
            return self.session.execute(cdb, lun=self.lun, data_out=data_out, data_in=data_in, timeout=timeout)

        return once


def _nothing() -> None:
    """Before a unit's identity is known there is nothing to compare it with."""


def _unheard(_sense: Sense | None) -> None:
    """Nobody counts."""
