# SPDX-License-Identifier: Apache-2.0
"""Servers for the tests of the target: two RAM disks of one node, on a free port of the loopback; and an initiator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from raw_initiator import RawInitiator

from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:embedded"
SIZE = 8 << 20

Serve = Callable[..., TargetServer]


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


@pytest.fixture(params=["compiled", "python"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """`serve(**settings of TargetConfig)`: a running server; LUN 0 has 512-byte blocks, LUN 1 4096-byte ones.

    Everything holds for both ways that a PDU may take.
    """
    with ExitStack() as stack:

        def start(portal: str = "127.0.0.1:0", **settings: object) -> TargetServer:
            luns = {0: Lun(RamMedium(SIZE)), 1: Lun(RamMedium(SIZE), block_size=4096)}
            config = replace(TargetConfig(NAME, luns), **settings)  # type: ignore[arg-type]
            return stack.enter_context(TargetServer([config], portal, compiled=request.param == "compiled"))

        yield start


@pytest.fixture
def server(serve: Serve) -> TargetServer:
    """One with every setting at its default."""
    return serve()


@pytest.fixture
def url(server: TargetServer) -> str:
    """LUN 0 of `server`, for other people's initiators."""
    return f"iscsi://{server.portal}/{NAME}/0"
