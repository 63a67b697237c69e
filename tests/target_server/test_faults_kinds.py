# SPDX-License-Identifier: Apache-2.0
"""Every kind of fault against swd itself: it is injected and counted, a counter of the session tells of it, and swd
either goes on with the right data or ends with the right error, after which the target serves the next session.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from raw_initiator import RawInitiator, read_10

import swd
from swd.errors import ProtocolViolation, SwdError
from swd.proto import pdu
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import KINDS, Fault, Plan

NAME = "iqn.2026-01.org.example:faults"
SIZE, PIECE = 1 << 20, 4096
PATTERN = b"".join(b"%07d " % number for number in range(SIZE // 8))
LIMITS = Limits(max_burst_length=131072, first_burst_length=32768, default_time2wait=0, max_outstanding_r2t=2)
OPTIONS: dict[str, Any] = {
    "header_digest": "crc32c",
    "data_digest": "crc32c",
    "timeout": 10,
    "login_timeout": 2,
    "replacement_timeout": 8,
    "default_time2wait": 0,
}
SOON = {"timeout": 0.4}  # for what is found out by the deadline; a busy machine may take longer for the rest
BROKEN, LATE = errno.EPROTO, errno.ETIMEDOUT


class Case(NamedTuple):
    """`moved`: counters of the session that must rise, all of them; `still`: those that must not. `ends`: the errno, 0
    if swd goes on by itself.
    """

    keys: dict[str, object]
    moved: tuple[str, ...]
    ends: int = 0
    options: Mapping[str, object] = MappingProxyType({})
    still: tuple[str, ...] = ()


ABORTED = ("timeouts", "nop_ins", "task_management")
READ, WRITE = {"command": "READ"}, {"command": "WRITE"}
BY_R2T = {"initial_r2t": True, "immediate_data": False}
CASES: dict[str, Case] = {
    "drop": Case({"pdu": "SCSI_RESPONSE", "nth": 1}, ("fault_stat_sn", "protocol_error", "timeouts"), LATE),
    "delay": Case({"seconds": 0.6, "nth": 2}, ("timeouts", "nop_ins"), LATE),
    "reorder": Case({"pdu": "DATA_IN", "nth": 2}, ("fault_data_sn", "protocol_error"), BROKEN),
    "close": Case({"nth": 2}, ("fault_end_of_stream", "recoveries", "replayed")),
    "reset": Case({"nth": 2}, ("fault_system_error", "recoveries", "replayed")),
    "poison": Case({"lba": 512}, ("recoveries", "replayed"), errno.EIO),
    "duplicate": Case({"pdu": "DATA_IN", "nth": 2}, ("protocol_error",), BROKEN),
    "truncate": Case({"nth": 2}, ("fault_end_of_stream", "recoveries", "replayed")),
    "corrupt_header": Case({"nth": 2}, ("fault_header_digest", "recoveries", "replayed")),
    "corrupt_data": Case({"nth": 2}, ("fault_data_digest", "recoveries", "replayed")),
    "corrupt_header_digest": Case({"nth": 2}, ("fault_header_digest", "recoveries", "replayed")),
    "corrupt_data_digest": Case({"nth": 2}, ("fault_data_digest", "recoveries", "replayed")),
    "wrong_stat_sn": Case({"nth": 2}, ("fault_stat_sn", "protocol_error"), BROKEN),
    "wrong_data_sn": Case({"nth": 2}, ("fault_data_sn", "protocol_error"), BROKEN),
    "wrong_r2t_sn": Case({"nth": 2}, ("fault_r2t_sn", "protocol_error"), BROKEN),
    "wrong_exp_cmd_sn": Case({"nth": 2}, ("windows_ignored",)),
    "wrong_max_cmd_sn": Case({"count": 20}, ("windows_ignored",)),
    "shut_window": Case({"count": 10}, (), still=("windows_shut",)),  # the window is wide: nobody waits
    "wrong_itt": Case({"nth": 2}, ("fault_unknown_tag", "protocol_error"), BROKEN),
    "wrong_ttt": Case({"nth": 1}, ("timeouts", "task_management"), LATE),
    "wrong_offset": Case({"nth": 2}, ("fault_data_offset", "protocol_error"), BROKEN),
    "wrong_residual": Case({"pdu": "DATA_IN", "nth": 1}, ("fault_residual", "protocol_error"), BROKEN),
    "wrong_length": Case({"pdu": "DATA_IN", "nth": 2}, ("recoveries", "replayed")),
    "wrong_field": Case(
        {"pdu": "DATA_IN", "field": "data_sn", "value": 77, "nth": 2}, ("fault_data_sn", "protocol_error"), BROKEN
    ),
    "garbage": Case({"nth": 2}, ("fault_header_digest", "recoveries", "replayed")),
    "r2t_too_long": Case({"nth": 1}, ("fault_r2t_burst", "protocol_error"), BROKEN),
    "r2t_out_of_range": Case({"nth": 1}, ("fault_r2t_range", "protocol_error"), BROKEN),
    "r2t_empty": Case({"nth": 1}, ("fault_r2t_range", "protocol_error"), BROKEN),
    "r2t_too_many": Case({"nth": 1}, ("fault_r2t_too_many", "protocol_error"), BROKEN, BY_R2T),
    "r2t_overlapping": Case({"nth": 1}, ("protocol_error",), BROKEN),
    "wrong_key": Case(
        {"key": "InitialR2T", "value": "Maybe", "connection": "2-", "count": 1}, ("login_fail",), BROKEN
    ),
    "busy": Case({"every": 3, "count": 3}, ("busy",)),
    "task_set_full": Case({"every": 3, "count": 3}, ("busy",)),
    "reservation_conflict": Case({**WRITE, "nth": 1}, ("odd_completions",), errno.EBUSY),
    "status": Case({"code": 0x30, "nth": 2}, ("odd_completions",), errno.EBUSY),
    "check_condition": Case({"sense": "3/11/00", **READ, "nth": 2}, ("odd_completions",), errno.EIO),
    "unit_attention": Case({"asc": 0x2A, "ascq": 0x01, "nth": 2}, ("unit_attention",)),
    "slow": Case({"seconds": 0.8, **READ, "nth": 2}, ABORTED, LATE, still=("recoveries",)),
    "no_answer": Case({**READ, "nth": 2}, ABORTED, LATE, still=("recoveries",)),
    "short_read": Case({**READ, "nth": 2}, ("underflows", "odd_completions"), errno.EIO),
    "ghost": Case({**WRITE, "nth": 1, "seconds": 0.05}, ("recoveries", "replayed")),
    "r2t_on_read": Case({**READ, "nth": 2}, ("fault_r2t_not_wanted", "protocol_error"), BROKEN),
    "async_message": Case({"event": "logout", "nth": 2}, ("async_logout", "recoveries")),
    "reject": Case({"reason": "invalid_field", "nth": 2}, ("reject_09", "protocol_error"), BROKEN),
    "identity_change": Case({"nth": 2}, ("unit_attention",), errno.ESTALE),
    "size_change": Case({"blocks": 1024, "nth": 2}, ("unit_attention",), errno.ESTALE),
}
ELSEWHERE = {  # tests of their own
    *("wrong_data", "lost_write", "task_management_response", "login_status", "redirect", "silence", "stop_reading"),
}


def test_every_kind_has_a_test() -> None:
    assert set(CASES) | ELSEWHERE == set(KINDS)
    assert not set(CASES) & ELSEWHERE


@contextmanager
def serving(queue_depth: int = 128) -> Iterator[TargetServer]:
    config = TargetConfig(NAME, {0: Lun(RamMedium(4 << 20))}, limits=LIMITS, queue_depth=queue_depth)
    with TargetServer([config], faults=Plan()) as server:
        yield server


def opened(server: TargetServer, **options: Any) -> swd.Disk:
    return swd.open(f"iscsi://{server.portal}/{NAME}/0", "r+b", **{**OPTIONS, **options})


def work(disk: swd.Disk) -> None:
    """Writes by R2Ts and without, reads long and short; all of it is compared."""
    disk.pwrite(PATTERN, 0)
    for at in range(0, 8 * PIECE, PIECE):
        disk.pwrite(PATTERN[at : at + PIECE], SIZE + at)
    disk.flush()
    assert disk.pread(SIZE, 0) == PATTERN
    for at in range(0, 8 * PIECE, PIECE):
        assert disk.pread(PIECE, SIZE + at) == PATTERN[at : at + PIECE]


def risen(disk: swd.Disk, before: dict[str, int]) -> set[str]:
    after = disk.unit.session.statistics  # type: ignore[attr-defined]
    return {name for name, count in after.items() if count > before.get(name, 0)}


@pytest.mark.parametrize("name", CASES)
def test_swd_goes_on_or_says_what_is_wrong(name: str) -> None:
    case = CASES[name]
    with serving() as server:
        with closing(opened(server, **(SOON if case.ends == LATE else {}), **case.options)) as disk:
            before = dict(disk.unit.session.statistics)  # type: ignore[attr-defined]
            faults = [Fault(name, **case.keys)]
            if "connection" in case.keys:
                faults.append(Fault("close", nth=1))
            server.set_plan(Plan(faults, seed=7))
            if case.ends:
                with pytest.raises(SwdError) as caught:
                    work(disk)
                assert caught.value.errno == case.ends, caught.value
                settle(disk, case)
            else:
                work(disk)
            rose = risen(disk, before)
            assert set(case.moved) <= rose
            assert not set(case.still) & rose
        assert server.statistics["faults"][name] >= 1
        server.set_plan(Plan())
        if name != "size_change":
            with closing(opened(server)) as disk:
                work(disk)


def settle(disk: swd.Disk, case: Case) -> None:
    """After a deadline, recovery may only be under way: the next call waits for it."""
    if case.ends != LATE:
        return
    try:
        disk.pread(PIECE, 0)
    except SwdError as error:
        number = error.errno
    else:
        number = 0
    assert number in (0, BROKEN)


def test_a_lie_of_the_medium_is_seen_by_who_compares() -> None:
    with serving() as server, closing(opened(server)) as disk:
        server.set_plan(Plan([Fault("wrong_data", command="READ", nth=1)]))
        disk.pwrite(PATTERN[:PIECE], 0)
        lie = disk.pread(PIECE, 0)
        assert [at for at in range(PIECE) if lie[at] != PATTERN[at]] == [0]
        assert disk.pread(PIECE, 0) == PATTERN[:PIECE]
        server.set_plan(Plan([Fault("lost_write", command="WRITE", nth=1)]))
        disk.pwrite(bytes(PIECE), 0)
        assert disk.pread(PIECE, 0) == PATTERN[:PIECE]
        assert server.statistics["faults"] == {"wrong_data": 1, "lost_write": 1}


def test_a_refused_task_management_function_leads_to_the_next_step() -> None:
    """ABORT TASK is refused, LOGICAL UNIT RESET is not: a new connection after that."""
    with serving() as server, closing(opened(server, **SOON)) as disk:
        faults = [Fault("no_answer", command="READ", nth=1), Fault("task_management_response", response=5, nth=1)]
        server.set_plan(Plan(faults))
        before = dict(disk.unit.session.statistics)  # type: ignore[attr-defined]
        with pytest.raises(SwdError) as caught:
            disk.pread(PIECE, 0)
        assert caught.value.errno == LATE
        work(disk)
        assert {"task_management", "recoveries"} <= risen(disk, before)
        assert server.statistics["faults"] == {"no_answer": 1, "task_management_response": 1}


def test_a_disk_that_grows() -> None:
    """It was smaller than its medium from the first command on; nobody can make it larger than that."""
    with serving() as server:
        server.set_plan(Plan([Fault("size_change", blocks=1024, attention=False, nth=1)]))
        with closing(opened(server)) as disk:
            assert disk.size == 1024 * 512
            server.set_plan(Plan([Fault("size_change", blocks=1 << 40, nth=1)]))
            assert disk.pread(PIECE, 0) == bytes(PIECE)
            assert disk.size == 4 << 20
            work(disk)
        assert server.statistics["faults"] == {"size_change": 2}


SENSES = {  # what a plan says, what comes
    "3/11/00": "70 00 03 00 00 00 00 0a 00 00 00 00 11 00 00 00 00 00",
    "F/ff/FF": "70 00 0f 00 00 00 00 0a 00 00 00 00 ff ff 00 00 00 00",
    "72 03 11 00 00 00 00 00": "72 03 11 00 00 00 00 00",  # descriptors
    "f1000400000010 0a 00000000 44 00 00 000000": "f1 00 04 00 00 00 10 0a 00 00 00 00 44 00 00 00 00 00",  # deferred
    "73": "73",
    "7f" * 252: " ".join(["7f"] * 252),
}


@pytest.mark.parametrize("said", SENSES, ids=lambda said: said[:8])
def test_any_sense_data(said: str) -> None:
    """As it is on the wire; swd makes an error of it, whatever it is."""
    with serving() as server, RawInitiator(server.portal) as raw, closing(opened(server)) as disk:
        raw.login(NAME)
        raw.ready()
        server.set_plan(Plan([Fault("check_condition", sense=said, count=2)]))
        raw.command(read_10(0, 1), expect=512)
        answer = raw.receive()
        assert isinstance(answer.header, pdu.ScsiResponse)
        assert answer.header.status == 2
        assert answer.data[2:].hex(" ") == SENSES[said]
        assert int.from_bytes(answer.data[:2], "big") == len(answer.data) - 2
        with pytest.raises(SwdError) as caught:
            disk.pread(PIECE, 0)
        assert caught.value.errno in (errno.EIO, errno.EOPNOTSUPP)
        work(disk)


@pytest.mark.parametrize("function", [1, 2, 5, 6], ids=["abort task", "abort task set", "lun reset", "target reset"])
def test_a_command_that_is_late_can_be_ended_and_is_not_answered_then(function: int) -> None:
    with serving() as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        server.set_plan(Plan([Fault("slow", seconds=0.2, nth=1)]))
        tag = raw.command(read_10(0, 1), expect=512)
        request = pdu.TaskManagementRequest(
            function=function, itt=raw.tag(), referenced_task_tag=tag, ref_cmd_sn=raw.cmd_sn - 1, cmd_sn=raw.cmd_sn
        )
        raw.send(request)
        answer = raw.receive().header
        assert isinstance(answer, pdu.TaskManagementResponse)
        assert answer.response == 0
        raw.sock.settimeout(0.4)
        with pytest.raises(TimeoutError):
            raw.receive()


@pytest.mark.parametrize(
    ("status", "number"),
    [("0201", errno.EACCES), ("0203", errno.ENXIO), ("0204", errno.ENODEV), ("0302", errno.EBUSY)],
)
def test_login_statuses(status: str, number: int) -> None:
    with serving() as server:
        server.set_plan(Plan([Fault("login_status", status=status)]))
        with pytest.raises(SwdError) as caught:
            opened(server, login_timeout=1)
        assert caught.value.errno == number
        assert server.statistics["faults"]["login_status"] >= 1
        assert server.statistics["logins"] == 0


def test_a_redirect_is_followed_and_an_endless_one_is_not() -> None:
    with serving() as there, serving() as here:
        here.set_plan(Plan([Fault("redirect", to=f"{there.portal},1")]))
        with closing(opened(here)) as disk:
            work(disk)
        assert (here.statistics["logins"], there.statistics["logins"]) == (0, 1)
        here.set_plan(Plan([Fault("redirect", to="self", permanent=True)]))
        with pytest.raises(SwdError):
            opened(here)
        assert 2 < here.statistics["faults"]["redirect"] < 20


@pytest.mark.parametrize("by", [-1000, 1000])
def test_a_window_that_contradicts_itself_is_ignored(by: int) -> None:
    with serving() as server, closing(opened(server)) as disk:
        server.set_plan(Plan([Fault("wrong_exp_cmd_sn", by=by), Fault("wrong_max_cmd_sn", by=-by)]))
        work(disk)
        assert server.statistics["faults"]["wrong_max_cmd_sn"] > 20


def test_commands_wait_while_the_window_is_shut() -> None:
    """The window holds four, and is shut as long as the plan lasts; a ping's answer opens it."""
    with serving(queue_depth=4) as server, closing(opened(server, timeout=20)) as disk, ThreadPoolExecutor(1) as pool:
        server.set_plan(Plan([Fault("shut_window")]))
        working = pool.submit(work, disk)
        session, deadline = disk.unit.session, time.monotonic() + 5  # type: ignore[attr-defined]
        while session.statistics["window"] and time.monotonic() < deadline:
            session.ping()
        assert session.statistics["window"] == 0
        assert not working.done()
        while not session.statistics["windows_shut"] and time.monotonic() < deadline:
            session.ping()
        server.set_plan(Plan())
        session.ping()
        working.result()
        assert session.statistics["windows_shut"] == 1


