# SPDX-License-Identifier: Apache-2.0
"""A submitted SCSI command, and how the engine's ends become results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swd.errors import DeadlineExceeded
from swd.proto import sense
from swd.values import Completion, ScsiResult

if TYPE_CHECKING:
    from swd._fastpath import Command
    from swd.iscsi.session import Session


def result_of(completion: Completion | None, buffer: bytearray | None) -> ScsiResult:
    """The result of an end (None: plainly GOOD). `buffer` is what was read into, if the caller wants it back as
    bytes.
    """
    if completion is None:
        return ScsiResult(0, bytes(buffer) if buffer is not None else b"")
    data = bytes(memoryview(buffer)[: completion.received]) if buffer is not None else b""
    residual = completion.residual if completion.underflow else -completion.residual
    return ScsiResult(completion.status, data, sense.from_response(completion.data), residual, completion.response)


class Task:
    """What `Session.submit` returns. Dropping it cancels it."""

    def __init__(self, session: Session, command: Command, lun: int, buffer: bytearray | None) -> None:
        self._session = session
        self._command = command
        self._buffer = buffer
        self.lun = lun

    @property
    def itt(self) -> int:
        return self._command.itt

    @property
    def ended(self) -> bool:
        """Whether its end has been taken note of here."""
        return self._command.ended

    def result(self, timeout: float | None = None) -> ScsiResult:
        """Waits for the end. TimeoutError after `timeout` seconds leaves the task running; otherwise raises as
        `Session.execute`.
        """
        try:
            return result_of(self._command.wait(timeout), self._buffer)
        except DeadlineExceeded as error:
            self._command.cancel()
            self._session._expired(error, self.lun)
            raise

    def cancel(self) -> None:
        """Nobody wants the result any more; the buffers are free on return. `Session.abort` tells the target as
        well.
        """
        self._command.cancel()
