# SPDX-License-Identifier: Apache-2.0
"""One session and many threads, many sessions one after another, a process that forks: nothing is mixed up or left."""

from __future__ import annotations

import array
import os
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import served
from support.process import Watched

import swd
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Plan

NAME = "iqn.2026-01.org.example:shared"
SIZE = 16 << 20
THREADS = 8
SHARE = SIZE // THREADS


@pytest.fixture(params=["plain", "digests and R2T"])
def server(request: pytest.FixtureRequest) -> Iterator[TargetServer]:
    small = Limits(max_recv_data_segment_length=8192, max_burst_length=32768, initial_r2t=True, immediate_data=False)
    demanding = request.param != "plain"
    config = TargetConfig(
        NAME,
        {0: Lun(RamMedium(SIZE)), 1: Lun(RamMedium(SIZE), block_size=4096)},
        header_digest=("crc32c",) if demanding else ("none",),
        data_digest=("crc32c",) if demanding else ("none",),
        limits=small if demanding else Limits(),
        queue_depth=16,  # fewer than the threads want at times: the window closes
    )
    with TargetServer([config]) as server:
        yield server


def work(disk: swd.Disk, number: int, share: int = SHARE, rounds: int = 60) -> bytes:
    """Writes, reads and flushes at random places of one thread's share, against a copy in memory; returns the copy."""
    chance, base = random.Random(number), number * share
    model = bytearray(disk.pread(share, base))
    for _ in range(rounds):
        length = chance.choice((1, 511, 4096, 8192, 65536, 300_000))
        at = chance.randrange(share - length)
        what = chance.random()
        if what < 0.5:
            model[at : at + length] = chance.randbytes(length)
            disk.pwrite(model[at : at + length], base + at)
        elif what < 0.9:
            assert disk.pread(length, base + at) == model[at : at + length]
        else:
            disk.flush()
    offsets = array.array("q", (base + at for at in range(0, share, 4096)))
    assert disk.read_many(offsets, 4096, queue_depth=8).tobytes() == model
    return bytes(model)


@pytest.mark.parametrize("lun", [0, 1])
def test_threads_share_a_session_and_every_byte_is_right(server: TargetServer, lun: int) -> None:
    with swd.connect(str(server.portal), NAME) as session, session.unit(lun) as disk:
        with ThreadPoolExecutor(THREADS) as pool:
            models = list(pool.map(lambda number: work(disk, number), range(THREADS)))
        assert disk.pread(SIZE, 0) == b"".join(models)
        assert session.statistics["open_tasks"] == 0
        assert server.statistics["logins"] == len(server.sessions) == 1
    assert server.statistics["pdus_in"]["LOGOUT_REQUEST"] == 1
    assert server.statistics["protocol_errors"] == server.statistics["digest_errors"] == 0


def test_more_threads_than_the_target_takes_commands(server: TargetServer) -> None:
    """32 at once, with a queue of 16; half of them on blocks of 4 KiB, where most is read first."""
    share = SIZE // 32
    with swd.connect(str(server.portal), NAME) as session, session.unit(0) as small, session.unit(1) as large:
        disks = [small, large] * 16
        with ThreadPoolExecutor(32) as pool:
            models = list(pool.map(lambda number: work(disks[number], number, share, 25), range(32)))
        for number, model in enumerate(models):
            assert disks[number].pread(share, number * share) == model
        assert session.statistics["open_tasks"] == session.statistics["recoveries"] == 0
        assert server.statistics["logins"] == len(server.sessions) == 1
    assert server.statistics["protocol_errors"] == server.statistics["digest_errors"] == 0


def test_more_threads_than_the_window_holds_while_it_is_full() -> None:
    """A command that is sent beyond the window is ignored, and would be overdue."""
    config = TargetConfig(NAME, {0: Lun(RamMedium(32 * 4096))}, queue_depth=16)
    with (
        TargetServer([config], faults=Plan([Fault("slow", command="READ", seconds=0.02)])) as server,
        swd.connect(str(server.portal), NAME, timeout=4) as session,
        session.unit(0) as disk,
    ):

        def reads(number: int) -> bool:
            return all(disk.pread(4096, number * 4096) == bytes(4096) for _ in range(8))

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(reads, range(32)))
        assert session.statistics["timeouts"] == session.statistics["recoveries"] == 0
        assert server.statistics["faults"] == {"slow": 8 * 32}


