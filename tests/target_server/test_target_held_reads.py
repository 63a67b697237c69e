# SPDX-License-Identifier: Apache-2.0
"""Long reads that all come due at once, when the request that they waited for comes, to somebody who does not read."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from target_server.raw_initiator import OPERATIONAL, RawInitiator, read_10

from swd.proto.pdu import NopOut, TaskManagementRequest, TaskManagementResponse
from swd.target import Lun, TargetConfig, TargetServer
from swd.target.faults.plan import Plan
from swd.target.framing import HIGH_WATER
from swd.target.media import FileMedium, RamMedium

NAME = "iqn.2026-01.org.swd:held"
SIZE = 16 << 20
READS = 12  # of SIZE bytes each


@pytest.fixture(params=["compiled", "in Python", "a file", "a plan"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TargetServer]:
    path = tmp_path / "disk"
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(SIZE)
    medium = FileMedium(path) if request.param == "a file" else RamMedium(SIZE)
    faults = Plan(()) if request.param == "a plan" else None
    compiled = request.param == "compiled"
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})], compiled=compiled, faults=faults) as server:
        yield server


def unsent(server: TargetServer) -> int:
    """The bytes that wait for the one who does not read."""
    paths = [(connection._path, connection._outbox) for connection in server._live()]
    return max(path._path.unsent if path is not None else outbox.size for path, outbox in paths)


def ask(raw: RawInitiator) -> None:
    """The reads come before the request whose number they wait for."""
    raw.login(NAME, operational=OPERATIONAL)
    raw.ready()
    gap = raw.cmd_sn
    raw.cmd_sn += 1
    for _ in range(READS):
        raw.command(read_10(0, SIZE // 512), expect=SIZE)
    raw.send(NopOut(itt=raw.tag(), cmd_sn=gap))


def test_they_wait_for_the_reader(server: TargetServer) -> None:
    with RawInitiator(server.portal) as raw:
        ask(raw)
        until, most = time.monotonic() + 0.5, 0
        while time.monotonic() < until:
            select.select([], [], [], 0.01)
            most = max(most, unsent(server))
        assert HIGH_WATER < most < HIGH_WATER + SIZE + 65536
        got, wanted = 0, READS * SIZE
        raw.sock.settimeout(20)
        space = bytearray(1 << 20)
        while got < wanted:
            count = raw.sock.recv_into(space)
            assert count
            got += count


def test_stop_ends_who_does_not_read_them(server: TargetServer) -> None:
    with RawInitiator(server.portal) as raw:
        ask(raw)
        select.select([], [], [], 0.3)
        server.stop()
        assert not server._connections


def test_who_does_not_read_them_holds_up_no_reset(server: TargetServer) -> None:
    with RawInitiator(server.portal) as raw, RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as other:
        ask(raw)
        other.login(NAME)
        other.ready()
        until = time.monotonic() + 10
        while unsent(server) <= HIGH_WATER:
            assert time.monotonic() < until
            select.select([], [], [], 0.01)
        other.send(TaskManagementRequest(function=5, itt=other.tag(), cmd_sn=other.cmd_sn))
        answer = other.receive().header
        assert isinstance(answer, TaskManagementResponse)
        assert answer.response == 0
