# SPDX-License-Identifier: Apache-2.0
"""From a portal to a connection in full-feature phase: connects, carries the login machine's bytes, follows redirects.

The machine (`proto.login`) judges; this module only moves bytes within the deadline. It ends with the first
hand-over: a frozen `Negotiated`, copied into an engine that a pump then runs.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable

from swd import messages
from swd._engine import Engine
from swd._fastpath import Pump
from swd.errors import AuthenticationFailed, LoginRefused, NoSuchDevice, ProtocolViolation, SwdError
from swd.iscsi.states import States
from swd.iscsi.tally import PROCESS, Tally
from swd.iscsi.trace import Tap
from swd.iscsi.transport import Deadline, Stream, connect
from swd.proto.login import LoginConfig, LoginMachine, Redirect
from swd.proto.options import Options
from swd.proto.pdu import BHS_LENGTH
from swd.values import Event, Negotiated, Portal

_log = logging.getLogger(__name__)

MAX_REDIRECTS = 4
_MAX_LOGIN_SEGMENT = 65536  # no login PDU needs more; 8192 is what we declare (RFC 7143 13.12)
_MAX_R2T = 16  # what the engine keeps for one task
_CHALLENGE_LENGTH = 32


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection in full-feature phase: where it ended up, what was agreed, and its descriptor, which has no owner
    yet.
    """

    portal: Portal
    negotiated: Negotiated
    fd: int
    tap: Tap | None = None

    def close(self) -> None:
        os.close(self.fd)


def pump_for(
    link: Link,
    options: Options,
    *,
    on_event: Callable[[Event], object],
    on_down: Callable[[], object] | None,
) -> Pump:
    """An engine and a pump that take the link over."""
    engine = Engine(link.negotiated, slots=_slots(options.queue_depth), ring=options.ring)
    return Pump(
        engine,
        link.fd,
        on_event,
        on_down,
        spin=options.spin_us * 1e-6,
        coalesce=options.coalesce,
        half_refill=options.half_refill,
    )


def establish(
    portal: Portal, config: LoginConfig, tally: Tally = PROCESS, states: States | None = None
) -> Link:
    """Connects and logs in within `login_timeout`. Raises NoSuchDevice, LoginRefused, AuthenticationFailed or
    ProtocolViolation.

    A redirect never changes the target name, and the next login begins at the configured portal again.
    """
    options = dataclasses.replace(config.options, max_outstanding_r2t=min(config.options.max_outstanding_r2t, _MAX_R2T))
    config = dataclasses.replace(config, options=options)
    deadline = Deadline(options.login_timeout)
    here = portal
    states = states or States(tally)
    for _ in range(MAX_REDIRECTS + 1):
        stream = _dial(here, deadline, options, tally, states)
        try:
            outcome = _login(stream, config)
            if isinstance(outcome, Negotiated):
                tally.add("login_ok")
                states.logged_in()
                return Link(here, outcome, stream.release(), stream.tap)
        except SwdError as error:
            _note_failure(error, here, tally)
            states.not_logged_in()
            raise
        finally:
            stream.close()
        tally.add("conn_close")
        states.not_logged_in(redirected=True)
        tally.add("redirect_perm" if outcome.permanent else "redirect_temp")
        kind = "permanent" if outcome.permanent else "temporary"
        messages.say(_log, "SWD_LOG_REDIRECTED", portal=here, kind=kind, there=outcome.portal)
        here = outcome.portal
    raise LoginRefused(
        f"{portal} redirects in a circle: {MAX_REDIRECTS} redirects led to {here}, and that redirects again"
    )


def _dial(portal: Portal, deadline: Deadline, options: Options, tally: Tally, states: States) -> Stream:
    states.dialling()
    try:
        stream = connect(portal, deadline, options=options, tally=tally)
    except BaseException:
        states.not_logged_in()
        raise
    states.connected()
    return stream


def _note_failure(error: SwdError, portal: Portal, tally: Tally) -> None:
    """Counts why a login failed, and says so."""
    tally.add("conn_close")
    if isinstance(error, LoginRefused):
        tally.add("auth_fail" if isinstance(error, AuthenticationFailed) else "login_bad_class")
        messages.say(
            _log,
            "ISW_LOG_BAD_STATUS_CLASS",
            portal=portal,
            status_class=error.status_class,
            status_detail=error.status_detail,
            why=error,
        )
    elif isinstance(error, ProtocolViolation):
        tally.add("login_fail")
        messages.say(_log, "SWD_LOG_LOGIN_PROTOCOL_ERROR", portal=portal, why=error)
    elif isinstance(error, NoSuchDevice):
        tally.add("login_wait_fail" if isinstance(error.__cause__, TimeoutError) else "tcp_close_login")
        messages.say(_log, "ISW_LOG_CLOSED_ON_LOGIN", portal=portal, why=error)


def _login(stream: Stream, config: LoginConfig) -> Negotiated | Redirect:
    challenge = os.urandom(_CHALLENGE_LENGTH + 1)
    machine = LoginMachine(config, chap_id=challenge[0], challenge=challenge[1:])
    step: bytes | Redirect | Negotiated = machine.start()
    while isinstance(step, bytes):
        stream.send(step)
        bhs = stream.read(BHS_LENGTH)
        data = _data_segment(stream, bhs)
        try:
            step = machine.receive(bhs, data)
        except LoginRefused as error:
            raise _naming(error, config.target_name, stream.portal) from None
    return step


def _naming(error: LoginRefused, target_name: str | None, portal: Portal) -> LoginRefused:
    """The same refusal, saying by whom: the machine does not know where it runs."""
    return type(error)(
        f"{target_name or 'discovery'} at {portal}: {error.reason}",
        errno=error.errno,
        status_class=error.status_class,
        status_detail=error.status_detail,
    )


def _data_segment(stream: Stream, bhs: bytes) -> bytes:
    length = int.from_bytes(bhs[5:8], "big")
    if bhs[4] or length > _MAX_LOGIN_SEGMENT:
        raise ProtocolViolation(
            f"{stream.portal} sent a login response with {length} bytes of data and {bhs[4]} words of additional "
            "header: is that the portal of an iSCSI target?",
            clause="11.13",
        )
    return stream.read(length + (-length & 3))[:length]


def _slots(queue_depth: int) -> int:
    """Task slots of the engine: room for a full queue, and for those who share the session with it."""
    return min(4096, max(256, 2 * queue_depth))
