# SPDX-License-Identifier: Apache-2.0
"""Data of reads and writes over a socket: how it is cut, asked for and refused, and what is left over."""

from __future__ import annotations

import random
import socket

import pytest
from conftest import SIZE, Serve, connected
from raw_initiator import OPERATIONAL, read_10, sixteen, write_10

from swd.proto import pdu
from swd.target import Limits, TargetServer

DATA = random.Random(7).randbytes(1 << 20)
DIGESTS = (("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), *OPERATIONAL[2:])


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
