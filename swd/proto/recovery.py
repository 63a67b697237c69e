# SPDX-License-Identifier: Apache-2.0
"""What to do about a lost connection, decided without doing it: who is sent again, in which order, who is not, and
when to try.

Recovery level 0 (RFC 7143 7.1.1): the session is reinstated by a login with the same ISID and TSIH 0, which ends all
tasks of the old connection at the target (6.3.5). Only then may a command be sent again, and only where doing it
twice does what doing it once does. The session carries the orders out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swd.errors import ConnectionLost, SwdError
from swd.values import Leftover, OpenTask

MAX_REPLAYS = (
    5  # of one command; a command that kills the connection each time must not keep the others from being served
)
ONE_BY_ONE_FROM = 2  # losses without a single command completed: from here on it is shown which command is the poison
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two attempts to log in

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
