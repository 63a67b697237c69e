# SPDX-License-Identifier: Apache-2.0
"""A target that sends one byte a second: every operation ends by its deadline, says so, and others are not held up."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from limits_rig import MIB, bounded
from support.served import Served, serving
from target.disk import INQUIRY, READ, Disk
from target.script import TARGET, Connection, Peer
from target.wire import Op, Pdu

import swd
import swd.iscsi.session
from swd.errors import NoSuchDevice, SwdError

SECOND = 1.0
SHORT = 1.5  # seconds: a deadline in which two bytes come
MOST_EXTENSION = 4  # times its deadline a command may take while its data moves


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://1M") as target:
        yield target


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rungs of the ladder after a deadline, and a logout that nobody answers."""
    monkeypatch.setattr(swd.iscsi.session, "ABORT_TIMEOUT", 0.3)
    monkeypatch.setattr(swd.iscsi.session, "LOGOUT_TIMEOUT", 0.3)


def drip(target: Connection, data: bytes) -> None:
    """One byte a second, until the initiator has had enough."""
    target.silent = True
    for at in range(len(data)):
        target.send(data[at : at + 1])
        target.pause(SECOND)


def in_login(target: Connection) -> None:
    drip(target, target.login_response(target.expect(Op.LOGIN), {"AuthMethod": "None"}))


def in_the_operational_stage(target: Connection) -> None:
    target.security()
    request = target.expect(Op.LOGIN)
    drip(target, target.login_response(request, target.answers(request), tsih=1))


@pytest.mark.parametrize("script", [in_login, in_the_operational_stage])
def test_in_login(script: Callable[[Connection], None]) -> None:
    with Peer(script) as peer, bounded(seconds=SHORT + 1, memory=4 * MIB):
        with pytest.raises(NoSuchDevice, match=r"silent for 1\.5 s") as caught:
            swd.connect(peer.portal, TARGET, login_timeout=SHORT)
        assert caught.value.errno == errno.ENXIO


def test_in_discovery() -> None:
    def script(target: Connection) -> None:
        target.login()
        drip(target, target.text_response(target.expect(Op.TEXT), b"TargetName=iqn.2026-01.org.example:a\0"))

    with Peer(script) as peer, bounded(seconds=SHORT + 2, memory=4 * MIB):
        with pytest.raises(SwdError) as caught:
            swd.discover(peer.portal, login_timeout=5, timeout=SHORT, replacement_timeout=0)
        assert caught.value.errno == errno.ENXIO


def test_an_inquiry_while_a_disk_is_opened() -> None:
    def part(target: Connection, command: Pdu) -> None:
        drip(target, target.data_in(command, bytes(96), status=0))

    def script(target: Connection) -> None:
        target.login()
        Disk().serve(target, {INQUIRY: part})

    with Peer(script) as peer, bounded(seconds=SHORT * MOST_EXTENSION + 3, memory=4 * MIB):
        with pytest.raises(SwdError) as caught:
            swd.open(f"iscsi://{peer.portal}/{TARGET}/0", timeout=SHORT, login_timeout=5, replacement_timeout=0)
        assert caught.value.errno in (errno.ETIMEDOUT, errno.EIO)


def test_the_data_of_a_read(served: Served) -> None:
    """Data that moves puts the deadline off, but not beyond its limit; another session is as fast as ever."""

    def part(target: Connection, command: Pdu) -> None:
        pdu = target.data_in(command, bytes(512), status=0)
        target.send(pdu[:48])  # the header at once: it is the data that drips
        drip(target, pdu[48:])

    def script(target: Connection) -> None:
        target.login()
        Disk().serve(target, {READ: part})

    options = {"timeout": SHORT, "login_timeout": 5, "replacement_timeout": 0}
    with Peer(script) as peer, ThreadPoolExecutor(1) as pool, swd.open(served.url()) as other:
        disk = swd.open(f"iscsi://{peer.portal}/{TARGET}/0", **options)
        with bounded(seconds=SHORT * MOST_EXTENSION + 3, memory=8 * MIB):
            reading = pool.submit(disk.pread, 512, 0)
            while not reading.done():
                with bounded(seconds=1, memory=8 * MIB):
                    assert other.pread(4096, 0) == bytes(4096)
                wait([reading], 0.2)
        error = reading.exception()
        assert isinstance(error, SwdError)
        assert error.errno in (errno.ETIMEDOUT, errno.EIO)
        disk.close()
