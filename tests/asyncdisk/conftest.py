# SPDX-License-Identifier: Apache-2.0
"""A disk to write to, in an event loop of either kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from support.peer import NAME

from swd import aio
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Plan

SIZE = 1 << 20
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]

Main = Callable[[aio.AsyncDisk, Lun], Coroutine[Any, Any, None]]
Run = Callable[..., None]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, places: None) -> Run:
    """Runs a coroutine with a disk on an embedded target, in a loop of either kind."""

    def runs(main: Main, plan: Plan | None = None, mode: str = "r+b", **options: object) -> None:
        lun = Lun(RamMedium(SIZE))

        async def whole(server: TargetServer) -> None:
            async with await aio.open(f"iscsi://{server.portal}/{NAME}/0", mode, **options) as disk:
                await main(disk, lun)

        loop = request.param()
        with TargetServer([TargetConfig(NAME, {0: lun})], faults=plan) as server:
            loop.run_until_complete(asyncio.wait_for(whole(server), 30))
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    return runs