def test_a_link_that_has_gone_quiet_is_replaced() -> None:
    """Both at once, since it takes the deadline and five seconds for a ping."""

    def quiet(kind: str) -> set[str]:
        with serving() as server, closing(opened(server, **SOON)) as disk:
            before = dict(disk.unit.session.statistics)  # type: ignore[attr-defined]
            server.set_plan(Plan([Fault(kind, nth=2)]))
            with pytest.raises(SwdError) as caught:
                work(disk)
            assert caught.value.errno == LATE
            work(disk)
            assert server.statistics["faults"] == {kind: 1}
            return risen(disk, before)

    with ThreadPoolExecutor(2) as pool:
        for moved in pool.map(quiet, ("silence", "stop_reading")):
            assert {"timeouts", "recoveries"} <= moved


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_ghost_comes_after_the_connection_has_died_unless_it_was_laid(stubborn: bool) -> None:
    """It is laid by the reinstatement of its session; a stubborn one is not, and overwrites what came later."""
    old, new = b"o" * PIECE, b"n" * PIECE
    with serving() as server, closing(opened(server)) as disk:
        server.set_plan(Plan([Fault("ghost", command="WRITE", nth=1, seconds=0.5, stubborn=stubborn)]))
        disk.pwrite(old, 0)  # which dies, and is written again
        disk.pwrite(new, 0)
        deadline = time.monotonic() + 5
        while (found := disk.pread(PIECE, 0)) == new and time.monotonic() < deadline - 4 * (not stubborn):
            pass
        assert found == (old if stubborn else new)
        assert server.statistics["reinstatements"] + server.statistics["logins"] >= 2


