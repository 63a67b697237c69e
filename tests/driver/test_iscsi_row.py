# SPDX-License-Identifier: Apache-2.0
"""The wiring of the `iscsi` row and of the plain face, against the embedded target."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import swd
from swd.driver import Driver, phase
from swd.driver.ioctl import Request
from swd.driver.sessions import SessionPool
from swd.errors import (
    AuthenticationFailed,
    BadDescriptor,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArgument,
    NetworkNotInitialized,
    NoSuchDevice,
    SwdError,
)
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:rows"
SIZE = 1 << 20
INQUIRY = bytes([0x12, 0, 0, 0, 36, 0])
SECRET = "a-secret-of-the-target"


@pytest.fixture
def server() -> Iterator[TargetServer]:
    luns = {
        0: Lun(RamMedium(SIZE)),
        1: Lun(RamMedium(SIZE), block_size=4096),
        2: Lun(RamMedium(SIZE, read_only=True), read_only=True),
    }
    with TargetServer([TargetConfig(NAME, luns)]) as found:
        yield found


@pytest.fixture
def guarded() -> Iterator[TargetServer]:
    chap = swd.Chap("me", SECRET)
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))}, chap=chap)], discovery_chap=chap) as found:
        yield found


def dev(server: TargetServer, lun: int = 0, query: str = "", user: str = "") -> str:
    return f"iscsi://{user}{server.portal}/{NAME}/{lun}{query}"


def logouts(server: TargetServer) -> int:
    return sum(count for name, count in server.statistics["pdus_in"].items() if "logout" in name.lower())


def logged_in(server: TargetServer) -> int:
    """Sessions that logged in and not out. The target counts a logout before it answers: no waiting."""
    return server.statistics["logins"] - logouts(server)


def test_bytes_through_the_entry_points(server: TargetServer) -> None:
    with Driver() as drv:
        fd = drv.open(dev(server), os.O_RDWR)
        data = os.urandom(65536)
        assert drv.pwrite(fd, data, 4096) == len(data)
        drv.fsync(fd)
        assert drv.pread(fd, len(data), 4096) == data
        assert drv.ioctl(fd, "BLKGETSIZE64") == SIZE
        assert drv.ioctl(fd, "BLKSSZGET") == 512
        assert drv.ioctl(fd, "BLKZEROOUT", (4096, 4096)) is None
        assert drv.pread(fd, 8192, 4096) == bytes(4096) + data[4096:8192]
        result = drv.ioctl(fd, Request.SG_IO, swd.SgIo(INQUIRY, data_in=36))
        assert isinstance(result, swd.ScsiResult)
        assert (result.status, result.data[8:11]) == (0, b"SWD")
        stats = drv.ioctl(fd, "SWD_STATS_GET")
        assert isinstance(stats, dict)
        assert (stats["writes"], stats["written_bytes"]) == (1, 65536)
        assert stats["session"]


def test_opens_of_one_target_share_a_session_until_the_last_close(server: TargetServer) -> None:
    with Driver() as drv:
        isw = drv.open("isw:")

        def sessions() -> object:
            answer = drv.ioctl(isw, "SWD_STATS_GET")
            assert isinstance(answer, dict)
            return answer["sessions"]

        fds = [drv.open(dev(server)), drv.open(dev(server), os.O_RDWR), drv.open(dev(server, 1))]
        assert (sessions(), server.statistics["logins"]) == (1, 1)
        other = drv.open(dev(server, 0, "?header_digest=crc32c!"))
        assert (sessions(), server.statistics["logins"]) == (2, 2)
        for fd in (other, fds[0], fds[1]):
            drv.close(fd)
        assert (sessions(), logged_in(server)) == (1, 1)
        assert drv.pread(fds[2], 4096, 0) == bytes(4096)
        drv.close(fds[2])
        assert (sessions(), logged_in(server)) == (0, 0)
        drv.open(dev(server))
        assert server.statistics["logins"] == 3


def test_two_threads_that_open_at_once_log_in_once(server: TargetServer) -> None:
    with Driver() as drv:
        start = threading.Barrier(4)

        def work(_: int) -> None:
            start.wait(30)
            drv.open(dev(server))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert server.statistics["logins"] == 1


def test_a_failed_open_leaves_no_session(server: TargetServer) -> None:
    with Driver() as drv:
        for lun, flags, number in ((9, os.O_RDONLY, errno.ENXIO), (2, os.O_RDWR, errno.EROFS)):
            with pytest.raises(SwdError) as caught:
                drv.open(dev(server, lun), flags)
            assert caught.value.errno == number
            assert logged_in(server) == 0
        fd = drv.open(dev(server, 2))
        assert drv.ioctl(fd, "BLKROGET") == 1


def test_a_reader_may_not_send_commands_that_change_something(server: TargetServer) -> None:
    with Driver() as drv:
        fd = drv.open(dev(server))
        write_10 = bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])
        for io in (swd.SgIo(write_10, data_out=bytes(512)), swd.SgIo(bytes([0x04, 0, 0, 0, 0, 0])), swd.SgIo(b"")):
            with pytest.raises(BadDescriptor, match="O_RDWR"):
                drv.ioctl(fd, "SG_IO", io)
        assert drv.ioctl(fd, "SG_IO", swd.SgIo(INQUIRY, data_in=36))


def test_configuration_url_and_keywords_lie_over_each_other(server: TargetServer) -> None:
    Path(os.environ["SWD_CONFIG"]).write_text('[all]\nheader_digest = "crc32c!"\ndata_digest = "crc32c!"\n')
    with Driver() as drv:
        drv.open(dev(server, 0, "?data_digest=none"))
        session = server.sessions[-1]
        assert (session.header_digest, session.data_digest) == (True, False)
        drv.open(dev(server, 0, "?data_digest=none"), header_digest="none")
        session = server.sessions[-1]
        assert (session.header_digest, session.data_digest) == (False, False)
    with Driver(config={"all": {"data_digest": "none"}}) as drv:
        drv.open(dev(server))
        assert server.sessions[-1].data_digest is False


def test_chap_from_each_place(guarded: TargetServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SwdError) as caught:
        swd.open(dev(guarded))
    assert caught.value.errno == errno.EACCES
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with swd.open(dev(guarded, user="me@"), secret_file=str(secret)) as disk:
        assert disk.size == SIZE
    monkeypatch.setenv("SWD_CHAP_SECRET", SECRET)
    with swd.open(dev(guarded), user="me") as disk:
        assert disk.size == SIZE
    with swd.open(dev(guarded, query="?user=me")) as disk:
        assert disk.size == SIZE
    monkeypatch.setenv("SWD_CHAP_SECRET", "not-the-right-secret")
    for act in (
        lambda: swd.open(dev(guarded, user="me@")),
        lambda: swd.connect(str(guarded.portal), NAME, chap=swd.Chap("me", "wrong-" + SECRET[:10])),
        lambda: swd.discover(str(guarded.portal), user="me"),
    ):
        with pytest.raises(AuthenticationFailed) as refused:
            act()
        assert refused.value.errno == errno.EACCES
        assert "not-the-right-secret" not in str(refused.value) + repr(refused.value)


def test_connect_and_discover(server: TargetServer) -> None:
    found = swd.discover(str(server.portal))
    assert [(target.name, target.portals) for target in found] == [(NAME, [server.portal])]
    with swd.connect(str(server.portal), NAME) as session:
        assert isinstance(session, swd.Session)
        assert session.luns() == [0, 1, 2]
        assert session.execute(INQUIRY, lun=0, data_in=36).status == 0
        first, second = session.unit(0), session.unit(0)
        assert first.unit is second.unit  # one logical unit, one range lock
        first.pwrite(b"abc", 5)
        assert second.pread(3, 5) == b"abc"
        first.close()
        assert second.pread(3, 5) == b"abc"
        with session.unit(1) as disk:
            assert disk.block_size == 4096
        with pytest.raises(NoSuchDevice):
            session.unit(9)
        with pytest.raises(InvalidArgument):
            session.unit(-1)
        with pytest.raises(SwdError, match="write protected"):
            session.unit(2, writable=True)
        with session.unit(2) as protected:
            assert not protected.writable
        with session.unit(2) as disk:
            assert disk.unit is not protected.unit  # the refused one has let go of it
        again = session.unit(0)
        again.close()
        second.close()
        assert session.unit(0).unit is not first.unit
    assert logged_in(server) == 0


def test_a_closed_disk_logs_out(server: TargetServer) -> None:
    disk = swd.open(dev(server))
    assert logged_in(server) == 1
    disk.close()
    disk.close()
    assert logged_in(server) == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_what_cannot_be_reached_is_enxio_with_its_cause(host: str) -> None:
    where = f"{host}:{free_port()}"
    with Driver() as drv:
        for act in (
            lambda: drv.open(f"iscsi://{where}/{NAME}/0"),
            lambda: swd.open(f"iscsi://{where}/{NAME}/0"),
            lambda: swd.connect(where, NAME),
            lambda: swd.discover(where),
        ):
            with pytest.raises(NoSuchDevice) as caught:
                act()
            assert caught.value.errno == errno.ENXIO
            assert isinstance(caught.value.__cause__, OSError)
            assert len(caught.value.reason.splitlines()) <= 2


def test_a_portal_that_is_silent_or_hangs_up_before_login_is_enxio() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(NoSuchDevice) as caught:
            swd.connect(where, NAME, login_timeout=0.2)
        assert caught.value.errno == errno.ENXIO

        def hang_up() -> None:
            for _ in range(2):  # the first is the silent one's
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NoSuchDevice) as caught:
            swd.connect(where, NAME)
        thread.join(30)
        assert caught.value.errno == errno.ENXIO


def test_an_unknown_target_is_enxio(server: TargetServer) -> None:
    with pytest.raises(SwdError) as caught:
        swd.open(f"iscsi://{server.portal}/iqn.2026-01.org.example:other/0")
    assert caught.value.errno == errno.ENXIO


def test_a_session_that_died_is_replaced_for_new_opens(server: TargetServer) -> None:
    with Driver() as drv:
        old = drv.open(dev(server) + "?replacement_timeout=0")
        portal = server.portal
        server.stop()
        with pytest.raises((ConnectionLost, DeadlineExceeded)) as caught:
            drv.pread(old, 512, 0)
        assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
        with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})], portal):
            new = drv.open(f"iscsi://{portal}/{NAME}/0?replacement_timeout=0")
            assert drv.pread(new, 512, 0) == bytes(512)
            with pytest.raises(SwdError):
                drv.pread(old, 512, 0)
            drv.close(new)
            drv.close(old)


def test_open_descriptors_are_not_asked_again(server: TargetServer) -> None:
    with Driver() as drv:
        fd = drv.open(dev(server))
        phase.begin()
        before = server.statistics["accepts"]
        assert drv.pread(fd, 512, 0) == bytes(512)
        assert drv.ioctl(fd, "BLKGETSIZE64") == SIZE
        for act in (
            lambda: drv.open(dev(server)),
            lambda: swd.open(dev(server)),
            lambda: swd.connect(str(server.portal), NAME),
            lambda: swd.discover(str(server.portal)),
        ):
            with pytest.raises(NetworkNotInitialized) as caught:
                act()
            assert caught.value.errno == errno.ENETUNREACH
        assert server.statistics["accepts"] == before
        phase.complete()
        with swd.open(dev(server)) as disk:
            assert disk.size == SIZE


FORK = """
import os, sys
from swd.driver import Driver
from swd.errors import BadDescriptor
drv = Driver()
fd = drv.open(sys.argv[1], os.O_RDWR)
drv.pwrite(fd, b"x" * 512, 0)
child = os.fork()
if child == 0:
    try:
        drv.pread(fd, 512, 0)
    except BadDescriptor:
        sys.exit(0)  # an ordinary exit: destructors and exit handlers run, and must send nothing
    sys.exit(3)
