# SPDX-License-Identifier: Apache-2.0
"""No descriptor is left (RLIMIT_NOFILE): each way in says EMFILE and leaves nothing behind; open sessions live on."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from limits_rig import descriptors, spare
from support.served import Served, serving
from target.disk import Disk
from target.script import TARGET, Connection, Peer

import swd
from swd import aio
from swd.driver import Driver, scan  # noqa: F401  # what a first call would load, which takes a descriptor
from swd.errors import SwdError
from swd.iscsi import discovery, transport  # noqa: F401

FEW = 128
MOST_NEEDED = 16  # descriptors that no way in needs more than


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://1M") as target:
        yield target


@pytest.fixture
def few() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(target: Served) -> None:
    swd.connect(str(target.portal), target.name).close()


def opening(target: Served) -> None:
    with swd.open(target.url()) as disk:
        assert disk.pread(512, 0) == bytes(512)


def discover(target: Served) -> None:
    assert swd.discover(str(target.portal))


def driving(target: Served) -> None:
    with Driver() as driver:
        fd = driver.open(target.url(), os.O_RDWR)
        assert driver.pread(fd, 512, 0) == bytes(512)
        driver.close(fd)


def scanning(target: Served) -> None:
    assert [unit.phase for unit in swd.scan(str(target.portal))] == ["live"]


WAYS: tuple[Callable[[Served], None], ...] = (connect, opening, discover, driving, scanning)


def attempts(way: Callable[[], None]) -> list[int | None]:
    """What a way in ends with where 0, 1, 2... descriptors are free: an errno, or None; up to the first success."""
    ends: list[int | None] = []
    while None not in ends and len(ends) <= MOST_NEEDED:
        gc.collect()
        before = descriptors()
        try:
            with spare(len(ends)):
                way()
        except SwdError as error:
            ends.append(error.errno if "open files" in error.reason else -1)
        else:
            ends.append(None)
        assert descriptors() == before, f"a descriptor is lost where {len(ends) - 1} were free"
    return ends


@pytest.mark.parametrize("way", WAYS)
def test_no_descriptor_is_left(served: Served, few: None, way: Callable[[Served], None]) -> None:
    way(served)
    with swd.open(served.url()) as open_before:
        ends = attempts(lambda: (way(served), open_before.pread(512, 0))[0])
        assert ends[-1] is None
        assert set(ends[:-1]) == {errno.EMFILE}
        assert open_before.pread(512, 0) == bytes(512)


def test_no_descriptor_is_left_for_the_socket_itself(served: Served, few: None) -> None:
    """It is this process's limit, and no word about the target."""
    with spare(0), pytest.raises(SwdError, match="ulimit -n") as caught:
        transport.connect(served.portal, transport.Deadline(5))
    assert (type(caught.value), caught.value.errno) == (SwdError, errno.EMFILE)


def test_no_descriptor_is_left_for_a_coroutine(served: Served, few: None) -> None:
    async def once() -> None:
        async with await aio.open(served.url()) as disk:
            assert await disk.pread(512, 0) == bytes(512)

    async def run() -> list[int | None]:
        await once()
        ends: list[int | None] = []
        while None not in ends and len(ends) <= MOST_NEEDED:
            before = descriptors()
            try:
                with spare(len(ends)):
                    await once()
            except SwdError as error:
                ends.append(error.errno)
            else:
                ends.append(None)
            assert descriptors() == before
        return ends

    ends = asyncio.run(run())
    assert ends[-1] is None
    assert set(ends[:-1]) == {errno.EMFILE}


def test_sessions_until_no_descriptor_is_left(served: Served, few: None) -> None:
    """All of them work; when one is closed there is room for another."""
    disks = []
    try:
        with pytest.raises(SwdError) as caught:
            while True:
                disks.append(swd.open(served.url()))
        assert caught.value.errno == errno.EMFILE
        assert len(disks) > FEW // 4
        assert all(disk.pread(512, 0) == bytes(512) for disk in disks)
        disks.pop().close()
        disks.append(swd.open(served.url()))
        assert disks[-1].pread(512, 0) == bytes(512)
    finally:
        for disk in disks:
            disk.close()


class Ear(logging.Handler):
    """Hears that an attempt to bring a session back found no descriptor."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.refused = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "symbol", "") == "SWD_LOG_NOT_BACK_YET" and "open files" in record.getMessage():
            self.refused.set()


def test_a_session_that_is_lost_meanwhile_comes_back_when_there_is_one_again(
    few: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The link is cut where no descriptor is free to log in again: the read waits, as for a portal that is away."""

    def script(target: Connection) -> None:
        target.login()
        if target.number == 0:
            Disk().serve(target, {0x28: lambda one, _: one.close()})
        Disk().serve(target)

    heard = Ear()
    caplog.set_level(logging.INFO, "swd")
    logging.getLogger("swd").addHandler(heard)
    with ThreadPoolExecutor(1) as pool, Peer(script) as peer:
        dev = f"iscsi://{peer.portal}/{TARGET}/0"
        with swd.open(dev, replacement_timeout=20) as disk:
            with spare(0):
                reading = pool.submit(disk.pread, 512, 0)
                assert heard.refused.wait(10), "no attempt to log in failed"
            assert reading.result(15) == bytes(Disk().content[:512])
    logging.getLogger("swd").removeHandler(heard)
    assert peer.connections == 2
