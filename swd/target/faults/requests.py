# SPDX-License-Identifier: Apache-2.0
"""What the faults of requests do: a function a kind, called with the session, the request, and the fault.

Each returns whether the request goes no further. What lies about data is kept as a *twist* of the outcome, which the
session applies when the device server has spoken; such faults count themselves, when they have really lied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target.faults.plan import Fault
from swd.target.framing import Frame
from swd.target.scsi.reply import BUSY, CHECK_CONDITION, GOOD, TASK_SET_FULL, Outcome, Reply, WantData

if TYPE_CHECKING:
    from swd.target.faults.session import PlannedNormal
    from swd.target.session import Session

Twist = Callable[[Outcome], Outcome]
Action = Callable[[Any, Frame, Fault], bool]

RESERVATION_CONFLICT: Final = 0x18
_IDENTITY_CHANGED, _CAPACITY_CHANGED = (0x3F, 0x03), (0x2A, 0x09)
_DROPS: Final = (2, 3)  # asynchronous events after which the target ends the connection


def _status(code: int) -> Action:
    def end(session: PlannedNormal, frame: Frame, _fault: Fault) -> bool:
        session.answer(frame, Reply(code))
        return True

    return end


def _any_status(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    session.answer(frame, Reply(fault.settings["code"]))
    return True


def _check_condition(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    sense = fault.settings["sense"].raw[: fault.settings["bytes"]]
    session.answer(frame, Reply(CHECK_CONDITION, b"", sense))
    return True


def _unit_attention(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    session.node.scsi.nexuses.establish(_lun(frame), (fault.settings["asc"], fault.settings["ascq"]))
    return False


def _slow(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    session.put_off(frame, fault.settings["seconds"])
    return True


def _no_answer(session: PlannedNormal, frame: Frame, _fault: Fault) -> bool:
    session.put_off(frame, None)
    return True


def _twisting(make: Callable[[PlannedNormal, Fault, Outcome], Outcome | None]) -> Action:
    """A fault of the outcome; None from `make`: nothing to twist here."""

    def keep(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
        def twist(outcome: Outcome) -> Outcome:
            other = make(session, fault, outcome)
            if other is None:
                return outcome
            session.connection.injector.injected(fault)
            return other

        session.twists.setdefault(int.from_bytes(frame.bhs[16:20], "big"), []).append(twist)
        return False

    return keep


def _wrong_data(_session: PlannedNormal, fault: Fault, outcome: Outcome) -> Outcome | None:
    if not isinstance(outcome, Reply) or outcome.status != GOOD or not outcome.data:
        return None
    data = bytearray(outcome.data)
    data[fault.settings["byte"] % len(data)] ^= 0x40
    return outcome._replace(data=data)


def _short_read(_session: PlannedNormal, _fault: Fault, outcome: Outcome) -> Outcome | None:
    if not isinstance(outcome, Reply) or outcome.status != GOOD or not outcome.data:
        return None
    return outcome._replace(data=bytes(outcome.data)[: len(outcome.data) // 2])


def _lost_write(_session: PlannedNormal, _fault: Fault, outcome: Outcome) -> Outcome | None:
    return WantData(outcome.length, lambda _data: Reply()) if isinstance(outcome, WantData) else None


def _ghost(session: PlannedNormal, fault: Fault, outcome: Outcome) -> Outcome | None:
    """The data is taken, the connection dies, and the write is done later, unless its session was reinstated."""
    if not isinstance(outcome, WantData):
        return None
    node, stubborn = session.node, fault.settings["stubborn"]

    def die(data: memoryview) -> Reply:
        kept, absence = bytes(data), node.absence(session.nexus.identity)

        def haunt() -> None:
            if stubborn:
                outcome.finish(memoryview(kept))
            else:
                node.while_absent(absence, lambda: outcome.finish(memoryview(kept)))

        session.connection.injector.later(fault.settings["seconds"], haunt)
        session.connection.end("reset")
        return Reply()

    return WantData(outcome.length, die)


def _r2t_on_read(session: PlannedNormal, frame: Frame, _fault: Fault) -> bool:
    command = pdu.ScsiCommand.unpack(frame.bhs)
    session.outbox.put(
        pdu.R2T(
            lun=command.lun,
            itt=command.itt,
            ttt=session.new_ttt(),
            buffer_offset=0,
            desired_data_transfer_length=command.expected_data_transfer_length,
            **session.numbers(status=False),
        )
    )
    return False


def _async_message(session: Session, frame: Frame, fault: Fault) -> bool:
    """A target that says that it drops the connection does so."""
    words = fault.settings
    event = words["event"]
    session.outbox.put(
        pdu.AsyncMessage(
            lun=_lun(frame) if event == 0 else 0,
            async_event=event,
            async_vcode=words["vcode"],
            parameter1=words["parameter1"],
            parameter2=words["parameter2"],
            parameter3=words["parameter3"],
            **session.numbers(),
        )
    )
    if event in _DROPS:
        session.connection.end("close")  # type: ignore[attr-defined]
    return event in _DROPS


def _reject(session: Session, frame: Frame, fault: Fault) -> bool:
    session.reject(frame, fault.settings["reason"])
    return True


def _task_management_response(session: Session, frame: Frame, fault: Fault) -> bool:
    request = pdu.TaskManagementRequest.unpack(frame.bhs)
    answer = pdu.TaskManagementResponse(itt=request.itt, response=fault.settings["response"])
    session.outbox.put(dataclasses.replace(answer, **session.numbers()))
    return True


def _identity_change(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    session.node.scsi.units[_lun(frame)].serial = fault.settings["serial"]
    if fault.settings["attention"]:
        session.node.scsi.nexuses.establish(_lun(frame), _IDENTITY_CHANGED)
    return False


def _size_change(session: PlannedNormal, frame: Frame, fault: Fault) -> bool:
    unit = session.node.scsi.units[_lun(frame)]
    unit.blocks = min(unit.medium.size // unit.block_size, fault.settings["blocks"])
    if fault.settings["attention"]:
        session.node.scsi.nexuses.establish(_lun(frame), _CAPACITY_CHANGED)
    return False


ACTIONS: Final[dict[str, Action]] = {
    "busy": _status(BUSY),
    "task_set_full": _status(TASK_SET_FULL),
    "reservation_conflict": _status(RESERVATION_CONFLICT),
    "status": _any_status,
    "check_condition": _check_condition,
    "unit_attention": _unit_attention,
    "slow": _slow,
    "no_answer": _no_answer,
    "wrong_data": _twisting(_wrong_data),
    "short_read": _twisting(_short_read),
    "lost_write": _twisting(_lost_write),
    "ghost": _twisting(_ghost),
    "r2t_on_read": _r2t_on_read,
    "async_message": _async_message,
    "reject": _reject,
    "task_management_response": _task_management_response,
    "identity_change": _identity_change,
    "size_change": _size_change,
}
COUNT_THEMSELVES: Final = frozenset({"wrong_data", "short_read", "lost_write", "ghost"})
_READS: Final = frozenset({"short_read", "r2t_on_read", "wrong_data"})
_WRITES: Final = frozenset({"lost_write", "ghost"})
_OF_UNITS: Final = frozenset({"identity_change", "size_change", "unit_attention"})


def fits(session: Session, fault: Fault, frame: Frame) -> bool:
    """Whether the fault could be carried out on this request."""
    name = fault.kind.name
    if frame.opcode != Opcode.SCSI_COMMAND:
        return True
    if name in _READS:
        return bool(frame.bhs[1] & 0x40)
    if name in _WRITES:
        return bool(frame.bhs[1] & 0x20)
    if name in _OF_UNITS:
        return _lun(frame) in session.node.scsi.units  # type: ignore[attr-defined]
    return True


def _lun(frame: Frame) -> int:
    return int.from_bytes(frame.bhs[8:16], "big")
