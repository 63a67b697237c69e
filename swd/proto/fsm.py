# SPDX-License-Identifier: Apache-2.0
"""The state machines of swd as literal tables: which event leads from which state to which, and by which label of
RFC 7143 (section 8).

Connections and sessions are seen from the initiator, at recovery level 0, with one connection a session: transitions
that RFC 7143 draws for targets or for several connections have no row. A step that has no row is a fault of swd. This
module decides nothing else: who notices an event, and what is done about it, is the business of `iscsi.states`,
`proto.login` and `driver.phase`, which walk on these tables. `tools/states_doc.py` makes `docs/states.md` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Row(NamedTuple):
    """`label` is RFC 7143's, or "" where the step is swd's own."""

    state: str
    event: str
    to: str
    label: str
    when: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`clause` says where the states come from; `first` is where a walk begins, `ends` where nothing follows."""

    name: str
    clause: str
    first: str
    states: dict[str, str]
    rows: tuple[Row, ...]
    ends: frozenset[str] = frozenset()

    def row(self, state: str, event: str) -> Row | None:
        """The only row for this event in this state; None: the step is illegal."""
        return next((row for row in self.rows if (row.state, row.event) == (state, event)), None)


class IllegalStep(Exception):
    """An event in a state in which it cannot be: a fault of whoever reported it, never of the target."""


class Walk:
    """Somebody's place in a machine. `on_step` gets each row that was taken."""

    def __init__(self, machine: Machine, on_step: Callable[[Row], object] | None = None) -> None:
        self.machine = machine
        self.state = machine.first
        self._on_step = on_step

    def can(self, event: str) -> bool:
        return self.machine.row(self.state, event) is not None

    def step(self, event: str) -> Row:
        """Raises IllegalStep, and stays where it is."""
        row = self.machine.row(self.state, event)
        if row is None:
            raise IllegalStep(f"{self.machine.name}: {event!r} cannot be in state {self.state}")
        self.state = row.to
        if self._on_step is not None:
            self._on_step(row)
        return row


# ---- a connection -------------------------------------------------------------------------------------------------

FREE, XPT_WAIT, IN_LOGIN, LOGGED_IN = "S1 FREE", "S2 XPT_WAIT", "S4 IN_LOGIN", "S5 LOGGED_IN"
IN_LOGOUT, LOGOUT_REQUESTED = "S6 IN_LOGOUT", "S7 LOGOUT_REQUESTED"
CLEANUP_WAIT, IN_CLEANUP = "S8 CLEANUP_WAIT", "R2 IN_CLEANUP"

CONNECTION: Final = Machine(
    "connection",
    "RFC 7143 8.1 and 8.2, initiator",
    FREE,
    {
        FREE: "no connection, or one that needs nothing more",
        XPT_WAIT: "TCP is connecting",
        IN_LOGIN: "login phase",
        LOGGED_IN: "full-feature phase",
        IN_LOGOUT: "a Logout is out",
        LOGOUT_REQUESTED: "the target asked for a Logout",
        CLEANUP_WAIT: "lost; the target may still be at work for it (R1 of 8.2)",
        IN_CLEANUP: "a login with the same ISID is under way, which ends it at the target",
    },
    (
        Row(FREE, "connect", XPT_WAIT, "T1", "swd connects"),
        Row(XPT_WAIT, "no connection", FREE, "T2", "refused, unreachable, timed out, or no such host"),
        Row(XPT_WAIT, "connected", IN_LOGIN, "T4", "TCP is up: the first Login Request goes out"),
        Row(IN_LOGIN, "login done", LOGGED_IN, "T5", "the final Login Response, Status-Class 0"),
        Row(IN_LOGIN, "login failed", FREE, "T7", "refused, redirected, silent, closed, or against the protocol"),
        Row(LOGGED_IN, "logout", IN_LOGOUT, "T9", "`logout`, or the last `close`"),
        Row(LOGOUT_REQUESTED, "logout", IN_LOGOUT, "T10", "the Logout that the target asked for"),
        Row(LOGGED_IN, "logout asked for", LOGOUT_REQUESTED, "T11", "Asynchronous Message, event 1"),
        Row(LOGOUT_REQUESTED, "logout asked for", LOGOUT_REQUESTED, "T12", "again"),
        Row(IN_LOGOUT, "logout asked for", IN_LOGOUT, "T14", "while the Logout is out already"),
        Row(IN_LOGOUT, "logged out", FREE, "T13", "Logout Response, response 0"),
        Row(
            LOGGED_IN,
            "lost",
            CLEANUP_WAIT,
            "T15",
            "end of TCP, an asynchronous drop, a wrong digest, a ping or an abort without an answer, a protocol error, "
            "or a close without logout",
        ),
        Row(LOGOUT_REQUESTED, "lost", CLEANUP_WAIT, "T16", "as T15"),
        Row(IN_LOGOUT, "lost", CLEANUP_WAIT, "T17", "Logout failed or timed out, or as T15"),
        Row(CLEANUP_WAIT, "given up", FREE, "M1", "the session is not brought back, or is closed"),
        Row(CLEANUP_WAIT, "login again", IN_CLEANUP, "M2", "the implicit logout begins: a login with the same ISID"),
        Row(IN_CLEANUP, "login again failed", CLEANUP_WAIT, "M3", "the new connection did not reach LOGGED_IN"),
        Row(IN_CLEANUP, "login again done", FREE, "M4", "the new connection did"),
    ),
)

