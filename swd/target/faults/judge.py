# SPDX-License-Identifier: Apache-2.0
"""One connection as a plan sees it: what each PDU is, whose command it belongs to, and what becomes of what goes out.

No socket and no clock. The target's connection uses it, and so could a relay before any other target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from swd.proto import serial
from swd.proto.pdu import Opcode, Pdu
from swd.target.faults.answers import ACTIONS, FITS, Context
from swd.target.faults.conditions import Event, blocks_of_command
from swd.target.faults.injector import Injector
from swd.target.faults.plan import Fault
from swd.target.faults.sending import Sending
from swd.target.media import Buffer

_REMEMBERED = 4096  # open commands
_NO_TASK = frozenset({"NOP_OUT", "NOP_IN", "ASYNC_MESSAGE", "REJECT", "LOGIN_REQUEST", "LOGIN_RESPONSE"})
_NO_LUN = frozenset({Opcode.LOGIN_REQUEST, Opcode.LOGOUT_REQUEST})


class _Command(NamedTuple):
    """An open command, for the conditions of the PDUs that belong to it."""

    lun: int
    opcode: int
    blocks: tuple[int, int] | None
    expected: int


class Judge:
    """`number` counts connections from 1. `state` says login, discovery or full_feature; `deaf` carries out a fault
    that is none of the PDU's own (stop_reading).
    """

    def __init__(self, injector: Injector, state: Callable[[], str], deaf: Callable[[Fault], None]) -> None:
        self.injector = injector
        self.number = injector.connected()
        self._state = state
        self._deaf = deaf
        self._commands: dict[int, _Command] = {}
        self._max_cmd_sn: int | None = None  # the highest that the initiator was told

    def came(self, bhs: bytes) -> Event:
        """A PDU that came, by its header."""
        opcode, itt = bhs[0] & 0x3F, int.from_bytes(bhs[16:20], "big")
        if opcode == Opcode.SCSI_COMMAND:
            self._begin(bhs, itt)
        try:
            name = Opcode(opcode).name
        except ValueError:
            name = "OTHER"
        return self._event(name, itt, None if opcode in _NO_LUN else int.from_bytes(bhs[8:16], "big"))

    def judged(self, pdu: Pdu, data: Buffer, context: Callable[[int, int | None], Context]) -> Sending:
        """What the plan makes of a PDU that is about to be sent. `context` takes the command's
        ExpectedDataTransferLength, and MaxCmdSN as the initiator knows it.
        """
        itt = getattr(pdu, "itt", 0)
        command = self._commands.get(itt)
        known = context(0 if command is None else command.expected, self._max_cmd_sn)
        sending, event = Sending(pdu, bytes(data)), self._event(pdu.opcode.name, itt, getattr(pdu, "lun", None))

        def fits(fault: Fault) -> bool:
            test = FITS.get(fault.kind.name)
            return test is None or test(pdu, sending.data, known, fault.settings)

        for fault in (*self.injector.due("wire", event), *self.injector.due("answer", event, fits)):
            action = ACTIONS.get(fault.kind.name)
            if action is None:
                self._deaf(fault)
            else:
                action(sending, fault.settings, known)
            self.injector.injected(fault)
        self._remember(sending.pdu)
        if pdu.opcode == Opcode.SCSI_RESPONSE or getattr(pdu, "status_present", False):
            self._commands.pop(itt, None)
        return sending

    def _begin(self, bhs: bytes, itt: int) -> None:
        lun, expected = int.from_bytes(bhs[8:16], "big"), int.from_bytes(bhs[20:24], "big")
        self._commands[itt] = _Command(lun, bhs[32], blocks_of_command(bhs[32:48]), expected)
        if len(self._commands) > _REMEMBERED:  # those that were aborted are never answered
            del self._commands[next(iter(self._commands))]

    def _event(self, name: str, itt: int, lun: int | None) -> Event:
        state = "login" if name.startswith("LOGIN_") else self._state()
        command = None if name in _NO_TASK else self._commands.get(itt)
        if command is None:
            return Event(name, state, self.number, lun)
        return Event(name, state, self.number, command.lun, command.opcode, command.blocks)

    def _remember(self, pdu: Pdu) -> None:
        told = getattr(pdu, "max_cmd_sn", None)
        if told is not None and (self._max_cmd_sn is None or serial.lt(self._max_cmd_sn, told)):
            self._max_cmd_sn = told
