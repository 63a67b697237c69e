# SPDX-License-Identifier: Apache-2.0
"""What the plan soak does with each kind of fault: its keys, which errors a caller may then see, and which counters of
the session tell of it. A kind that is not here and not in LIES is missed by `test_soak_plans.py`.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

from swd.target.faults import Fault

Keys = dict[str, object]
BROKEN, LATE, STALE = errno.EPROTO, errno.ETIMEDOUT, errno.ESTALE
_NUMBERED = ["DATA_IN", "SCSI_RESPONSE", "R2T", "NOP_IN"]


class Trial(NamedTuple):
    """`make`: the faults of one round, the one in question first. `errors`: what callers may get, besides success.
    `moved`: one of these counters rises. `weight`: how often, against the others; 1 for what takes five seconds.
    `until`: the plan lasts until the fault has struck; or until a counter has told of it, where that takes more than
    one stroke; or until the window is shut and all that was sent has been answered.
    """

    make: Callable[[random.Random], list[Fault]]
    moved: tuple[str, ...]
    errors: tuple[int, ...] = ()
    weight: int = 50
    until: Literal["struck", "told", "shut"] = "struck"


def _one(do: str, nth: int = 12, **keys: object) -> Callable[[random.Random], list[Fault]]:
    """The fault at one of the next chances."""
    return lambda dice: [Fault(do, nth=dice.randint(1, nth), **keys)]


def _breaks(do: str, counter: str, **keys: object) -> Trial:
    """A breach of the protocol, which ends the session."""
    return Trial(_one(do, **keys), (counter,), (BROKEN,))


def _damages(do: str, counter: str, **keys: object) -> Trial:
    """What costs the connection, and nothing else."""
    return Trial(_one(do, **keys), (counter, "recoveries"))


def _ends(do: str, *errors: int, counter: str = "odd_completions", **keys: object) -> Trial:
    return Trial(_one(do, **keys), (counter,), errors)


def _login(do: str, *errors: int, counter: str, **keys: object) -> Trial:
    """A connection ends, and the next login meets the fault."""
    return Trial(lambda dice: [Fault(do, count=1, **keys), Fault("close", nth=dice.randint(1, 12))], (counter,), errors)


def _quiet(do: str, *counters: str, **keys: object) -> Trial:
    """All the time, until nobody may send anything; then the plan ends, and a ping opens the window. Commands that wait
    for it longer than `timeout` are late.
    """
    return Trial(lambda _dice: [Fault(do, **keys)], counters, (LATE,), 1, "shut")


def _late(do: str, **keys: object) -> Trial:
    """What is found out by a deadline, or by a StatSN that is missing."""
    return Trial(_one(do, **keys), ("timeouts", "fault_stat_sn"), (LATE, BROKEN), 6)


def _random_sense(dice: random.Random) -> list[Fault]:
    sense, _ = dice.choice((("3/11/00", 0), ("4/44/00", 0), ("B/00/00", 0), ("2/04/01", 0), ("3/0C/00", 0)))
    return [Fault("check_condition", sense=sense, nth=dice.randint(1, 12), bytes=dice.choice((0, 3, 8, 18)))]


def trials(overdue: float) -> dict[str, Trial]:
    """By the names of kinds. `overdue`: seconds that are longer than a command may take."""
    return {
        "drop": _late("drop", pdu="SCSI_RESPONSE"),
        "delay": _late("delay", seconds=overdue),
        # No rule is broken where data without a status changes places with a PDU of another command: then the next
        # one does it.
        "reorder": Trial(
            lambda dice: [Fault("reorder", pdu="DATA_IN", every=dice.randint(1, 12))], ("protocol_error",), (BROKEN,),
            until="told",
        ),
        "close": _damages("close", "fault_end_of_stream"),
        "reset": _damages("reset", "fault_system_error"),
        "poison": Trial(lambda dice: [Fault("poison", lba=dice.randrange(4096))], ("recoveries",), (errno.EIO,), 20),
        "silence": Trial(_one("silence"), ("timeouts", "recoveries"), (LATE,), 1),
        "stop_reading": Trial(_one("stop_reading"), ("timeouts", "recoveries"), (LATE,), 1),
        "duplicate": _breaks("duplicate", "protocol_error"),
        "truncate": _damages("truncate", "fault_end_of_stream"),
        "corrupt_header": _damages("corrupt_header", "fault_header_digest"),
        "corrupt_data": _damages("corrupt_data", "fault_data_digest"),
        "corrupt_header_digest": _damages("corrupt_header_digest", "fault_header_digest"),
        "corrupt_data_digest": _damages("corrupt_data_digest", "fault_data_digest"),
        "wrong_stat_sn": _breaks("wrong_stat_sn", "fault_stat_sn"),
        "wrong_data_sn": _breaks("wrong_data_sn", "fault_data_sn"),
        "wrong_r2t_sn": _breaks("wrong_r2t_sn", "fault_r2t_sn"),
        "wrong_exp_cmd_sn": _quiet("wrong_exp_cmd_sn", "windows_ignored", pdu=_NUMBERED),
        "wrong_max_cmd_sn": _quiet("wrong_max_cmd_sn", "windows_ignored", pdu=_NUMBERED),
        # A busy target would do it, too, but not for long after it has answered all that it had.
        "shut_window": Trial(lambda _dice: [Fault("shut_window")], ("windows_shut",), (LATE,), 1, "told"),
        "wrong_itt": _breaks("wrong_itt", "protocol_error"),
        "wrong_ttt": _late("wrong_ttt"),
        "wrong_offset": _breaks("wrong_offset", "fault_data_offset"),
        "wrong_residual": Trial(
            _one("wrong_residual"), ("fault_residual", "underflows", "data_in_residuals"), (BROKEN, errno.EIO)
        ),
        "wrong_length": Trial(_one("wrong_length", pdu="DATA_IN"), ("recoveries", "protocol_error"), (BROKEN,)),
        "wrong_field": _breaks("wrong_field", "fault_data_sn", pdu="DATA_IN", field="data_sn", value=77),
        "garbage": _damages("garbage", "fault_header_digest"),
        "r2t_too_long": _breaks("r2t_too_long", "protocol_error"),
        "r2t_out_of_range": _breaks("r2t_out_of_range", "fault_r2t_range"),
        "r2t_empty": _breaks("r2t_empty", "fault_r2t_range"),
        # Where the first has been answered before the last is seen they are not too many, but the target's mistake.
        "r2t_too_many": Trial(_one("r2t_too_many"), ("protocol_error", "odd_completions"), (BROKEN,)),
        "r2t_overlapping": _breaks("r2t_overlapping", "protocol_error"),
        "wrong_key": _login("wrong_key", BROKEN, counter="login_fail", key="InitialR2T", value="Maybe"),
        "busy": _ends("busy", counter="busy"),
        "task_set_full": _ends("task_set_full", counter="busy"),
        "reservation_conflict": _ends("reservation_conflict", errno.EBUSY),
        "status": _ends("status", errno.EBUSY, errno.EIO, code=0x30),
        "check_condition": Trial(_random_sense, ("odd_completions",), (errno.EIO,)),
        "unit_attention": _ends("unit_attention", counter="unit_attention", asc=0x2A, ascq=0x01),
        "slow": _late("slow", seconds=overdue),
        "no_answer": _late("no_answer"),
        "short_read": _ends("short_read", errno.EIO),
        "ghost": Trial(_one("ghost", seconds=0.01), ("recoveries",)),
        "r2t_on_read": _breaks("r2t_on_read", "fault_r2t_not_wanted"),
        "async_message": Trial(
            lambda dice: _one("async_message", event=dice.choice(("logout", "drop_connection", "drop_session")))(dice),
            ("async_logout", "async_drop_connection", "async_drop_session"),
        ),
        "reject": _breaks("reject", "protocol_error", reason="invalid_field"),
        "task_management_response": Trial(
            lambda dice: [Fault("task_management_response", nth=1), *_one("no_answer")(dice)],
            ("task_management",), (LATE,), 4,
        ),
        "identity_change": Trial(
            lambda dice: _one("identity_change", serial=f"S{dice.getrandbits(60)}")(dice),
            ("unit_attention",), (STALE,), 30,
        ),
        "size_change": Trial(
            _one("size_change", blocks=1000), ("unit_attention",), (STALE, errno.EIO, errno.ENOSPC), 30
        ),
        "login_status": _login("login_status", counter="login_bad_class", status="0302"),
        "redirect": _login("redirect", counter="redirect_temp", to="self"),
    }  # fmt: skip


TRIALS = trials(1.5)
LIES: dict[str, Keys] = {  # no initiator can know: the judge must, so they are the negative controls
    "wrong_data": {"command": "READ", "chance": 0.01},
    "lost_write": {"command": "WRITE", "chance": 0.01},
    "ghost": {"command": "WRITE", "chance": 0.01, "seconds": 0.3, "stubborn": True},
}
