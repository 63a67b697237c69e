# SPDX-License-Identifier: Apache-2.0
"""A target that is killed in the middle of work and comes back, does not come back, or comes back as another."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance.conftest import Host, Served, environment, serving
from support import tgt
from support.process import run

import swd
from swd.values import Portal

NAME = "iqn.2026-01.org.example:lost"
MIB = 1 << 20
SIZE = 64 * MIB
QUICK = ("-O", "default_time2wait=0")  # the embedded target agrees to come back at once


class Embedded:
    """An embedded target on files, always at the same portal, that can be killed and started again.

    Each identity belongs to its file: the target derives it from the file's name.
    """

    def __init__(self, stack: ExitStack, _folder: Path, *files: Path) -> None:
        self._stack = stack
        self.files = files
        self._served = self._start("127.0.0.1:0")
        self.url = self._served.url

    def _start(self, portal: str) -> Served:
        luns = [word for path in self.files for word in ("--lun", f"file://{path}")]
        return self._stack.enter_context(serving(Host(), *luns, portal=portal))

    def kill(self) -> None:
        self._served.process.send_signal(signal.SIGKILL)
        self._served.process.wait()

    def stop(self) -> None:
        """It says nothing any more, and its connections stand."""
        self._served.process.send_signal(signal.SIGSTOP)

    def start(self, *files: Path) -> None:
        self.files = files or self.files
        self._served = self._start(self._served.portal)


class Tgt:
    """The same with tgtd: `scsi_id` and `scsi_sn` say which file a unit is, whatever its LUN."""

    def __init__(self, stack: ExitStack, folder: Path, *files: Path) -> None:
        self._folder = folder
        self.files = self._known = files
        self._portal = Portal("127.0.0.1", tgt.free_port())
        stack.callback(lambda: self.kill())
        self.start()
        self.url = f"iscsi://{self._portal}/{NAME}/1"

    def kill(self) -> None:
        self._tgtd.kill()

    def start(self, *files: Path) -> None:
        self.files = files or self.files
        self._tgtd = tgt.start_at(self._folder, self._portal)
        self._tgtd.add_target(NAME, admit=False, DefaultTime2Wait="0")
        for lun, path in enumerate(self.files, 1):
            number = self._known.index(path)
            self._tgtd.add_lun(NAME, lun, path, scsi_id=f"swd-{number}", scsi_sn=f"serial-{number}")
        self._tgtd.admit(NAME)


Target = Embedded | Tgt
BOTH = pytest.mark.parametrize(
    "kind", [pytest.param(Embedded, id="embedded"), pytest.param(Tgt, id="tgt", marks=pytest.mark.tgt)]
)


@pytest.fixture
def kind() -> type[Target]:
    """What a test that does not name both is about."""
    return Embedded


@pytest.fixture
def target(tmp_path: Path, kind: type[Target]) -> Iterator[Callable[..., Target]]:
    with ExitStack() as stack:

        def make(count: int = 1, size: int = SIZE) -> Target:
            paths = [tmp_path / f"lun{number}.img" for number in range(count)]
            for path in paths:
                with path.open("wb") as file:
                    file.truncate(size)
            return kind(stack, tmp_path, *paths)

        yield make


def digest(path: Path) -> str:
    """By a program that has nothing to do with swd."""
    return run("sha256sum", "--binary", str(path)).split()[0]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Polls what another process does; nothing here can be waited for."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        pause.wait(0.01)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


@BOTH
def test_copy_survives_a_kill_in_mid_write(target: Callable[..., Target], tmp_path: Path) -> None:
    made = target()
    source = tmp_path / "source.img"
    source.write_bytes(random.Random(7).randbytes(SIZE))
    copying = subprocess.Popen(
        [sys.executable, "-m", "swd", "copy", "--verify", str(source), made.url, *QUICK],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for share in (8, 24):
        wait_until(lambda share=share: allocated(made.files[0]) > share * MIB or copying.poll() is not None)
        made.kill()
        assert copying.poll() is None, "it was to be killed in mid-write"
        made.start()
    _, err = copying.communicate(timeout=60)
    assert copying.returncode == 0, err
    assert digest(made.files[0]) == digest(source)


@BOTH
def test_a_target_that_does_not_come_back_is_given_up_in_time(target: Callable[..., Target]) -> None:
    made = target()
    with swd.open(made.url, "r+b", replacement_timeout=3) as disk:
        disk.pwrite(bytes(MIB), 0)
        made.kill()
        started = time.monotonic()
        with pytest.raises(swd.ConnectionLost) as caught:
            disk.pwrite(b"x" * MIB, 0)
        assert caught.value.errno == errno.EIO
        assert 3 <= time.monotonic() - started <= 5
        with pytest.raises(swd.ConnectionLost):
            disk.pread(512, 0)


@BOTH
def test_swapped_units_are_stale_and_not_a_byte_is_written(target: Callable[..., Target], tmp_path: Path) -> None:
    made = target(2)
    first, second = made.files
    with swd.open(made.url, "r+b", default_time2wait=0) as disk:
        assert disk.identity
        disk.pwrite(b"a" * 4096, 0)
        disk.flush()
        made.kill()
        before = digest(first), digest(second)
        outcome: list[BaseException] = []

        def write() -> None:
            try:
                disk.pwrite(b"b" * MIB, 0)
            except swd.SwdError as error:
                outcome.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        made.start(second, first)
        writer.join(30)
        assert [type(error) for error in outcome] == [swd.StaleIdentity]
        assert outcome[0].errno == errno.ESTALE  # type: ignore[attr-defined]
        with pytest.raises(swd.StaleIdentity):
            disk.pread(512, 0)
        made.kill()
        assert (digest(first), digest(second)) == before


def test_readers_and_writers_of_one_session_never_notice(target: Callable[..., Target]) -> None:
    made = target()
    rng = random.Random(3)
    with swd.open(made.url, "r+b", default_time2wait=0) as disk:
        blocks = [rng.randbytes(MIB) for _ in range(16)]
        errors: list[BaseException] = []
        done = threading.Event()

        def work(number: int) -> None:
            try:
                while not done.is_set():
                    disk.pwrite(blocks[number], number * MIB)
                    assert disk.pread(MIB, number * MIB) == blocks[number]
            except BaseException as error:  # noqa: BLE001  # shown below
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            made.kill()
            made.start()
            disk.pread(512, 0)
        done.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        disk.flush()
    with made.files[0].open("rb") as file:
        assert [file.read(MIB) for _ in range(4)] == blocks[:4]


def test_ctrl_c_while_the_target_is_away(target: Callable[..., Target]) -> None:
    made = target()
    command = [sys.executable, "-c", AWAY, made.url]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        assert reading.stdin is not None
        assert reading.stdout.readline() == b"open\n"
        made.kill()
        reading.stdin.write(b"go\n")
        reading.stdin.flush()
        assert reading.stdout.readline() == b"reading\n"
        reading.send_signal(signal.SIGINT)
        _, complaint = reading.communicate(timeout=5)
        assert reading.returncode == -signal.SIGINT
        assert complaint.rstrip().endswith(b"KeyboardInterrupt")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_copy_ends_on_a_signal_though_the_target_is_silent(
    target: Callable[..., Embedded], number: signal.Signals, status: int
) -> None:
    made = target(size=4096 * MIB)
    with ExitStack() as stack:
        zeros = stack.enter_context(subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE))
        copying = subprocess.Popen(
            [sys.executable, "-m", "swd", "copy", "-", made.url],
            env=environment(),
            stdin=zeros.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert zeros.stdout is not None
        zeros.stdout.close()  # `cat` ends with the only reader
        wait_until(lambda: allocated(made.files[0]) > 8 * MIB or copying.poll() is not None)
        made.stop()
        started = time.monotonic()
        copying.send_signal(number)
        _, complaint = copying.communicate(timeout=20)
        assert (copying.returncode, complaint) == (status, b"")
        assert time.monotonic() - started < 3


AWAY = """
import os, sys, threading
import swd
disk = swd.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
threading.Timer(0.5, lambda: print("reading", flush=True)).start()
disk.pread(512, 0)
"""


def test_close_while_the_target_is_away(target: Callable[..., Target]) -> None:
    made = target()
    disk = swd.open(made.url)
    made.kill()
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            disk.pread(512, 0)
        except swd.SwdError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(0.5)
    assert reader.is_alive(), "it waits for the target to come back"
    started = time.monotonic()
    disk.close()
    reader.join(5)
    assert time.monotonic() - started < 3
    assert [error.errno for error in outcome] == [errno.EBADF]  # type: ignore[attr-defined]


def test_close_just_after_the_target_died_does_not_wait_for_it(target: Callable[..., Target]) -> None:
    made = target()
    disk = swd.open(made.url)
    made.kill()
    started = time.monotonic()
    disk.close()
    assert time.monotonic() - started < 3
