# SPDX-License-Identifier: Apache-2.0
"""The whole target over a socket, with an initiator that says exactly what it is told."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable

import pytest
from conftest import NAME, SIZE, Serve
from raw_initiator import CRC, INITIATOR, OPERATIONAL, RawInitiator, pairs_of, read_10, sixteen, text, write_10

from swd.errors import InvalidArgument, NoSuchDevice
from swd.proto import pdu
from swd.target import Limits, TargetConfig, TargetServer
from swd.target.portals import listening_portal
from swd.values import RESERVED_TAG, Chap, Portal

DATA = random.Random(7).randbytes(1 << 20)
DIGESTS = (("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), *OPERATIONAL[2:])


def connected(server: TargetServer, **login: object) -> RawInitiator:
    """Logged in, and past the power-on attention."""
    raw = RawInitiator(server.portal)
    assert raw.login(NAME, **login).status_class == 0  # type: ignore[arg-type]
    raw.ready()
    return raw


def until(holds: Callable[[], bool]) -> None:
    """Wait until another thread's work is seen to be done."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        threading.Event().wait(0.005)


# Reading and writing


@pytest.mark.parametrize("operational", [OPERATIONAL, DIGESTS], ids=["plain", "digests"])
def test_what_is_written_is_read(server: TargetServer, operational: tuple[tuple[str, str], ...]) -> None:
    with connected(server, operational=operational) as raw:
        digests = operational is DIGESTS
        assert server.sessions[0].header_digest == server.sessions[0].data_digest == digests
        assert raw.run(write_10(8, 2000), data=DATA[: 2000 * 512]).status == 0
        ended = raw.run(read_10(8, 2000), expect=2000 * 512)
        assert ended.data == DATA[: 2000 * 512]
        assert (ended.overflow, ended.underflow) == (False, False)
        assert bool(server.statistics["header_digests_checked"]) == digests
        assert bool(server.statistics["data_digests_checked"]) == digests


def test_data_in_is_cut_by_segment_and_burst(server: TargetServer) -> None:
    agreed = [("MaxRecvDataSegmentLength", "3000"), ("MaxBurstLength", "8192"), ("FirstBurstLength", "4096")]
    with connected(server, operational=agreed) as raw:
        raw.run(write_10(0, 40), data=DATA[: 40 * 512])
        ended = raw.run(read_10(0, 40), expect=40 * 512)
        assert ended.data == DATA[: 40 * 512]
        headers = [answer.header for answer in ended.pdus]
        assert all(isinstance(header, pdu.DataIn) for header in headers)
        assert [len(answer.data) for answer in ended.pdus] == [3000, 3000, 2192, 3000, 3000, 2192, 3000, 1096]
        assert [header.final for header in headers] == [False, False, True, False, False, True, False, True]  # type: ignore[attr-defined]
        assert [header.data_sn for header in headers] == list(range(8))  # type: ignore[attr-defined]
        assert [header.status_present for header in headers] == [False] * 7 + [True]  # type: ignore[attr-defined]


def test_r2ts_stay_within_what_was_agreed(serve: Serve) -> None:
    server = serve(limits=Limits(max_burst_length=8192, max_outstanding_r2t=3, initial_r2t=True, immediate_data=False))
    offer = [*OPERATIONAL, ("MaxOutstandingR2T", "4")]
    with connected(server, operational=offer) as raw:
        assert server.sessions[0].max_outstanding_r2t == 3
        tag = raw.command(write_10(0, 80), data=DATA[: 80 * 512])
        first = [raw.receive().header for _ in range(3)]
        raw.send(pdu.NopOut(itt=1, immediate=True, cmd_sn=raw.cmd_sn))
        assert isinstance(raw.receive().header, pdu.NopIn)  # and no fourth R2T
        assert [(r2t.r2t_sn, r2t.buffer_offset, r2t.desired_data_transfer_length) for r2t in first] == [  # type: ignore[attr-defined]
            (0, 0, 8192), (1, 8192, 8192), (2, 16384, 8192),
        ]  # fmt: skip
        for r2t in first:
            start = r2t.buffer_offset  # type: ignore[attr-defined]
            raw.send(pdu.DataOut(itt=tag, ttt=r2t.ttt, buffer_offset=start), DATA[start : start + 8192])  # type: ignore[attr-defined]
        ended = raw.finish(tag, DATA)
        assert ended.status == 0
        assert [answer.header.buffer_offset for answer in ended.pdus[:-1]] == [24576, 32768]  # type: ignore[attr-defined]
        assert raw.run(read_10(0, 80), expect=80 * 512).data == DATA[: 80 * 512]


