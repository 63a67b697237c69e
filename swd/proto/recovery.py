# SPDX-License-Identifier: Apache-2.0
"""What to do about a lost connection, decided without doing it: who is sent again, in which order, who is not, when
to try, and by which path.

Recovery level 0 (RFC 7143 7.1.1): the session is reinstated by a login with the same ISID and TSIH 0, which ends all
tasks of the old connection at the target (6.3.5). Only then may a command be sent again, and only where doing it
twice does what doing it once does. The session carries the orders out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swd.errors import ConnectionLost, SwdError
from swd.values import Leftover, Negotiated, OpenTask, Portal

MAX_REPLAYS = (
    5  # of one command; a command that kills the connection each time must not keep the others from being served
)
ONE_BY_ONE_FROM = 2  # losses without a single command completed: from here on it is shown which command is the poison
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two attempts to log in
ATTEMPTS_HERE = 2  # by the path in use, before another one is tried
SHARE = 4  # of the time that is left, what one attempt may take where there are other paths

# Opcodes whose effect is the same when the command is done twice (SPC-4, SBC-3). What is not here is not sent again.
REPLAYABLE: dict[int, str] = {
    0x00: "TEST UNIT READY",
    0x03: "REQUEST SENSE",
    0x08: "READ(6)",
    0x0A: "WRITE(6)",
    0x12: "INQUIRY",
    0x1A: "MODE SENSE(6)",
    0x25: "READ CAPACITY(10)",
    0x28: "READ(10)",
    0x2A: "WRITE(10)",
    0x2E: "WRITE AND VERIFY(10)",
    0x2F: "VERIFY(10)",
    0x34: "PRE-FETCH(10)",
    0x35: "SYNCHRONIZE CACHE(10)",
    0x37: "READ DEFECT DATA(10)",
    0x41: "WRITE SAME(10)",
    0x42: "UNMAP",
    0x4D: "LOG SENSE",
    0x5A: "MODE SENSE(10)",
    0x5E: "PERSISTENT RESERVE IN",
    0x88: "READ(16)",
    0x8A: "WRITE(16)",
    0x8E: "WRITE AND VERIFY(16)",
    0x8F: "VERIFY(16)",
    0x90: "PRE-FETCH(16)",
    0x91: "SYNCHRONIZE CACHE(16)",
    0x93: "WRITE SAME(16)",
    0x9E: "SERVICE ACTION IN(16)",
    0xA0: "REPORT LUNS",
    0xA3: "MAINTENANCE IN",
    0xA8: "READ(12)",
    0xAA: "WRITE(12)",
    0xAE: "WRITE AND VERIFY(12)",
    0xAF: "VERIFY(12)",
    0xB7: "READ DEFECT DATA(12)",
}
FLUSHES = frozenset({0x35, 0x91})


@dataclass(frozen=True)
class Orders:
    """`replay`: ITTs in the order in which they are sent again. `losses`: the error of each command that is not."""

    replay: tuple[int, ...] = ()
    losses: dict[int, SwdError] = field(default_factory=dict)
    one_by_one: bool = False


def orders(leftover: Leftover, *, losses: int) -> Orders:
    """What becomes of the commands that were open. `losses`: connections lost since a command was last completed,
    this one included.
    """
    sent = [task for task in leftover.tasks if task.was_sent]  # the others were never sent: they only wait on
    refused = {task.itt: error for task in sent if (error := _refusal(task, leftover.reason)) is not None}
    again = [task for task in sent if task.itt not in refused]
    # A flush that was open together with writes comes after all of them: what it acknowledges must be on the medium.
    again.sort(key=lambda task: task.cdb[0] in FLUSHES)
    return Orders(tuple(task.itt for task in again), refused, losses >= ONE_BY_ONE_FROM)


def _refusal(task: OpenTask, reason: str) -> SwdError | None:
    opcode = task.cdb[0]
    if opcode not in REPLAYABLE:
        return ConnectionLost(
            f"the connection was lost ({reason}) before command 0x{opcode:02x} was answered:\n"
            "it may have been done, and is not sent again; look at the unit's state before you do so"
        )
    if task.replays >= MAX_REPLAYS:
        return ConnectionLost(
            f"{REPLAYABLE[opcode]} was sent {task.replays + 1} times and the connection was lost each time ({reason})"
        )
    return None


def delay(attempt: int, time2wait: float, chance: float) -> float:
    """Seconds before login attempt number `attempt` (0, 1, ...): at first what the target asked for
    (DefaultTime2Wait, RFC 7143 13.15), then doubling up to a limit, spread by `chance` (0 to 1) so that many
    initiators do not come back as one.
    """
    if attempt == 0:
        return time2wait
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt, 16)) * (0.5 + chance / 2))


class Path(NamedTuple):
    """A way to the units of a session: a portal, and the target behind it."""

    portal: Portal
    target_name: str


class Nexus(NamedTuple):
    """What tells I_T nexuses of one ISID apart (RFC 7143 4.4.3.1): a login to the same one ends its old tasks."""

    target_name: str
    portal_group: int | None


def path_for(attempt: int, here: Path, others: Sequence[Path]) -> Path:
    """By which path login attempt number `attempt` (0, 1, ...) goes: first a few times by the path that was in use,
    then by each of the others in turn, and between two of them once more by the first.
    """
    others = [path for path in others if path != here]
    if attempt < ATTEMPTS_HERE or not others:
        return here
    turn, back = divmod(attempt - ATTEMPTS_HERE, 2)
    return here if back else others[turn % len(others)]


def patience(login_timeout: float, left: float, paths: int) -> float:
    """Seconds that one attempt may take: a path on which nobody answers must not use up the time of the others."""
    return min(login_timeout, max(left / SHARE if paths > 1 else left, 0.1))


def rest(fence: str, path_settle: float, agreed: Negotiated, since_loss: float, since_reset: float) -> float:
    """Seconds to wait, from now on, before replay on another nexus, since a login there does not end the tasks of the
    old one: `path_settle` after the reset of its connection. With the fence `wait` also the time after which a target
    must have ended them by itself: Time2Wait and Time2Retain of the old connection after its loss (RFC 7143 6.3.6).
    """
    settled = path_settle - since_reset
    if fence != "wait":
        return settled
    return max(settled, agreed.default_time2wait + agreed.default_time2retain - since_loss)
