# SPDX-License-Identifier: Apache-2.0
"""Brings a lost session back: logs in again with the same ISID, has the units' identity compared, and lets the
commands go on.

One thread does it, begun when the loss is noticed; the callers sleep in the pump meanwhile. What becomes of which
command is decided in `proto.recovery`; this module waits, dials and carries the orders out. It ends with the session
restored, or with an error for all who wait: after `replacement_timeout` seconds in which no command was completed.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from swd import messages
from swd._fastpath import Pump
from swd.errors import BadDescriptor, ConnectionLost, ProtocolViolation, SwdError
from swd.iscsi.connection import Link, establish
from swd.iscsi.states import States
from swd.iscsi.tally import PROCESS, Tally
from swd.proto import recovery
from swd.proto.login import LoginConfig
from swd.values import Negotiated, Portal

_log = logging.getLogger(__name__)

Verify = Callable[[], object]


class Reinstatement:
    """The recovery of one session, over all its losses. `verify` asks the units, on the new connection and ahead of
    everything, who they are, bars those that have changed, and raises to have another try.
    """

    def __init__(
        self,
        portal: Portal,
        config: LoginConfig,
        pump: Pump,
        *,
        verify: Verify,
        adopt: Callable[[Link], object],
        tally: Tally = PROCESS,
        states: States | None = None,
    ) -> None:
        self._portal = portal
        self._config = config
        self._pump = pump
        self._verify = verify
        self._adopt = adopt
        self._tally = tally
        self._states = states or States(tally)
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # guards _running; nothing is called under it but `Pump.down`
        self._running = False
        self._completed = 0
        self._lost_at = 0.0
        self._losses = 0
        self._group: int | None = None
        self.count = 0  # times that the session came back

    def begin(self, negotiated: Negotiated) -> None:
        """The link was lost: start the thread, unless one is at work: it sees this loss itself. `negotiated` is what
        what held on the lost link.
        """
        with self._lock:
            if self._running:
                return
            self._running = True
        self._group = negotiated.target_portal_group_tag
        threading.Thread(target=self._run, args=(negotiated,), name="swd-recovery", daemon=True).start()

    def stop(self) -> None:
        """The session is being closed."""
        self._stopped.set()

    def _run(self, negotiated: Negotiated) -> None:
        try:
            while True:
                self._bring_back(negotiated)
                with self._lock:
                    if not self._pump.down:
                        self._running = False
                        return
        except SwdError as error:
            if not self._stopped.is_set():
                self._tally.add("recovery_fail")
                messages.say(_log, "ISCSI_LOG_TARGET_OFFLINE_EVENT", portal=self._portal, why=error)
            self._states.ended()
            self._pump.give_up(error)
        except BaseException as error:  # a fault of ours: nobody may wait for ever because this thread died of it
            self._pump.give_up(ConnectionLost(f"the session with {self._portal} could not be brought back: {error!r}"))
            raise

    def _bring_back(self, negotiated: Negotiated) -> None:
        failure: SwdError | None = None
        attempt = 0
        self._note_loss()
        while True:
            pause = recovery.delay(attempt, negotiated.default_time2wait, random.random())
            pause = min(pause, max(0.0, self._left()))
            if self._stopped.wait(pause):
                raise BadDescriptor("the session is closed")
            if self._left() <= 0:
                raise self._too_late(failure)
            try:
                if self._attempt():
                    return
            except (BadDescriptor, ProtocolViolation):
                raise
            except SwdError as error:
                failure = error
                messages.say(_log, "SWD_LOG_NOT_BACK_YET", portal=self._portal, why=error)
            attempt += 1

    def _note_loss(self) -> None:
        if self._pump.statistics()["completed"] != self._completed or not self._losses:
            self._losses, self._lost_at = 0, time.monotonic()
        self._losses += 1

    def _left(self) -> float:
        return self._lost_at + self._config.options.replacement_timeout - time.monotonic()

    def _too_late(self, failure: SwdError | None) -> ConnectionLost:
        seconds = self._config.options.replacement_timeout
        why = f": {failure}" if failure is not None else ""
        return ConnectionLost(f"the session with {self._portal} did not come back within {seconds:g} s{why}")

    def _attempt(self) -> bool:
        """One login, one look at the units. True if all is well; the link that died meanwhile raises ConnectionLost."""
        options = self._config.options
        patience = min(options.login_timeout, max(self._left(), 0.1))
        link = establish(
            self._portal,
            replace(self._config, options=replace(options, login_timeout=patience)),
            self._tally,
            self._states,
        )
        if link.negotiated.target_portal_group_tag != self._group:
            # Another portal group is another I_T nexus: the old one's tasks may still be at work (RFC 7143 4.4.3.1).
            self._stopped.wait(options.path_settle)
        orders = recovery.orders(self._pump.leftover(), losses=self._losses)
        self._pump.restart(link.negotiated, link.fd, orders.replay, orders.losses, one_by_one=orders.one_by_one)
        self._group = link.negotiated.target_portal_group_tag
        self._adopt(link)
        self._verify()
        self._completed = self._pump.statistics()["completed"]  # what the units said of themselves is no progress
        self.count += 1
        self._states.resumed()
        messages.say(_log, "SWD_LOG_SESSION_BACK", portal=self._portal, replayed=len(orders.replay))
        self._pump.resume()
        return True