# ---- a session ----------------------------------------------------------------------------------------------------

SESSION_FREE, SESSION_LOGGED_IN, SESSION_FAILED = "Q1 FREE", "Q3 LOGGED_IN", "Q4 FAILED"

SESSION: Final = Machine(
    "session",
    "RFC 7143 8.3, initiator",
    SESSION_FREE,
    {
        SESSION_FREE: "no session",
        SESSION_LOGGED_IN: "its connection is logged in",
        SESSION_FAILED: "its connection is lost; commands wait",
    },
    (
        Row(SESSION_FREE, "logged in", SESSION_LOGGED_IN, "N1", "the first connection reached LOGGED_IN"),
        Row(SESSION_LOGGED_IN, "closed", SESSION_FREE, "N3", "its only connection was logged out"),
        Row(SESSION_LOGGED_IN, "failed", SESSION_FAILED, "N5", "its only connection was lost"),
        Row(
            SESSION_FAILED,
            "reinstated or given up",
            SESSION_FREE,
            "N6",
            "a login with the same ISID and TSIH 0 ended it at the target; or it is given up, or closed",
        ),
    ),
)

# ---- a login ------------------------------------------------------------------------------------------------------

SECURITY, OPERATIONAL, FULL_FEATURE = "0 security", "1 operational", "3 full-feature phase"

LOGIN: Final = Machine(
    "login",
    "RFC 7143 6.3 and 11.12.3: CSG, NSG and T",
    SECURITY,
    {
        SECURITY: "SecurityNegotiation: who we are, CHAP",
        OPERATIONAL: "LoginOperationalNegotiation: digests, lengths, bursts",
        FULL_FEATURE: "the login is over",
    },
    (
        Row(SECURITY, "T=0", SECURITY, "", "more of this stage: CHAP takes several rounds"),
        Row(SECURITY, "T=1", OPERATIONAL, "", "both sides set T, NSG is 1, and authentication is through"),
        Row(OPERATIONAL, "T=0", OPERATIONAL, "", "more of this stage"),
        Row(OPERATIONAL, "T=1", FULL_FEATURE, "", "both sides set T, NSG is 3, and a TSIH came"),
    ),
    frozenset({FULL_FEATURE}),
)

# ---- bringing a session back --------------------------------------------------------------------------------------

UP, PAUSING, DIALLING, ASKING, GIVEN_UP = "up", "pausing", "logging in", "asking the units", "given up"

