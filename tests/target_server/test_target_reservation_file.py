# SPDX-License-Identifier: Apache-2.0
"""The file that reservations are kept in says the old or the new, whatever becomes of who writes it: killed between any
two of its system calls, out of room in the middle, or with a disk that fails.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swd.errors import MediumError
from swd.target import store
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reservations import Table
from swd.target.store import ReservationFile

NAME = "iqn.2026-01.org.example:a"
NEXUS = NexusId(NAME, b"\x80\0\0\0\0\1", NAME, 1)
OLD, NEW = (Table({NEXUS: key}, aptpl=True) for key in (7, 8))
HOME = str(Path(store.__file__).resolve().parents[2])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    ReservationFile(path).keep("unit", OLD)
    return path


def kept(path: Path) -> Table:
    return ReservationFile(path).load("unit")


KILLED = """
import os, signal, sys
from pathlib import Path
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reservations import Table
from swd.target.store import ReservationFile

path, name = Path(sys.argv[1]), sys.argv[2]
nexus = NexusId(name, b"\\x80\\0\\0\\0\\0\\1", name, 1)
tables = [Table({nexus: key}, aptpl=True) for key in (7, 8)]

def child(step):
    calls = 0
    def counted(function):
        def call(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)
        return call
    file = ReservationFile(path)
    for call in ("open", "fsync", "replace", "close"):
        setattr(os, call, counted(getattr(os, call)))
    file.keep("unit", tables[1])
    os._exit(0)

step, ended = 0, None
while ended != 0:
    step += 1
    ReservationFile(path).keep("unit", tables[0])
    pid = os.fork()
    if not pid:
        child(step)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended in (0, -9), ended
    print(ended, [tables.index(ReservationFile(path).load("unit"))])
"""


def test_killed_at_any_step_it_says_the_old_or_the_new(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(state), NAME], env={**os.environ, "PYTHONPATH": HOME}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    steps = done.stdout.splitlines()
    # Before it is opened, synced, put in its place; then before the folder is opened, synced, closed.
    assert steps == ["-9 [0]"] * 3 + ["-9 [1]"] * 3 + ["0 [1]"], done.stderr


LIMITED = """
import resource, sys
from pathlib import Path
from swd.errors import MediumError
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reservations import Table
from swd.target.store import ReservationFile

file, name = ReservationFile(Path(sys.argv[1])), sys.argv[2]
keys = {NexusId(name, n.to_bytes(6, "big"), name, 1): n for n in range(1, 200)}
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    file.keep("unit", Table(keys, aptpl=True))
except MediumError as error:
    print(error.errno, file.load("unit").keys.values())
"""


def test_a_file_that_is_cut_in_the_middle_does_not_take_its_place(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(state), NAME], env={**os.environ, "PYTHONPATH": HOME}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{errno.EFBIG} dict_values([7])\n", done.stderr
    assert kept(state) == OLD
    assert [each.name for each in state.parent.iterdir()] == ["state"]


def test_what_takes_its_place_is_durable_before_and_the_place_is_behind(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    beside = state.with_name("state.new")

    def fsync(fd: int) -> None:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        assert os.path.samestat(os.fstat(fd), (state.parent if folder else beside).stat())
        if not folder:
            json.loads(beside.read_text())  # all of it is there
        said.append("folder" if folder else "file")

    replace = os.replace

    def replaced(source: Any, target: Any) -> None:
        said.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    ReservationFile(state).keep("unit", NEW)
    assert said == ["file", "replace", "folder"]


def test_what_could_not_be_made_durable_is_taken_back(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its place by then, and whoever asked for it is told that it does not hold."""
    failed: list[int] = []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and not failed:
            failed.append(fd)
            raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", fsync)
    file = ReservationFile(state)
    with pytest.raises(MediumError):
        file.keep("unit", NEW)
    assert failed
    assert file.load("unit") == kept(state) == OLD
    file.keep("unit", NEW)
    assert kept(state) == NEW
