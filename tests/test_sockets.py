# SPDX-License-Identifier: Apache-2.0
"""What is queued for a peer on this host is bounded, for others the kernel decides; congestion control."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Any

import pytest

import swd
from swd.sockets import NEAR_SNDBUF, bound_send_queue
from swd.target import Lun, RamMedium, TargetConfig, TargetServer


class Far:
    """A socket whose peer has another address."""

    def __init__(self) -> None:
        self.set: list[tuple[int, ...]] = []

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.1", 1)

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.2", 3260)

    def setsockopt(self, *option: int) -> None:
        self.set.append(option)


def test_a_peer_elsewhere_is_left_to_the_kernel() -> None:
    far: Any = Far()
    bound_send_queue(far)
    assert far.set == []


def test_a_socket_without_a_peer_is_no_error() -> None:
    with socket.socket() as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        bound_send_queue(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before


@pytest.mark.skipif(sys.platform != "linux", reason="how much more than was asked for is set, each system decides")
def test_both_ends_of_a_session_on_this_host_and_the_option() -> None:
    with socket.socket() as sock:  # net.core.wmem_max may allow less
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SNDBUF)
        bound = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    name = "iqn.2026-01.org.example:sockets"
    with TargetServer([TargetConfig(name, {0: Lun(RamMedium(1 << 20))})]) as server:
        dev = f"iscsi://{server.portal}/{name}/0"
        for options, wanted in (({}, bound), ({"sndbuf": 65536}, 131072)):
            with swd.open(dev, **options) as disk:
                unit: Any = disk.unit
                with socket.socket(fileno=os.dup(unit.session._pump.fileno())) as sock:
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == wanted
                (connection,) = server._connections
                assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == bound


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket has no congestion control of its own")
@pytest.mark.parametrize("wanted", ["reno", "nosuch"])
def test_congestion_control_is_an_option_and_one_that_is_refused_a_warning(
    wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = "iqn.2026-01.org.example:sockets"
    with (
        caplog.at_level(logging.WARNING, "swd"),
        TargetServer([TargetConfig(name, {0: Lun(RamMedium(1 << 20))})]) as server,
        swd.open(f"iscsi://{server.portal}/{name}/0", congestion=wanted) as disk,
    ):
        unit: Any = disk.unit
        with socket.socket(fileno=os.dup(unit.session._pump.fileno())) as sock:
            used = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        assert disk.pread(512, 0) == bytes(512)
    said = [record.getMessage() for record in caplog.records]
    if wanted == "reno":
        assert (used, said) == ("reno", [])
    else:
        assert used != wanted
        assert [words.partition(" is not")[0] for words in said] == ["SWD_LOG_CONGESTION congestion=nosuch"]