def test_pings_and_text_go_between_the_data(server: TargetServer) -> None:
    with swd.connect(str(server.portal), NAME) as session, session.unit(0) as disk:
        data = os.urandom(4 << 20)
        stop = threading.Event()

        def talk(number: int) -> int:
            rounds = 0
            while not stop.is_set():
                assert session.ping(bytes([number]) * number) == bytes([number]) * number
                assert session.text({"SendTargets": ""})[0] == ("TargetName", NAME)
                rounds += 1
            return rounds

        with ThreadPoolExecutor(3) as pool:
            talkers = [pool.submit(talk, number) for number in (1, 2)]
            try:
                for _ in range(4):
                    disk.pwrite(data, 0)
                    assert disk.pread(len(data), 0) == data
            finally:
                stop.set()
            assert all(talker.result() > 0 for talker in talkers)


def test_nothing_but_the_keeper_is_left() -> None:
    with served.serving("--lun", "mem://1M") as target:
        swd.connect(str(target.portal), target.name).close()  # the keeper begins with the first session
        threads, descriptors = set(threading.enumerate()), os.listdir("/proc/self/fd")
        with swd.connect(str(target.portal), target.name) as session, session.unit(0) as disk:
            disk.pwrite(b"x" * 4096, 0)
            assert session.ping(b"x") == b"x"
        assert set(threading.enumerate()) == threads
        assert "swd-keeper" in {thread.name for thread in threads}
        assert os.listdir("/proc/self/fd") == descriptors
        with pytest.raises(swd.SwdError):
            swd.connect(str(target.portal), "iqn.2026-01.org.example:unknown")
        assert os.listdir("/proc/self/fd") == descriptors


def test_a_thousand_sessions_one_after_another_leave_nothing() -> None:
    with served.serving("--lun", "mem://1M") as target:
        portal = str(target.portal)
        swd.connect(portal, target.name).close()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(1000):
            swd.connect(portal, target.name).close()
        assert len(os.listdir("/proc/self/fd")) == before
        with swd.connect(portal, target.name) as session:
            assert session.ping(b"and on") == b"and on"
        counts = target.stop()
    assert counts["logins"] == counts["accepts"] == counts["pdus_in"]["LOGOUT_REQUEST"] == 1002
    assert counts["sessions_open"] == counts["reinstatements"] == 0


FORKS = """
import errno, os, sys, threading
import swd

session = swd.connect(sys.argv[1], sys.argv[2])
disk = session.unit(0)
disk.pwrite(b"parent" * 1000, 0)
busy, failed = threading.Event(), []

def work():
    for round in range(200):
        if disk.pread(6000, 0) != b"parent" * 1000:
            failed.append(round)
        busy.set()

def refused(call):
    try:
        call()
    except swd.SwdError as error:
        return error.errno == errno.EBADF
    return False

thread = threading.Thread(target=work)
thread.start()
busy.wait()
pid = os.fork()
if pid == 0:
    calls = [lambda: disk.pread(512, 0), lambda: disk.pwrite(b"child!", 0), disk.flush, session.ping,
             lambda: session.text({"SendTargets": ""}), lambda: session.execute(bytes(6), lun=0),
             lambda: session.submit(bytes(6), lun=0), lambda: session.lun_reset(0)]
    answers = [refused(call) for call in calls]
    try:
        session.close()
    except swd.SwdError:
        pass
    print("child", answers == [True] * len(calls), answers, flush=True)
    sys.exit(0)          # with all that an exit does
assert os.waitpid(pid, 0)[1] == 0
thread.join()
print("parent", failed == [], disk.pread(6, 0) == b"parent", flush=True)
session.close()
"""


def test_a_forked_child_can_do_nothing_and_the_parent_goes_on() -> None:
    with served.serving("--lun", "mem://1M") as target:
        process = Watched(sys.executable, "-c", FORKS, str(target.portal), target.name)
        assert process.finish() == 0, "\n".join(process.lines)
        said = [line for line in process.lines if line.startswith(("child", "parent"))]
        assert said[0].startswith("child True"), said
        assert said[1] == "parent True True"
        counts = target.stop()
    assert counts["accepts"] == counts["logins"] == 1
    assert counts["pdus_in"]["LOGOUT_REQUEST"] == 1  # the parent's; the child said nothing
    assert "TASK_MANAGEMENT_REQUEST" not in counts["pdus_in"]
    assert counts["protocol_errors"] == 0
