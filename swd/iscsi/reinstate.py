# SPDX-License-Identifier: Apache-2.0
"""Brings a lost session back: logs in again with the same ISID, by the same path or another, has the units' identity
compared, and lets the commands go on.

One thread does it, begun when the loss is noticed; the callers sleep in the pump meanwhile. What becomes of which
command, and which path is tried, is decided in `proto.recovery`; this module waits, dials and carries the orders out.
It ends with the session restored, or with an error for all who wait: after `replacement_timeout` seconds in which no
command was completed.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from swd import messages
from swd._fastpath import Pump
from swd.errors import BadDescriptor, ConnectionLost, ProtocolViolation, SwdError
from swd.iscsi.connection import Link, establish
from swd.iscsi.states import States
from swd.iscsi.tally import PROCESS, Tally
from swd.proto import recovery
from swd.proto.login import LoginConfig
from swd.proto.recovery import Nexus, Path
from swd.values import Negotiated, Portal

_log = logging.getLogger(__name__)

Verify = Callable[[], object]
Standby = Callable[[], Sequence[Path]]


class Reinstatement:
    """The recovery of one session, over all its losses. `verify` asks the units, on the new connection and ahead of
    everything, who they are, bars those that have changed, and raises to have another try; so does `fence`, which ends
    what other nexuses do to them. `standby` names the other paths to them.
    """

    def __init__(
        self,
        portal: Portal,
        config: LoginConfig,
        pump: Pump,
        *,
        verify: Verify,
        fence: Verify,
        standby: Standby,
        adopt: Callable[[Link], object],
        tally: Tally = PROCESS,
        states: States | None = None,
    ) -> None:
        self._home = self._path = Path(portal, config.target_name or "")
        self._config = config
        self._pump = pump
        self._verify = verify
        self._fence = fence
        self._standby = standby
        self._adopt = adopt
        self._tally = tally
        self._states = states or States(tally)
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # guards _running; nothing is called under it but `Pump.down`
        self._running = False
        self._completed = 0
        self._lost_at = self._down_at = 0.0  # the first loss since a command was completed, and the last one
        self._losses = 0
        self._agreed = Negotiated()  # on the connection on which commands were sent last
        self._reset_at: float | None = None  # since when the old connection is not even half open
        self.count = 0  # times that the session came back

    def begin(self, negotiated: Negotiated) -> None:
        """The link was lost: start the thread, unless one is at work: it sees this loss itself. `negotiated` is what
        what held on the lost link.
        """
        with self._lock:
            if self._running:
                return
            self._running = True
        self._agreed = negotiated
        threading.Thread(target=self._run, name="swd-recovery", daemon=True).start()

    def stop(self) -> None:
        """The session is being closed."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            while True:
                self._bring_back()
                with self._lock:
                    if not self._pump.down:
                        self._running = False
                        return
        except SwdError as error:
            if not self._stopped.is_set():
                self._tally.add("recovery_fail")
                messages.say(_log, "ISCSI_LOG_TARGET_OFFLINE_EVENT", portal=self._path.portal, why=error)
            self._states.ended()
            self._pump.give_up(error)
        except BaseException as error:  # a fault of ours: nobody may wait for ever because this thread died of it
            where = self._path.portal
            self._pump.give_up(ConnectionLost(f"the session with {where} could not be brought back: {error!r}"))
            raise

    def _bring_back(self) -> None:
        failure: SwdError | None = None
        attempt = 0
        self._note_loss()
        others = [self._home, *self._standby()]
        while True:
            pause = recovery.delay(attempt, self._agreed.default_time2wait, random.random())
            pause = min(pause, max(0.0, self._left()))
            if self._stopped.wait(pause):
                raise BadDescriptor("the session is closed")
            if self._left() <= 0:
                raise self._too_late(failure)
            path = recovery.path_for(attempt, self._path, others)
            try:
                self._attempt(path, len({self._path, *others}))
            except (BadDescriptor, ProtocolViolation):
                raise
            except SwdError as error:
                failure = error
                messages.say(_log, "SWD_LOG_NOT_BACK_YET", portal=path.portal, why=error)
            else:
                return
            attempt += 1

    def _note_loss(self) -> None:
        self._reset_at, self._down_at = None, time.monotonic()
        if self._pump.statistics()["completed"] != self._completed or not self._losses:
            self._losses, self._lost_at = 0, self._down_at
        self._losses += 1

    def _left(self) -> float:
        return self._lost_at + self._config.options.replacement_timeout - time.monotonic()

    def _too_late(self, failure: SwdError | None) -> ConnectionLost:
        seconds = self._config.options.replacement_timeout
        why = f": {failure}" if failure is not None else ""
        return ConnectionLost(f"the session with {self._path.portal} did not come back within {seconds:g} s{why}")

    def _attempt(self, path: Path, paths: int) -> None:
        """One login and one look at the units. Raises to have another try."""
        link = self._dial(path, paths)
        moved = _nexus(link.negotiated) != _nexus(self._agreed)
        if moved:
            self._settle(link)
        orders = recovery.orders(self._pump.leftover(), losses=self._losses)
        self._pump.restart(link.negotiated, link.fd, orders.replay, orders.losses, one_by_one=orders.one_by_one)
        self._adopt(link)
        self._verify()
        if moved and self._config.options.failover_fence == "lun_reset":
            self._fence()
        if path != self._path:
            self._tally.add("failovers")
            messages.say(
                _log, "SWD_LOG_PATH_CHANGED", portal=self._path.portal, target=path.target_name, now=path.portal
            )
        self._path, self._agreed = path, link.negotiated
        self._completed = self._pump.statistics()["completed"]  # what the units said of themselves is no progress
        self.count += 1
        self._states.resumed()
        messages.say(_log, "SWD_LOG_SESSION_BACK", portal=path.portal, replayed=len(orders.replay))
        self._pump.resume()

    def _dial(self, path: Path, paths: int) -> Link:
        options = self._config.options
        options = replace(options, login_timeout=recovery.patience(options.login_timeout, self._left(), paths))
        target = path.target_name or None
        config = replace(self._config, target_name=target, options=options)
        return establish(path.portal, config, self._tally, self._states)

    def _settle(self, link: Link) -> None:
        """Before replay on another nexus: what was sent to the old one is given time to arrive, or to be dropped."""
        options = self._config.options
        now = time.monotonic()
        if self._reset_at is None:
            self._pump.reset()
            self._reset_at = now
        since_loss, since_reset = now - self._down_at, now - self._reset_at
        rest = recovery.rest(options.failover_fence, options.path_settle, self._agreed, since_loss, since_reset)
        closed = self._stopped.wait(max(0.0, min(rest, self._left())))
        if closed:
            link.close()
            raise BadDescriptor("the session is closed")
        if self._left() <= 0 and rest > 0:
            link.close()
            raise ConnectionLost(f"{link.portal} answers, but replay on another path may begin after {rest:g} s only")


def _nexus(agreed: Negotiated) -> Nexus:
    return Nexus(agreed.target_name, agreed.target_portal_group_tag)
