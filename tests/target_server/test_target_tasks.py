# SPDX-License-Identifier: Apache-2.0
"""Task management over a socket: who loses which tasks, and what cannot be."""

from __future__ import annotations

import random

import pytest
from conftest import NAME, Serve, connected, until
from raw_initiator import RawInitiator, open_write, read_10, write_10

from swd.proto import pdu
from swd.target import TargetServer

DATA = random.Random(7).randbytes(1 << 20)


def manage(raw: RawInitiator, function: int, **fields: int) -> int:
    raw.send(pdu.TaskManagementRequest(function=function, itt=raw.tag(), cmd_sn=raw.cmd_sn, **fields))
    answer = raw.receive().header
    assert isinstance(answer, pdu.TaskManagementResponse)
    return answer.response


def test_an_aborted_write_does_nothing(server: TargetServer) -> None:
    with connected(server) as raw:
        tag, ttt = open_write(raw)
        assert manage(raw, 1, referenced_task_tag=tag, ref_cmd_sn=raw.cmd_sn - 1) == 0
        raw.send(pdu.DataOut(itt=tag, ttt=ttt), b"\xee" * 512)
        assert not any(raw.run(read_10(0, 1), expect=512).data)
        assert manage(raw, 1, referenced_task_tag=tag, ref_cmd_sn=raw.cmd_sn - 2) == 1


def test_aborting_a_command_that_never_came_closes_the_gap(server: TargetServer) -> None:
    with connected(server) as raw:
        gap = raw.cmd_sn
        raw.cmd_sn = gap + 1
        waiting = raw.command(bytes(6))
        raw.send(pdu.TaskManagementRequest(
            function=1, itt=9, immediate=True, cmd_sn=raw.cmd_sn, referenced_task_tag=0x9999, ref_cmd_sn=gap
        ))  # fmt: skip
        answer = raw.receive().header
        assert isinstance(answer, pdu.TaskManagementResponse)
        assert answer.response == 0
        assert raw.finish(waiting).status == 0


@pytest.mark.parametrize(
    ("function", "lun", "response"), [(2, 5, 2), (4, 5, 2), (5, 5, 2), (3, 0, 5), (8, 0, 4), (99, 0, 5)]
)
def test_functions_that_cannot_be(server: TargetServer, function: int, lun: int, response: int) -> None:
    with connected(server) as raw:
        assert manage(raw, function, lun=lun << 48) == response


@pytest.mark.parametrize(
    ("function", "mine", "others", "attention"),
    [
        (2, True, False, None),  # ABORT TASK SET: this nexus only
        (4, True, True, (6, 0x2F, 0)),  # CLEAR TASK SET
        (5, True, True, (6, 0x29, 3)),  # LOGICAL UNIT RESET
        (6, True, True, (6, 0x29, 2)),  # TARGET WARM RESET
    ],
)
def test_who_loses_tasks(
    server: TargetServer, function: int, mine: bool, others: bool, attention: tuple[int, int, int] | None
) -> None:
    with connected(server) as raw, RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as other:
        other.login(NAME)
        other.ready()
        my_tag, my_ttt = open_write(raw)
        tag, ttt = open_write(other)
        assert manage(raw, function) == 0
        raw.send(pdu.DataOut(itt=my_tag, ttt=my_ttt), DATA[:512])
        other.send(pdu.DataOut(itt=tag, ttt=ttt), DATA[:512])
        if others:
            assert other.run(bytes(6)).sense == attention
        else:
            assert other.finish(tag).status == 0
        if function in (5, 6):
            assert raw.run(bytes(6)).sense == attention
        assert raw.run(bytes(6)).status == 0


def test_a_task_tag_in_use_is_rejected(server: TargetServer) -> None:
    with connected(server) as raw:
        tag, ttt = open_write(raw)
        raw.itt = tag - 1
        assert raw.command(bytes(6)) == tag
        answer = raw.receive().header
        assert isinstance(answer, pdu.Reject)
        assert answer.reason == 0x07
        raw.send(pdu.DataOut(itt=tag, ttt=ttt), DATA[:512])
        assert raw.finish(tag).status == 0


def test_a_cold_reset_ends_every_connection(server: TargetServer) -> None:
    with connected(server) as raw, RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as other:
        other.login(NAME)
        assert manage(raw, 7) == 0
        assert raw.closed()
        assert other.closed()
        until(lambda: server.sessions == [])


def test_an_immediate_command_beyond_all_bounds_finds_the_task_set_full(serve: Serve) -> None:
    with connected(serve(queue_depth=2)) as raw:
        for _ in range(5):
            header = pdu.ScsiCommand(
                itt=raw.tag(), cdb=write_10(0, 1).ljust(16, b"\0"), immediate=True, cmd_sn=raw.cmd_sn, write=True,
                expected_data_transfer_length=512,
            )  # fmt: skip
            raw.send(header)
            answer = raw.receive().header
        assert isinstance(answer, pdu.ScsiResponse)
        assert answer.status == 0x28