def test_discovery_can_be_spoilt_too() -> None:
    with serving() as server:
        server.set_plan(
            Plan([Fault("wrong_key", pdu="TEXT_RESPONSE", state="discovery", key="TargetAddress", value="nowhere:-1")])
        )
        with pytest.raises(SwdError) as caught:
            swd.discover(str(server.portal))
        assert caught.value.errno == BROKEN
        assert server.statistics["faults"] == {"wrong_key": 1}


def test_a_silent_login_ends_by_its_deadline() -> None:
    with serving() as server:
        server.set_plan(Plan([Fault("silence", pdu="LOGIN_REQUEST")]))
        began = time.monotonic()
        with pytest.raises(SwdError) as caught:
            opened(server, login_timeout=0.3)
        assert caught.value.errno == errno.ENXIO
        assert time.monotonic() - began < 3


def test_a_target_without_a_plan_takes_one_from_the_next_connection_on() -> None:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(4 << 20))}, limits=LIMITS)]) as server:
        with closing(opened(server)) as disk:
            server.set_plan(Plan([Fault("reservation_conflict", command="READ", once=True)]))
            work(disk)
        with closing(opened(server)) as disk, pytest.raises(SwdError):
            work(disk)
        assert server.statistics["faults"] == {"reservation_conflict": 1}


def test_no_bytes_of_an_initiator_upset_a_target_under_a_plan() -> None:
    """Random headers, of all opcodes and of none, in login and after it; the next session is served all the same."""
    dice = random.Random(7)
    every = [Fault("delay", pdu="NOP_IN", seconds=0.001), Fault("busy", command="READ", lba="0-", chance=0.5)]
    with serving() as server:
        for number in range(80):
            server.set_plan(Plan(every, seed=number))
            with RawInitiator(server.portal) as raw:
                if number % 2:
                    raw.login(NAME)
                header = bytearray(dice.randbytes(48))
                header[0] = dice.choice([*range(0x20), 0x3E, header[0]]) | dice.choice((0, 0x40))
                header[4], header[5:8] = 0, bytes([0, 0, dice.choice((0, 4, 48))])
                raw.sock.sendall(bytes(header) + dice.randbytes(header[7]))
                raw.sock.settimeout(0.01)
                with suppress(OSError, EOFError, ProtocolViolation, ValueError):
                    raw.receive()
        server.set_plan(Plan())
        with closing(opened(server)) as disk:
            work(disk)