RECOVERY: Final = Machine(
    "recovery",
    "swd: `iscsi/reinstate.py` by the rules of `proto/recovery.py`",
    UP,
    {
        UP: "commands flow",
        PAUSING: "Time2Wait, or the growing pause after a failed attempt",
        DIALLING: "connecting and logging in with the same ISID",
        ASKING: "the units are asked who they are, ahead of everything that waits",
        GIVEN_UP: "all that waits has its error; so has every later call",
    },
    (
        Row(UP, "lost", PAUSING, "", "the link died; commands wait"),
        Row(PAUSING, "connect", DIALLING, "", "the pause is over"),
        Row(DIALLING, "failed", PAUSING, "", "refused or unreachable: once more, later"),
        Row(DIALLING, "redirected", DIALLING, "", "the target is at another address for now"),
        Row(DIALLING, "logged in", ASKING, "", "what is sent again, and in which order, is decided"),
        Row(ASKING, "lost", PAUSING, "", "the new link died, too"),
        Row(ASKING, "resumed", UP, "", "units that have changed are barred; the rest is sent again"),
        Row(PAUSING, "given up", GIVEN_UP, "", "`replacement_timeout` has passed, or the session is closed"),
        Row(DIALLING, "given up", GIVEN_UP, "", "the target broke the protocol, or the session is closed"),
        Row(ASKING, "given up", GIVEN_UP, "", "as before"),
        Row(UP, "given up", GIVEN_UP, "", "closed, or lost where nothing is brought back"),
    ),
    frozenset({GIVEN_UP}),
)

# ---- a command past its deadline ----------------------------------------------------------------------------------

PINGING, ABORTING, RESETTING, OVER, CUT = "NOP-Out", "ABORT TASK", "LOGICAL UNIT RESET", "over", "connection cut"

LADDER: Final = Machine(
    "deadline ladder",
    "swd: `Session._expired` in `iscsi/session.py`; functions of RFC 7143 11.5.1. One caller climbs at a time",
    PINGING,
    {
        PINGING: "a ping tells a dead connection from a dead task",
        ABORTING: "each overdue task of the call is aborted",
        RESETTING: "the unit is reset, which ends all tasks on it",
        OVER: "the caller gets its error; everything else goes on",
        CUT: "as lost (T15): the new login ends all tasks, those of other callers are sent again",
    },
    (
        Row(PINGING, "confirmed", ABORTING, "", "the ping came back"),
        Row(PINGING, "not confirmed", CUT, "", "it did not"),
        Row(ABORTING, "confirmed", OVER, "", "function complete, or the task does not exist"),
        Row(ABORTING, "not confirmed", RESETTING, "", "any other answer, or none"),
        Row(RESETTING, "confirmed", CUT, "", "the connection is replaced all the same, to be certain"),
        Row(RESETTING, "not confirmed", CUT, "", ""),
        Row(PINGING, "overtaken", OVER, "", "the connection has been replaced meanwhile: the task is gone with it"),
        Row(ABORTING, "overtaken", OVER, "", "as before"),
        Row(RESETTING, "overtaken", OVER, "", "as before"),
    ),
    frozenset({OVER, CUT}),
)

# ---- the network phase --------------------------------------------------------------------------------------------

UNSET, PRE_NETWORK, NETWORK_ATTEMPTED = "unset", "PRE_NETWORK", "NETWORK_ATTEMPTED"

PHASE: Final = Machine(
    "network phase",
    "swd: `driver/phase.py`, the contract's section on the network phase",
    UNSET,
    {
        UNSET: "no valid phase file: counts as NETWORK_ATTEMPTED",
        PRE_NETWORK: "remote storage answers NetworkNotInitialized at once",
        NETWORK_ATTEMPTED: "the first attempt is over, successful or not",
    },
    (
        Row(UNSET, "begin", PRE_NETWORK, "", "`swdctl phase begin`"),
        Row(UNSET, "begin --force", PRE_NETWORK, "", ""),
        Row(UNSET, "complete", NETWORK_ATTEMPTED, "", "`swdctl phase complete`"),
        Row(PRE_NETWORK, "begin", PRE_NETWORK, "", "again: the clock of `phase_timeout` starts anew"),
        Row(PRE_NETWORK, "begin --force", PRE_NETWORK, "", "as before"),
        Row(PRE_NETWORK, "complete", NETWORK_ATTEMPTED, "", "`swdctl phase complete`"),
        Row(PRE_NETWORK, "expired", UNSET, "", "`phase_timeout` seconds after `begin`"),
        Row(NETWORK_ATTEMPTED, "begin --force", PRE_NETWORK, "", "without --force it is EALREADY"),
        Row(NETWORK_ATTEMPTED, "complete", NETWORK_ATTEMPTED, "", "nothing changes"),
    ),
)

MACHINES: Final = (CONNECTION, SESSION, LOGIN, RECOVERY, LADDER, PHASE)