def test_immediate_then_unsolicited_then_asked_for(server: TargetServer) -> None:
    with connected(server) as raw:  # FirstBurstLength 65536
        size = 256 * 512
        tag = raw.command(write_10(0, 256), expect=size, immediate_data=DATA[:1024], final=False)
        for sn, start in enumerate(range(1024, 65536, 8192)):
            end = min(start + 8192, 65536)
            raw.send(pdu.DataOut(itt=tag, data_sn=sn, buffer_offset=start, final=end == 65536), DATA[start:end])
        ended = raw.finish(tag, DATA)
        assert ended.status == 0
        assert ended.pdus[0].header.buffer_offset == 65536  # type: ignore[attr-defined]
        assert raw.run(read_10(0, 256), expect=size).data == DATA[:size]


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({"data_sn": 1}, 512),
        ({"buffer_offset": 512}, 512),
        ({}, 256),  # a sequence that ends early
        ({}, 1024),  # and one that runs over
    ],
)
def test_a_bad_data_out_fails_its_command_only(server: TargetServer, fields: dict[str, int], length: int) -> None:
    with connected(server) as raw:
        tag = raw.command(write_10(0, 1), data=DATA[:512])
        r2t = raw.receive().header
        assert isinstance(r2t, pdu.R2T)
        raw.send(pdu.DataOut(itt=tag, ttt=r2t.ttt, **fields), DATA[:length])
        ended = raw.finish(tag)
        assert ended.status == 2
        assert ended.sense is not None
        assert ended.sense[0] == 0xB
        assert not any(raw.run(read_10(0, 1), expect=512).data) or length == 256
        assert raw.run(bytes(6)).status == 0


def test_unsolicited_data_that_was_not_agreed_on(serve: Serve) -> None:
    server = serve(limits=Limits(immediate_data=False, initial_r2t=True))
    with connected(server) as raw:
        ended = raw.finish(raw.command(write_10(0, 1), expect=512, immediate_data=DATA[:512]))
        assert (ended.status, ended.sense) == (2, (0xB, 0x0C, 0x0C))


RESIDUALS = [  # blocks, promised, moved, overflow, underflow, residual
    (2, 1024, 1024, False, False, 0),
    (2, 512, 512, True, False, 512),
    (2, 200, 200, True, False, 824),
    (1, 2000, 512, False, True, 1488),
    (0, 512, 0, False, True, 512),
]


@pytest.mark.parametrize("case", RESIDUALS)
def test_residuals_of_reads(server: TargetServer, case: tuple[int, int, int, bool, bool, int]) -> None:
    blocks, promised, moved, *flags = case
    with connected(server) as raw:
        raw.run(write_10(0, 2), data=DATA[:1024])
        ended = raw.run(read_10(0, blocks), expect=promised)
        assert ended.data == DATA[:moved]
        assert [ended.overflow, ended.underflow, ended.residual] == flags


@pytest.mark.parametrize("case", RESIDUALS)
def test_residuals_of_writes(server: TargetServer, case: tuple[int, int, int, bool, bool, int]) -> None:
    blocks, promised, moved, *flags = case
    with connected(server) as raw:
        ended = raw.run(write_10(0, blocks), data=DATA[:promised])
        assert [ended.overflow, ended.underflow, ended.residual] == flags
        whole = moved // 512 * 512
        assert raw.run(read_10(0, 4), expect=2048).data == DATA[:whole] + bytes(2048 - whole)


def test_a_read_that_promises_nothing_moves_nothing(server: TargetServer) -> None:
    with connected(server) as raw:
        ended = raw.run(read_10(0, 1))
        assert (ended.data, ended.overflow, ended.residual) == (b"", True, 512)


