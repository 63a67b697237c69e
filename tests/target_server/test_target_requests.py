# SPDX-License-Identifier: Apache-2.0
"""Requests over a socket: their numbers and the window, pings, text, logout, and what is rejected."""

from __future__ import annotations

import random

import pytest
from conftest import NAME, Serve, connected, until
from raw_initiator import RawInitiator, pairs_of, read_10, send_text, write_10

from swd.proto import pdu
from swd.target import TargetConfig, TargetServer
from swd.values import RESERVED_TAG

DATA = random.Random(7).randbytes(1 << 20)


def test_commands_outside_the_window_are_ignored(server: TargetServer) -> None:
    with connected(server) as raw:
        right = raw.cmd_sn
        for wrong in (right + 4096, right - 1):
            raw.cmd_sn = wrong & 0xFFFFFFFF
            raw.command(bytes(6))
        raw.cmd_sn = right
        assert raw.run(bytes(6)).status == 0


def test_a_gap_is_waited_for(server: TargetServer) -> None:
    with connected(server) as raw:
        base = raw.cmd_sn
        raw.cmd_sn = base + 1
        second = raw.command(read_10(0, 1), expect=512)
        raw.cmd_sn = base
        first = raw.command(write_10(0, 1), expect=512, immediate_data=DATA[:512])
        raw.cmd_sn = base + 2
        assert raw.finish(first).status == 0
        assert raw.finish(second).data == DATA[:512]


def test_a_first_burst_is_held_for_a_gap_and_no_more(server: TargetServer) -> None:
    """The rest of a command whose number is not due: as much as was agreed on is kept, and more ends the connection."""
    with connected(server) as raw:
        raw.cmd_sn += 1
        tag = raw.command(write_10(0, 128), expect=65536, immediate_data=DATA[:512], final=False, write=True)
        for number in range(127):
            at = 512 * (number + 1)
            raw.send(pdu.DataOut(itt=tag, final=number == 126, data_sn=number, buffer_offset=at), DATA[at : at + 512])
        raw.send(pdu.NopOut(itt=1, immediate=True, cmd_sn=raw.cmd_sn))
        assert isinstance(raw.receive().header, pdu.NopIn)
        raw.cmd_sn -= 2
        assert raw.finish(raw.command(bytes(6))).status == 0  # the number that was missing
        assert raw.finish(tag).status == 0
        raw.cmd_sn += 1
        assert raw.run(read_10(0, 128), expect=65536).data == DATA[:65536]
        raw.cmd_sn += 1
        tag = raw.command(write_10(0, 8), expect=4096, final=False, write=True)
        raw.send(pdu.DataOut(itt=tag, final=False), DATA[:65536])
        raw.send(pdu.DataOut(itt=tag, final=False, data_sn=1, buffer_offset=65536), DATA[:4])
        assert raw.closed()
    until(lambda: server.statistics["protocol_errors"] == 1)
    with RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as raw:  # it was of that connection only
        assert raw.login(NAME).status_class == 0


def test_stat_sn_counts_answers_with_status(server: TargetServer) -> None:
    with connected(server) as raw:
        numbers = [raw.run(bytes(6)).pdus[-1].header.stat_sn for _ in range(3)]  # type: ignore[attr-defined]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_the_window_shrinks_with_open_writes(serve: Serve) -> None:
    with connected(serve(queue_depth=4)) as raw:
        seen = []
        for _ in range(3):
            raw.command(write_10(0, 1), data=DATA[:512])
            header = raw.receive().header
            assert isinstance(header, pdu.R2T)
            seen.append(header.max_cmd_sn - header.exp_cmd_sn + 1)
        assert seen == [3, 2, 1]


@pytest.mark.parametrize("data", [b"", b"ping", b"x" * 4097])
def test_ping(server: TargetServer, data: bytes) -> None:
    with connected(server) as raw:
        raw.send(pdu.NopOut(itt=77, immediate=True, cmd_sn=raw.cmd_sn), data)
        answer = raw.receive()
        assert isinstance(answer.header, pdu.NopIn)
        assert (answer.header.itt, answer.header.ttt, answer.data) == (77, RESERVED_TAG, data)
        raw.send(pdu.NopOut(immediate=True, cmd_sn=raw.cmd_sn))  # no tag: no answer
        assert raw.run(bytes(6)).status == 0


def test_send_targets_in_a_discovery_session(server: TargetServer) -> None:
    with RawInitiator(server.portal) as raw:
        assert raw.login(None).status_class == 0
        address = [("TargetName", NAME), ("TargetAddress", f"{server.portal},1")]
        for value, answer in (("All", address), (NAME, address), ("iqn.2026-01.org.example:none", [])):
            send_text(raw, [("SendTargets", value)])
            assert pairs_of(raw.receive().data) == answer
        send_text(raw, [("SendTargets", "")])
        assert pairs_of(raw.receive().data) == [("SendTargets", "Reject")]


def test_send_targets_in_a_normal_session(server: TargetServer) -> None:
    with connected(server) as raw:
        send_text(raw, [("SendTargets", "")])
        assert pairs_of(raw.receive().data)[0] == ("TargetName", NAME)
        send_text(raw, [("SendTargets", "All"), ("SendTargetsPlease", "All")])
        assert pairs_of(raw.receive().data) == [("SendTargets", "Reject"), ("SendTargetsPlease", "NotUnderstood")]


def test_bad_text_is_rejected_and_the_session_lives(server: TargetServer) -> None:
    with connected(server) as raw:
        send_text(raw, [("sENDtARGETS", "All")])
        answer = raw.receive()
        assert isinstance(answer.header, pdu.Reject)
        assert len(answer.data) == 48
        assert raw.run(bytes(6)).status == 0


def test_a_long_answer_is_split() -> None:
    configs = [TargetConfig(f"{NAME}{number:03}") for number in range(60)]
    with TargetServer(configs) as server, RawInitiator(server.portal) as raw:
        raw.login(None, operational=[("MaxRecvDataSegmentLength", "512")])
        send_text(raw, [("SendTargets", "All")])
        data = b""
        while True:
            answer = raw.receive()
            assert isinstance(answer.header, pdu.TextResponse)
            assert len(answer.data) <= 512
            data += answer.data
            if answer.header.final:
                break
            assert answer.header.continued
            send_text(raw, [], ttt=answer.header.ttt)
        names = [value for key, value in pairs_of(data) if key == "TargetName"]
        assert names == [config.name for config in configs]


@pytest.mark.parametrize(("reason", "cid", "response"), [(0, 0, 0), (1, 0, 0), (1, 9, 1), (2, 0, 2)])
def test_logout(server: TargetServer, reason: int, cid: int, response: int) -> None:
    with connected(server) as raw:
        raw.send(pdu.LogoutRequest(itt=5, reason=reason, cid=cid, cmd_sn=raw.cmd_sn))
        answer = raw.receive().header
        assert isinstance(answer, pdu.LogoutResponse)
        assert answer.response == response
        if response == 0:
            assert raw.closed()
            until(lambda: server.sessions == [])
        else:
            assert raw.run(bytes(6)).status == 0


def test_what_it_lacks_is_rejected(server: TargetServer) -> None:
    with connected(server) as raw:
        for header, reason in ((pdu.SnackRequest(itt=1), 0x03), (pdu.AsyncMessage(async_event=0), 0x05)):
            raw.send(header)
            answer = raw.receive()
            assert isinstance(answer.header, pdu.Reject)
            assert answer.header.reason == reason
            assert answer.data == header.pack()
