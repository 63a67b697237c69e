# SPDX-License-Identifier: Apache-2.0
"""A session with a target: one I_T nexus, one connection, recovery level 0.

`Session` makes single attempts: it sends a command, waits within its deadline and reports how it ended; retries and the
meaning of sense data belong to `swd.scsi`. Any number of threads may share one session. When a deadline passes, the
task is aborted; if the target does not confirm that, the session is closed, for nothing may be left half alive.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from swd import messages
from swd._engine import FAULT_NAMES
from swd._straight import Straight
from swd.errors import ConnectionLost, DeadlineExceeded, InvalidArgument, ProtocolViolation, SwdError, Unsupported
from swd.iscsi import keeper
from swd.iscsi.connection import Link, establish, pump_for
from swd.iscsi.keepalive import Keepalive
from swd.iscsi.loopqueue import LoopQueue
from swd.iscsi.reinstate import Reinstatement
from swd.iscsi.states import States
from swd.iscsi.tally import LATENCIES, PROCESS, RETIRED, Histogram, Tally
from swd.iscsi.task import Task, result_of
from swd.iscsi.textual import exchange
from swd.iscsi.trace import Recorder, Tap, Trace, current
from swd.iscsi.transport import Deadline
from swd.proto import fsm, pdu
from swd.proto import lun as luns
from swd.proto.login import LoginConfig
from swd.proto.options import Options
from swd.proto.pdu import Opcode
from swd.proto.recovery import Path
from swd.values import RESERVED_TAG, Chap, Completion, Event, Negotiated, Portal, ScsiResult

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

_log = logging.getLogger(__name__)

S = TypeVar("S", bound="Session")

ABORT_TIMEOUT = 5.0  # seconds that an ABORT TASK may take before the session is given up
LOGOUT_TIMEOUT = 5.0
GAUGES = frozenset({"open_tasks", "window"})  # of the statistics: what is now, not a count
EXIT_TIMEOUT = 0.5  # at interpreter exit, or where commands are open

# Task management functions (RFC 7143 11.5.1) and the answers that mean "it is gone" (11.6.1).
ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, TARGET_WARM_RESET, TARGET_COLD_RESET = 1, 2, 4, 5, 6, 7
FUNCTION_COMPLETE, TASK_DOES_NOT_EXIST = 0, 1
_TMF_WORDS = {
    2: "the logical unit does not exist",
    3: "the task is still allegiant to another connection",
    4: "task allegiance reassignment is not supported",
    5: "the function is not supported",
    6: "not authorized",
    255: "the target rejected it",
}

# Asynchronous events (RFC 7143 11.9.1).
_ASYNC_SCSI, _ASYNC_LOGOUT, _ASYNC_DROP_CONNECTION, _ASYNC_DROP_ALL, _ASYNC_NEGOTIATE, _ASYNC_VENDOR = (
    0,
    1,
    2,
    3,
    4,
    255,
)

_ASYNC = {
    _ASYNC_SCSI: ("async_scsi", "SCSI event"),
    _ASYNC_LOGOUT: ("async_logout", "it asks for a logout"),
    _ASYNC_DROP_CONNECTION: ("async_drop_connection", "it drops the connection"),
    _ASYNC_DROP_ALL: ("async_drop_session", "it drops all connections"),
    _ASYNC_NEGOTIATE: ("async_renegotiate", "it asks for a negotiation"),
    _ASYNC_VENDOR: ("async_vendor", "vendor's own"),
}

_REJECTED = {  # RFC 7143 11.17.1
    0x02: "data digest error",
    0x03: "SNACK",
    0x04: "protocol error",
    0x05: "command not supported",
    0x06: "too many immediate commands",
    0x07: "task in progress",
    0x08: "invalid data acknowledgement",
    0x09: "invalid PDU field",
    0x0A: "out of resources",
    0x0B: "negotiation reset",
    0x0C: "waiting for logout",
}


class Session:
    """Connects and logs in; a context manager that logs out.

    `target_name` None makes a discovery session (RFC 7143 4.3), which takes only `text`, `ping` and `logout`.
    Raises NoSuchDevice, LoginRefused, AuthenticationFailed or ProtocolViolation.
    """

    def __init__(
        self, portal: Portal, target_name: str | None, *, chap: Chap | None, options: Options, initiator_name: str
    ) -> None:
        self.options = options
        self.portal = portal
        self._config = LoginConfig(
            initiator_name=initiator_name,
            target_name=target_name,
            isid=options.isid or random_isid(),
            options=options,
            chap=chap,
        )
        self.tally = Tally(PROCESS)
        self.opened = time.time()
        self._process = os.getpid()
        self._recorder: Recorder | None = None
        self._told_of_violation = False
        self._states = States(self.tally)
        link = establish(portal, self._config, self.tally, self._states)
        self._adopt(link)
        comes_back = target_name is not None and options.replacement_timeout > 0
        self._pump = pump_for(link, options, on_event=self._on_event, on_down=self._on_down if comes_back else None)
        trace = current()
        if trace is not None and link.tap is not None:
            self._recorder = Recorder(trace, self._pump, link.tap)
        self._recovery = Reinstatement(
            portal,
            self._config,
            self._pump,
            verify=self._verify_units,
            fence=self._fence_units,
            standby=self._standby_paths,
            adopt=self._adopt,
            tally=self.tally,
            states=self._states,
        )
        self._keepalive = Keepalive(self._pump)
        self._closed = False
        self._ladder = threading.Lock()  # one overdue command at a time is seen to; held over its waits
        self.tally.add("session_open")
        keeper.keep(self)

    def _adopt(self, link: Link) -> None:
        """What is true of the connection in use: after a redirect its portal is not the configured one."""
        self.portal = link.portal
        self.parameters: Negotiated = link.negotiated
        if self._recorder is not None:
            self._recorder.next_connection(link.tap)

    def _on_down(self) -> None:
        self.tally.add("conn_close")
        self._states.lost()
        messages.say(_log, "SWD_LOG_CONNECTION_LOST", portal=self.portal, why=self._pump.fault)
        self._recovery.begin(self.parameters)

    def _verify_units(self) -> None:
        """Called on a new connection before anything else is sent: bars the units that are not what they were.

        This rank knows no units; the driver's session does.
        """

    def _fence_units(self) -> None:
        """Called when the session goes on on another nexus, after `_verify_units`: ends the tasks of the old one."""

    def _standby_paths(self) -> Sequence[Path]:
        """The other ways to all units in use."""
        return ()

    def _bar(self, units: dict[int, SwdError]) -> None:
        """Sends nothing to these units any more: SAM field -> the error that their commands get."""
        self._pump.bar(units)

    # ---- SCSI ---------------------------------------------------------------------------------------------------

    def execute(
        self,
        cdb: bytes,
        *,
        lun: int,
        data_out: Buffer | None = None,
        data_in: int = 0,
        timeout: float | None = None,
        ahead: bool = False,
    ) -> ScsiResult:
        """One SCSI command, one attempt. `data_in` is the most bytes to read; `timeout` in seconds (None: the
        session's).

        Raises ConnectionLost, DeadlineExceeded, ProtocolViolation, DigestMismatch or BadDescriptor.
        """
        field = luns.field(lun)
        buffer = bytearray(data_in) if data_in else None
        with self._deadlines(field):
            completion = self._pump.command(
                field, cdb, data_out or None, buffer, self._timeout(timeout, cdb), ahead=ahead
            )
        return result_of(completion, buffer)

    def submit(
        self,
        cdb: bytes,
        *,
        lun: int,
        data_out: Buffer | None = None,
        data_in: int = 0,
        timeout: float | None = None,
    ) -> Task:
        """As `execute`, without waiting. `data_out` must not change until the task has ended."""
        field = luns.field(lun)
        buffer = bytearray(data_in) if data_in else None
        return Task(
            self, self._pump.submit(field, cdb, data_out or None, buffer, self._timeout(timeout, cdb)), field, buffer
        )

    def read_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Buffer, timeout: float | None = None
    ) -> ScsiResult | None:
        """READ into a writable buffer of exactly that many blocks. None: GOOD and complete. Raises as `execute`.

        After any other end the buffer's content is undefined.
        """
        return self._blocks(False, lun, lba, blocks, buffer, timeout)

    def write_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Buffer, timeout: float | None = None
    ) -> ScsiResult | None:
        """WRITE from a buffer of exactly that many blocks. None: GOOD and complete. Raises as `execute`."""
        return self._blocks(True, lun, lba, blocks, buffer, timeout)

    def _blocks(
        self, write: bool, lun: int, lba: int, blocks: int, buffer: Buffer, timeout: float | None
    ) -> ScsiResult | None:
        field = luns.field(lun)
        try:
            completion = self._pump.blocks(write, field, lba, blocks, buffer, self._timeout(timeout))
        except DeadlineExceeded as error:
            self._expired(error, field)
            raise
        except ProtocolViolation as error:
            self._violated(error)
            raise
        return None if completion is None else result_of(completion, None)

    def batch(
        self,
        write: bool,
        lun: int,
        lbas: Buffer,
        blocks: int,
        buffer: Buffer,
        *,
        queue_depth: int = 32,
        timeout: float | None = None,
    ) -> list[tuple[int, ScsiResult | SwdError]]:
        """Many READs or WRITEs of `blocks` blocks each, `queue_depth` open at once, without Python in between.

        `lbas`: a C-contiguous int64 buffer of n starting blocks; I/O i uses the i-th n-th of `buffer`. Returns (i,
        result) of those that did not end plainly GOOD. Raises as `execute`, when no byte of `buffer` is in use any
        more.
        """
        field = luns.field(lun)
        with self._deadlines(field):
            odd = self._pump.batch(
                write, field, lbas, blocks, buffer, queue_depth=queue_depth, timeout=self._timeout(timeout)
            )
        return [(index, end if isinstance(end, SwdError) else result_of(end, None)) for index, end in odd]

    def straight(self, lun: int, timeout: float | None = None) -> Straight:
        """The compiled way of a unit's reads."""
        field = luns.field(lun)

        def ended_badly(error: SwdError) -> None:
            if isinstance(error, DeadlineExceeded):
                self._expired(error, field)
            elif isinstance(error, ProtocolViolation):
                self._violated(error)

        return Straight(self._pump, field, self._timeout(timeout), ended_badly, _odd_result)

    def loop_queue(self, loop: asyncio.AbstractEventLoop) -> LoopQueue:
        """The session's I/O as futures of a running event loop; made and used in its thread, closed by its owner."""
        return LoopQueue(self._pump, loop, self._expired)

    # ---- deadlines and task management --------------------------------------------------------------------------

    def _timeout(self, timeout: float | None, cdb: bytes = b"") -> float:
        return self.options.timeout * self._patience(cdb) if timeout is None else timeout

    def _patience(self, _cdb: bytes) -> int:
        """How many times the deadline of an ordinary command this one has. This rank knows no commands."""
        return 1

    @contextlib.contextmanager
    def _deadlines(self, field: int) -> Iterator[None]:
        try:
            yield
        except DeadlineExceeded as error:
            self._expired(error, field)
            raise
        except ProtocolViolation as error:
            self._violated(error)
            raise

    def _violated(self, error: ProtocolViolation) -> None:
        """The session has ended by a protocol error: says so, once, and what came before it."""
        if self._told_of_violation or self._pump.alive:
            return
        self._told_of_violation = True
        self.tally.add("protocol_error")
        messages.say(_log, "SWD_LOG_PROTOCOL_ERROR", portal=self.portal, why=error)
        self._keep_headers()

    def _keep_headers(self) -> None:
        """What is done with the last headers after a protocol error; this rank has no place for files."""

    def _expired(self, error: DeadlineExceeded, field: int) -> None:
        """A command got no answer in time: climb the ladder until it is certain that it is dead. The caller raises
        `error`.

        A ping tells a dead connection from a dead task. Then: ABORT TASK; LOGICAL UNIT RESET; a new connection, which
        ends all tasks of the old one and sends those of other callers again. One caller climbs at a time, and only
        while the connection is the one on which the command was sent: another one has ended it already, and a reset
        there would take the tasks of those who were sent again.
        """
        messages.say(_log, "SWD_LOG_COMMAND_TIMEOUT", portal=self.portal, why=error)
        if not error.tags:
            return
        with self._ladder:
            walk = fsm.Walk(fsm.LADDER)
            while walk.state not in fsm.LADDER.ends:
                if not self._is_on(error.epoch):
                    walk.step("overtaken")
                else:
                    walk.step("confirmed" if self._rung(walk.state, error, field) else "not confirmed")
            if walk.state == fsm.CUT:
                reason = f"{self.portal}: a command got no answer and could not be aborted: the connection is closed"
                self._pump.cut(ConnectionLost(reason), error.epoch)

    def _rung(self, state: str, error: DeadlineExceeded, field: int) -> bool:
        """Does what is to be done in this state of the ladder, and says whether the target confirmed it."""
        if state == fsm.PINGING:
            return self._pings()
        if state == fsm.ABORTING:
            return all(self._is_on(error.epoch) and self._abort_task(field, itt) for itt in error.tags)
        return self._aborts(LUN_RESET, field)

    def _is_on(self, epoch: int) -> bool:
        """Whether that connection of this session's is still the one in use."""
        return self._pump.epoch == epoch and not self._pump.down and self._pump.alive

    def _abort_task(self, field: int, itt: int) -> bool:
        gone = self._aborts(ABORT_TASK, field, itt)
        if gone:
            self._pump.forget(itt)
        return gone

    def _pings(self) -> bool:
        try:
            self.ping(timeout=ABORT_TIMEOUT)
        except SwdError:
            return False
        return True

    def _aborts(self, function: int, field: int, itt: int = RESERVED_TAG) -> bool:
        try:
            answer = self._task_management(function, field, itt=itt, timeout=ABORT_TIMEOUT)
        except SwdError:
            return False
        return answer in (FUNCTION_COMPLETE, TASK_DOES_NOT_EXIST)

    def _task_management(
        self, function: int, field: int = 0, *, itt: int = RESERVED_TAG, timeout: float | None = None
    ) -> int:
        """One task management function; returns its response code (RFC 7143 11.6.1)."""
        self.tally.add("task_management")
        request = pdu.TaskManagementRequest(
            function=function, lun=field, itt=0, referenced_task_tag=itt, ref_cmd_sn=self._pump.cmd_sn_of(itt)
        )
        answer = self._pump.control(
            request.pack(), answer=Opcode.TASK_MANAGEMENT_RESPONSE, timeout=self._timeout(timeout)
        )
        return pdu.TaskManagementResponse.unpack(answer.bhs).response

    def _demand(self, function: int, words: str, field: int = 0) -> None:
        response = self._task_management(function, field)
        if response != FUNCTION_COMPLETE:
            raise Unsupported(f"{words} failed: {_TMF_WORDS.get(response, f'response {response}')}")

    def abort(self, task: Task) -> None:
        """ABORT TASK for a submitted task; its buffer is free on return. A task that has ended is left alone."""
        if task.ended:
            return
        error = DeadlineExceeded("aborted")
        error.tags = (task.itt,)
        error.epoch = self._pump.epoch
        task.cancel()
        self._expired(error, task.lun)

    def abort_task_set(self, lun: int) -> None:
        """Ends all tasks of this session on the unit (RFC 7143 11.5.1); they get no other answer."""
        self._demand(ABORT_TASK_SET, "ABORT TASK SET", luns.field(lun))

    def clear_task_set(self, lun: int) -> None:
        """Ends the tasks of all sessions on the unit."""
        self._demand(CLEAR_TASK_SET, "CLEAR TASK SET", luns.field(lun))

    def lun_reset(self, lun: int) -> None:
        self._demand(LUN_RESET, "LOGICAL UNIT RESET", luns.field(lun))

    def target_warm_reset(self) -> None:
        self._demand(TARGET_WARM_RESET, "TARGET WARM RESET")

    def target_cold_reset(self) -> None:
        """The target drops all sessions after this one's answer, or instead of it."""
        self._demand(TARGET_COLD_RESET, "TARGET COLD RESET")

    def add_connection(self) -> None:
        raise Unsupported("a session has one connection: several (MC/S) are not built yet")

    # ---- iSCSI's own --------------------------------------------------------------------------------------------

    def ping(self, data: bytes = b"", *, timeout: float | None = None) -> bytes:
        """NOP-Out with up to MaxRecvDataSegmentLength bytes; returns them as the target sent them back (RFC 7143
        11.18).
        """
        limit = min(self.parameters.target_max_recv_data_segment_length, self.parameters.max_recv_data_segment_length)
        if len(data) > limit:
            raise InvalidArgument(f"a ping to this target carries at most {limit} bytes")
        request = pdu.NopOut(immediate=True, itt=0)
        answer = self._pump.control(request.pack(), bytes(data), answer=Opcode.NOP_IN, timeout=self._timeout(timeout))
        if answer.data != data:
            error = ProtocolViolation("the answer to a ping does not carry what was sent", clause="11.19")
            self._pump.fail(error)
            self._violated(error)
            raise error
        return answer.data

    def text(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        """A text negotiation (RFC 7143 11.10): sends the keys, returns the answer's pairs in their order."""
        try:
            return exchange(
                self._pump, keys, self.parameters.target_max_recv_data_segment_length, Deadline(self.options.timeout)
            )
        except ProtocolViolation as error:
            self._pump.fail(error)
            self._violated(error)
            raise

    # ---- the end ------------------------------------------------------------------------------------------------

    def logout(self, timeout: float | None = None) -> None:
        """Logs out (RFC 7143 11.14) and closes; a target that does not answer within `timeout` seconds (None: five) is
        closed on all the same.
        """
        try:
            self._log_out(pdu.LogoutRequest(itt=0, reason=0), LOGOUT_TIMEOUT if timeout is None else timeout)
        except SwdError as error:
            self.tally.add("logout_wait_fail")
            messages.say(_log, "SWD_LOG_LOGOUT_FAILED", portal=self.portal, why=error)
        finally:
            self._shut()

    def _log_out(self, request: pdu.LogoutRequest, timeout: float) -> None:
        """One Logout on the connection in use, answered within `timeout` seconds."""
        self._states.leaving()
        answer = self._pump.control(request.pack(), answer=Opcode.LOGOUT_RESPONSE, timeout=timeout)
        response = pdu.LogoutResponse.unpack(answer.bhs).response
        if response:
            raise Unsupported(f"the target does not log out: response {response} (RFC 7143 11.15.1)")
        self._states.left()

    def close(self, force: bool = False) -> None:
        """Logs out if the link is alive and not `force`, and closes. Threads that wait on this session get
        BadDescriptor.
        """
        if self._closed:
            return
        if force or self._pump.down or not self._pump.alive:
            self._shut()
        else:
            self.logout(EXIT_TIMEOUT if self._is_left_in_a_hurry() else None)

    def _is_left_in_a_hurry(self) -> bool:
        """Whether a command is still open, left by Ctrl-C or cut off, or a signal is what ends the work: a silent
        target may be the reason, and will not answer a logout either.
        """
        leaving = sys.exc_info()[1]
        signalled = leaving is not None and not isinstance(leaving, Exception)
        return signalled or self._pump.statistics()["open_tasks"] > 0

    def _shut(self) -> None:
        first, self._closed = not self._closed, True
        keeper.forget(self)
        self._recovery.stop()
        down = self._pump.down
        self._pump.close()
        if first and self._process == os.getpid():  # a forked child touches no lock: the parent may have held it
            self.trace(None)
            self._states.ended()
            self._retire(down)

    def _retire(self, down: bool) -> None:
        """The counts of a closed session go to the process's."""
        self.tally.add("session_close")
        if not down:
            self.tally.add("conn_close")
        RETIRED.add_all({name: count for name, count in self._counted().items() if name not in GAUGES})
        LATENCIES.add_all(self.parameters.target_name, self._pump.latencies())

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After Ctrl-C nobody wants to wait for an answer.
        self.close(force=kind is not None and not issubclass(kind, Exception))

    def __repr__(self) -> str:
        if not hasattr(self, "_pump"):  # in a traceback of its own login
            return f"<Session at {self.portal}, not logged in>"
        state = "alive" if self.alive else "closed" if self._closed else "dead"
        return f"<Session {self.parameters.target_name or 'discovery'} at {self.portal}, {state}>"

    # ---- what others ask ----------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._pump.alive

    @property
    def statistics(self) -> dict[str, int]:
        """Counters since login: PDUs, bytes and system calls each way, commands, R2Ts, odd ends, open tasks, window;
        faults by name, and the session's own events.
        """
        return self._counted() | self.tally.counts()

    @property
    def states(self) -> dict[str, object]:
        """Where it stands in the tables of docs/states.md: `session`, `connection`, `recovery`, and the last `labels`
        of RFC 7143, oldest first.
        """
        if not self._pump.alive:
            self._states.ended()
        return self._states.record()

    def _counted(self) -> dict[str, int]:
        """What is counted in C, and what recovery counts."""
        faults = {f"fault_{FAULT_NAMES[code]}": count for code, count in self._pump.faults().items()}
        return self._pump.statistics() | faults | {"recoveries": self._recovery.count}

    def latencies(self) -> dict[tuple[int | None, str], Histogram]:
        """(SAM field or None: further units, "none", "read" or "write") -> (count, sum in us, 32 log2 buckets)."""
        return self._pump.latencies()

    def last_headers(self) -> list[tuple[str, float, bytes]]:
        """The last 64 PDU headers, oldest first: ("in" or "out", monotonic seconds, 48 bytes)."""
        return self._pump.last_headers()

    def trace(self, trace: Trace | None) -> None:
        """For `iscsi.trace`: from now on into that trace, or no longer."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.end()
        if trace is not None and self._pump.alive:
            with socket.socket(fileno=os.dup(self._pump.fileno())) as sock:
                self._recorder = Recorder(trace, self._pump, Tap(trace, sock))

    def look_in(self) -> None:
        """For the keeper: answers what came while nobody waited, and pings a link on which nothing comes."""
        try:
            self._pump.service()
        except ProtocolViolation as error:
            self._violated(error)
            raise
        if self._keepalive.is_dead():
            self.tally.add("ping_unanswered")
            messages.say(_log, "SWD_LOG_PING_UNANSWERED", portal=self.portal)
            self._pump.cut(
                ConnectionLost(f"{self.portal}: no answer to a ping: the connection is dead"), self._pump.epoch
            )

    def close_at_exit(self) -> None:
        busy = self._pump.alive and self._pump.statistics()["open_tasks"] > 0
        if busy or self._pump.down or not self._pump.alive:
            self._shut()
        else:
            self.logout(EXIT_TIMEOUT)

    def _answer_logout_request(self) -> None:
        """The target asks us to go (RFC 7143 11.9.1): close the connection properly, then come back as after a loss."""
        epoch = self._pump.epoch
        self._states.asked_to_leave()
        with contextlib.suppress(SwdError):
            self._log_out(pdu.LogoutRequest(itt=0, reason=1), LOGOUT_TIMEOUT)
        self._pump.cut(ConnectionLost(f"{self.portal} asked for a logout"), epoch)

    def _on_event(self, event: Event) -> None:
        if event.opcode == Opcode.REJECT:
            reason = pdu.Reject.unpack(event.bhs).reason
            words = _REJECTED.get(reason, f"reason 0x{reason:02x}")
            self.tally.add(f"reject_{reason:02x}" if reason in _REJECTED else "reject_other")
            messages.say(_log, "SWD_LOG_REJECT", portal=self.portal, why=words)
            error = ProtocolViolation(f"{self.portal} rejected a PDU of ours: {words} (RFC 7143 11.17)", clause="11.17")
            self._pump.fail(error)
            self._violated(error)
            return
        message = pdu.AsyncMessage.unpack(event.bhs)
        name, what = _ASYNC.get(message.async_event, ("async_other", f"event {message.async_event}"))
        self.tally.add(name)
        messages.say(_log, "SWD_LOG_ASYNC", portal=self.portal, what=what)
        if message.async_event == _ASYNC_LOGOUT:
            self._answer_logout_request()
        elif message.async_event in (_ASYNC_DROP_CONNECTION, _ASYNC_DROP_ALL):
            self._pump.cut(ConnectionLost(f"{self.portal} announced that it drops the connection"), self._pump.epoch)


def _odd_result(completion: Completion) -> ScsiResult:
    return result_of(completion, None)


def random_isid() -> bytes:
    """A random ISID (RFC 7143 11.12.5, type 10b), so that two processes never reinstate each other's sessions."""
    return bytes([0x80]) + os.urandom(5)