assert os.waitpid(child, 0)[1] == 0
assert drv.pread(fd, 512, 0) == b"x" * 512
print("parent goes on")
drv.close(fd)
"""


def test_a_forked_child_sends_nothing(server: TargetServer) -> None:
    home = str(Path(swd.__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, dev(server)],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "parent goes on\n", "")
    assert server.statistics["logins"] == 1
    assert logouts(server) == 1


class Session:
    """What a pool needs of a session."""

    def __init__(self) -> None:
        self.alive = True
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_pool_counts_its_users() -> None:
    pool, made = SessionPool(), list[Session]()

    def make() -> Session:
        made.append(Session())
        return made[-1]

    first, second = (pool.acquire("key", make) for _ in range(2))  # type: ignore[arg-type]
    assert first is second
    made[0].alive = False
    third = pool.acquire("key", make)  # type: ignore[arg-type]
    assert third is not first
    pool.release(first)
    assert made[0].closed == 0
    pool.release(second)
    assert (made[0].closed, made[1].closed, len(pool)) == (1, 0, 1)
    pool.release(third)
    assert (made[1].closed, len(pool)) == (1, 0)

    def fail() -> Session:
        raise NoSuchDevice("not there")

    with pytest.raises(NoSuchDevice):
        pool.acquire("key", fail)  # type: ignore[arg-type]
    assert len(pool) == 0