def test_a_failed_command_moves_nothing(server: TargetServer) -> None:
    with connected(server) as raw:
        ended = raw.run(read_10(SIZE // 512, 1), expect=512)
        assert (ended.status, ended.sense, ended.underflow, ended.residual) == (2, (5, 0x21, 0), True, 512)


def test_a_4096_byte_unit(server: TargetServer) -> None:
    with connected(server) as raw:
        raw.ready(1)
        assert raw.run(sixteen(0x8A, 5, 2), lun=1, data=DATA[:8192]).status == 0
        assert raw.run(sixteen(0x88, 5, 2), lun=1, expect=8192).data == DATA[:8192]


def test_two_blocked_senders_do_not_wait_for_each_other(serve: Serve) -> None:
    """While megabytes of reads wait for a peer that only writes, more writes are taken than sockets can buffer."""
    with connected(serve(queue_depth=512)) as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reads = [raw.command(sixteen(0x88, 0, 2048), expect=1 << 20) for _ in range(7)]
        writes = [raw.command(write_10(8192, 120), expect=61440, immediate_data=DATA[:61440]) for _ in range(200)]
        for tag in (*reads, *writes):
            assert raw.finish(tag).status == 0


# Numbers


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


# Everything but SCSI commands


@pytest.mark.parametrize("data", [b"", b"ping", b"x" * 4097])
def test_ping(server: TargetServer, data: bytes) -> None:
    with connected(server) as raw:
        raw.send(pdu.NopOut(itt=77, immediate=True, cmd_sn=raw.cmd_sn), data)
        answer = raw.receive()
        assert isinstance(answer.header, pdu.NopIn)
        assert (answer.header.itt, answer.header.ttt, answer.data) == (77, RESERVED_TAG, data)
        raw.send(pdu.NopOut(immediate=True, cmd_sn=raw.cmd_sn))  # no tag: no answer
        assert raw.run(bytes(6)).status == 0


def send_text(raw: RawInitiator, pairs: list[tuple[str, str]], **fields: int) -> None:
    raw.send(pdu.TextRequest(itt=raw.tag(), immediate=True, cmd_sn=raw.cmd_sn, **fields), text(pairs))


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


# Task management


def manage(raw: RawInitiator, function: int, **fields: int) -> int:
    raw.send(pdu.TaskManagementRequest(function=function, itt=raw.tag(), cmd_sn=raw.cmd_sn, **fields))
    answer = raw.receive().header
    assert isinstance(answer, pdu.TaskManagementResponse)
    return answer.response


def open_write(raw: RawInitiator, lun: int = 0) -> tuple[int, int]:
    """A write that waits for its data: ITT and TTT."""
    tag = raw.command(write_10(0, 1), lun=lun, data=DATA[:512] * (8 if lun else 1))
    header = raw.receive().header
    assert isinstance(header, pdu.R2T)
    return tag, header.ttt


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


# Connections and sessions


@pytest.mark.parametrize("spoil", ["header", "data"])
def test_a_wrong_digest_closes_the_connection(server: TargetServer, spoil: str) -> None:
    with connected(server, operational=DIGESTS) as raw:
        raw.send(pdu.NopOut(itt=1, immediate=True, cmd_sn=raw.cmd_sn), b"data", spoil=spoil)
        assert raw.closed()
        until(lambda: server.statistics["digest_errors"] == 1)


def test_reinstatement_ends_the_old_session(server: TargetServer) -> None:
    with connected(server) as old:
        open_write(old)
        with RawInitiator(server.portal) as new:
            assert new.login(NAME).status_class == 0
            assert old.closed()
            assert new.run(bytes(6)).sense == (6, 0x29, 7)
            until(lambda: len(server.sessions) == 1)
            assert server.statistics["reinstatements"] == 1


def test_two_isids_are_two_sessions(server: TargetServer) -> None:
    with connected(server) as one, RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as two:
        two.login(NAME)
        assert len({agreed.tsih for agreed in server.sessions}) == 2
        assert one.run(bytes(6)).status == 0


def test_chap_over_a_socket(serve: Serve) -> None:
    chap = Chap("user", "a-secret-of-16by")
    server = serve(chap=chap)
    with connected(server, chap=chap):
        assert server.sessions[0].auth == "chap"
    with RawInitiator(server.portal) as raw:
        response = raw.login(NAME, chap=Chap("user", "the-wrong-secret"))
        assert (response.status_class, response.status_detail) == (2, 1)
        assert raw.closed()
    until(lambda: server.statistics["sessions_open"] == 0)
    assert (server.statistics["logins"], server.statistics["login_failures"]) == (1, 1)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n" * 10, bytes(48), b"\xff" * 200])
def test_rubbish_ends_its_own_connection_only(server: TargetServer, rubbish: bytes) -> None:
    with connected(server) as raw, socket.create_connection((server.portal.host, server.portal.port), 10) as stranger:
        stranger.sendall(rubbish)
        assert stranger.recv(4096) == b""
        assert raw.run(bytes(6)).status == 0


def test_a_silent_peer_does_not_stay(serve: Serve) -> None:
    with TargetServer([TargetConfig(NAME)], login_timeout=0.05) as server:
        with socket.create_connection((server.portal.host, server.portal.port), 10) as stranger:
            assert stranger.recv(1) == b""
        assert server.statistics["accepts"] == 1


def test_more_connections_than_allowed(serve: Serve) -> None:
    with TargetServer([TargetConfig(NAME)], max_connections=1) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        with RawInitiator(server.portal) as late:
            assert late.closed()


def test_counts_name_what_went_over_the_wire(server: TargetServer) -> None:
    with connected(server) as raw:
        raw.run(write_10(0, 1), data=DATA[:512])
        counts = server.statistics
        assert counts["pdus_in"] == {"LOGIN_REQUEST": 2, "SCSI_COMMAND": 2, "DATA_OUT": 1}
        assert counts["pdus_out"] == {"LOGIN_RESPONSE": 2, "SCSI_RESPONSE": 2, "R2T": 1}
        assert counts["accepts"] == counts["logins"] == counts["sessions_open"] == 1


def test_a_digest_is_counted_once_whoever_checks_it(server: TargetServer) -> None:
    """With the last of the login the header of a ping has come, and not its data: there the path takes over."""
    with RawInitiator(server.portal) as raw:
        who = [("InitiatorName", INITIATOR), ("SessionType", "Normal"), ("TargetName", NAME), ("AuthMethod", "None")]
        raw.request(who, csg=0, nsg=1)
        words = text(DIGESTS)
        login = bytearray(pdu.LoginRequest(isid=raw.isid, csg=1, nsg=3, transit=True, cmd_sn=1, itt=1).pack())
        login[5:8] = len(words).to_bytes(3, "big")
        ping = bytearray(pdu.NopOut(itt=2, cmd_sn=1).pack())
        ping[5:8] = (4).to_bytes(3, "big")
        head = bytes(ping) + CRC(ping).to_bytes(4, "little")
        raw.sock.sendall(bytes(login) + words + bytes(-len(words) & 3) + head)
        assert isinstance(raw.receive().header, pdu.LoginResponse)
        raw.header_digest = raw.data_digest = True
        raw.sock.sendall(b"ping" + CRC(b"ping").to_bytes(4, "little"))
        answer = raw.receive()
        assert (type(answer.header), answer.data) == (pdu.NopIn, b"ping")
        counted = server.statistics
        assert (counted["header_digests_checked"], counted["data_digests_checked"]) == (1, 1)


def test_stop_is_quick_and_joins_everything() -> None:
    before = set(threading.enumerate())
    server = TargetServer([TargetConfig(NAME)])
    server.start()
    peers = [RawInitiator(server.portal, isid=bytes([0x80, 0, 0, 0, 0, n])) for n in range(8)]
    for peer in peers[:6]:
        peer.login(NAME)
    until(lambda: server.statistics["accepts"] == 8)
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 1
    assert set(threading.enumerate()) == before
    for peer in peers:
        assert peer.closed()
        peer.sock.close()
    server.stop()
    assert server.statistics["logins"] == 6


def test_ipv6(serve: Serve) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    server = serve("[::1]:0")
    with RawInitiator(server.portal) as raw:
        raw.login(None)
        send_text(raw, [("SendTargets", "All")])
        assert pairs_of(raw.receive().data)[1] == ("TargetAddress", f"[::1]:{server.portal.port},1")


def test_loopback_only_unless_told() -> None:
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME)], "0.0.0.0:0").start()
    with TargetServer([TargetConfig(NAME)], "0.0.0.0:0", public=True) as server:
        assert server.portal.port


def test_a_port_that_is_taken(server: TargetServer) -> None:
    with pytest.raises(NoSuchDevice):
        TargetServer([TargetConfig(NAME)], server.portal).start()


def test_bad_configurations() -> None:
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME), TargetConfig(NAME.upper())])
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig("not a name")])
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME, chap=Chap("user", "short"))])


@pytest.mark.parametrize(
    ("written", "portal"),
    [("127.0.0.1:0", Portal("127.0.0.1", 0)), ("[::1]:0", Portal("::1", 0)), ("localhost:5", Portal("localhost", 5))],
)
def test_listening_portals(written: str, portal: Portal) -> None:
    assert listening_portal(written) == portal
