# SPDX-License-Identifier: Apache-2.0
"""What a host remembers: numbers that stay, many processes at once, files that cannot be used, and forks."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.driver import holders, registry
from swd.driver.registry import Registry, hardware_path
from swd.driver.registry_schema import STEPS, VERSION
from swd.errors import NoSuchDevice
from swd.proto import lun as lun_rules
from swd.proto.dev import HardwarePath
from swd.values import Portal

NAME = "iqn.2026-01.org.example:known"
STRONG = "naa.6001405000000000000000000000abcd"
HOME = str(Path(registry.__file__).resolve().parents[2])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / registry.FILE


@pytest.fixture
def memory(path: Path) -> Registry:
    return Registry(path)


def portal(number: int) -> Portal:
    return Portal("192.0.2.1", 3260 + number)


@given(instance=st.integers(0, 999), number=st.integers(0, lun_rules.MAX_NUMBER))
def test_a_hardware_path_spells_instance_and_lun(instance: int, number: int) -> None:
    path = hardware_path(instance, lun_rules.field(number))
    assert path is not None
    assert (path.session, path.number) == (instance, number)
    assert path.target < 16
    assert path.lun < 8


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0.0.0"), (7, "0.0.7"), (8, "0.1.0"), (127, "0.15.7"), (128, "1.0.0"), (16383, "127.15.7")]
)
def test_bus_target_and_lun(number: int, text: str) -> None:
    assert str(hardware_path(4, lun_rules.field(number))) == f"255/0/4.{text}"


@pytest.mark.parametrize("field", [0x4001000000000000, 0x0001000200000000, 0xC101000000000000])
def test_a_field_that_no_number_spells_has_no_path(field: int) -> None:
    assert hardware_path(0, field) is None


def test_an_instance_is_the_smallest_free_number_and_stays(memory: Registry, path: Path) -> None:
    assert [memory.instance(NAME, portal(n)) for n in range(3)] == [0, 1, 2]
    assert memory.instance("iqn.2026-01.org.example:other", portal(0)) == 3
    memory.forget(NAME)
    again = Registry(path)  # as after a restart
    assert again.instance("iqn.2026-01.org.example:other", portal(0)) == 3
    assert [again.instance(NAME, portal(n)) for n in (7, 8, 9, 10)] == [0, 1, 2, 4]
    assert again.instance(NAME, Portal("192.0.2.1", 3267, tpgt=5)) == 0
    assert not again.in_memory


ALLOCATE = """
import sys, json
from pathlib import Path
from swd.driver.registry import Registry
from swd.values import Portal
sys.stdin.readline()
memory = Registry(Path(sys.argv[1]))
names = ["iqn.2026-01.org.example:shared", "iqn.2026-01.org.example:" + sys.argv[2]]
ways = [(names[n & 1], Portal("192.0.2.1", 1000 + n)) for n in range(10)]
print(json.dumps([[*way, memory.instance(*way)] for way in ways], default=str), memory.in_memory)
"""


def test_processes_that_allocate_at_once_get_numbers_of_their_own(path: Path) -> None:
    command = [sys.executable, "-c", ALLOCATE, str(path)]
    environment = {**os.environ, "PYTHONPATH": HOME}
    processes = [
        subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for n in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    numbers: dict[tuple[str, str], set[int]] = {}
    for process in processes:
        answer, in_memory = process.communicate(timeout=60)[0].rsplit(maxsplit=1)
        assert (process.returncode, in_memory) == (0, "False")
        for target, where, number in json.loads(answer):
            numbers.setdefault((target, where), set()).add(number)
    assert all(len(found) == 1 for found in numbers.values())
    assert sorted(number for found in numbers.values() for number in found) == list(range(35))


def test_units_are_found_by_path_and_by_strong_identity(memory: Registry) -> None:
    for n, strong in enumerate((True, True, False)):
        memory.remember(memory.instance(NAME, portal(n)), lun_rules.field(300), STRONG, strong, 1 << 40, 512)
    found = memory.by_path(HardwarePath(1, 2, 5, 4))
    assert found is not None
    assert str(found.dev) == f"iscsi://192.0.2.1:3261/{NAME}/300"
    assert (found.size, found.block_size, found.strong) == (1 << 40, 512, True)
    assert [unit.instance.number for unit in memory.by_identity(STRONG)] == [1, 0]
    assert memory.by_path(HardwarePath(5, 0, 0, 0)) is None


def test_every_sam_field_is_kept(memory: Registry) -> None:
    fields = [0, 0x40FF000000000000, 0xC101000000000000, (1 << 64) - 1]
    for field in fields:
        memory.remember(memory.instance(NAME, portal(0)), field, "unnamed", False, 512, 512)
    assert [unit.lun for unit in memory.units()] == fields


def test_stories_are_kept_until_they_are_forgotten(memory: Registry, path: Path) -> None:
    memory.instance(NAME, portal(0))
    memory.want(NAME)
    memory.asked(portal(9))
    memory.note_error(NAME, NoSuchDevice("nobody " + "there" * 1000))
    memory.save_statistics(NAME, {"logins": 3})
    again = Registry(path)
    assert (again.wanted(), again.targets(), again.addresses()) == ([NAME], [NAME], [portal(9)])
    assert len(again.errors()[NAME]) == registry.MAX_REASON
    assert again.statistics(NAME) == {"logins": 3}
    again.forget(NAME)
    assert (again.wanted(), again.targets(), again.errors(), again.statistics(NAME)) == ([], [], {}, {})


def test_reading_makes_no_file(memory: Registry, path: Path) -> None:
    assert (memory.units(), memory.wanted()) == ([], [])
    assert not path.exists()


# --- versions -----------------------------------------------------------------------------------------------------


def made_by_hand(path: Path, version: int) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db, db:
        for statement in STEPS[0]:
            db.execute(statement)
        db.execute("INSERT INTO instances VALUES (5, ?, '192.0.2.1', 3260)", (NAME,))
        db.execute(f"PRAGMA user_version={version}")


def test_a_file_of_version_1_is_brought_up(memory: Registry, path: Path) -> None:
    made_by_hand(path, 1)
    memory.want(NAME)
    assert (memory.instance(NAME, portal(0)), memory.wanted(), memory.in_memory) == (5, [NAME], False)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


# --- files that cannot be used ------------------------------------------------------------------------------------


def newer(path: Path) -> None:
    made_by_hand(path, VERSION + 1)


def corrupt(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)


def unwritable(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize("spoil", [newer, corrupt, unwritable, a_folder])
def test_a_file_that_cannot_be_used_costs_one_warning(
    memory: Registry, path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with caplog.at_level(logging.WARNING):
        assert [memory.instance(NAME, portal(n)) for n in range(3)] == [0, 1, 2]
        memory.want(NAME)
    assert (memory.wanted(), memory.in_memory) == ([NAME], True)
    assert [record.name for record in caplog.records] == ["swd.driver"]
    assert str(path) in caplog.text
    assert before is None or path.read_bytes() == before


@pytest.fixture
def locked(memory: Registry, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "BUSY", 0.05)
    memory.instance(NAME, portal(6))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.usefixtures("locked")
def test_a_locked_file_holds_up_nobody_and_its_content_is_still_known(
    memory: Registry, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert memory.instance(NAME, portal(7)) == 1
    assert memory.instance(NAME, portal(6)) == 0
    assert memory.in_memory
    assert len(caplog.records) == 1
    assert "locked" in caplog.text
    assert len(Registry(path).instances()) == 1


SMALL = """
set -e
mount -t tmpfs -o size=256k swd-test "$1" || exit 99
"$2" -c "$3" "$1/registry.sqlite3" fill
dd if=/dev/zero of="$1/full" bs=4k 2>/dev/null || true
exec "$2" -c "$3" "$1/registry.sqlite3" use
"""
ON_SMALL = """
import sys
from pathlib import Path
from swd.driver.registry import Registry
from swd.values import Portal
memory = Registry(Path(sys.argv[1]))
if sys.argv[2] == "fill":
    memory.instance("iqn.2026-01.org.example:kept", Portal("h", 1))
else:
    print(len(memory.instances()), memory.instance("iqn.2026-01.org.example:kept", Portal("h", 1)))
    print(memory.instance("iqn.2026-01.org.example:new", Portal("h", 2)), memory.in_memory)
"""


@pytest.mark.netns  # who may make namespaces may mount
def test_on_a_full_disk_what_was_known_is_known(tmp_path: Path) -> None:
    """There is no room for the shared memory that even a reader of WAL needs."""
    command = ["unshare", "-m", "sh", "-c", SMALL, "sh", str(tmp_path), sys.executable, ON_SMALL]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": HOME}, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1 0\n1 True\n", done.stderr
    assert done.stderr.count("\n") == done.stderr.count("cannot be used") == 1


KILLED = """
import sys
from pathlib import Path
from swd.driver.registry import Registry
from swd.values import Portal
memory, n = Registry(Path(sys.argv[1])), 0
while True:
    n += 1
    number = memory.instance("iqn.2026-01.org.example:k", Portal(sys.argv[2], n))
    print(n, "kept in memory" if memory.in_memory else number, flush=True)  # the other may hold the lock for too long
"""


def test_processes_killed_in_a_transaction_leave_all_that_they_committed(path: Path) -> None:
    """SIGKILL wherever they are, two of them at a time, four times over; the file is whole, and nobody waits."""
    promised: dict[tuple[str, int], int] = {}
    for round_ in range(4):
        names = [f"h{round_}{side}" for side in "ab"]
        words = [[sys.executable, "-c", KILLED, str(path), name] for name in names]
        env = {**os.environ, "PYTHONPATH": HOME}
        writers = [subprocess.Popen(each, env=env, stdout=subprocess.PIPE, text=True) for each in words]
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(10 + round_):
                assert writer.stdout.readline()
        for name, writer in zip(names, writers, strict=True):
            writer.kill()
            out, _ = writer.communicate()
            pairs = [line.split() for line in out.splitlines()[:-1]]  # the last line may be cut
            promised.update({(name, int(n)): int(kept[0]) for n, *kept in pairs if kept[0] != "kept"})
    after = Registry(path)
    found = {(way.portal.host, way.portal.port): way.number for way in after.instances()}
    assert promised.items() <= found.items()
    assert len(set(found.values())) == len(found) >= 40
    after.instance(NAME, portal(1))
    assert not after.in_memory
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


HALF = """
import os, signal, sys
from pathlib import Path
from swd.driver.registry import Registry
def work(db):
    db.execute("PRAGMA cache_size=1")  # so that what is changed goes out of memory long before COMMIT
    db.execute("DELETE FROM instances")
    for n in range(3000):
        db.execute("INSERT INTO errors VALUES (?, 5, 'half of something', 0)", (f"subject {n}",))
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyError("half way")
try:
    Registry(Path(sys.argv[1]))._run(work, write=True)
except KeyError:
    sys.exit(7)
"""


@pytest.mark.parametrize(("end", "status"), [("kill", -9), ("raise", 7)])
def test_half_a_transaction_is_none(memory: Registry, path: Path, end: str, status: int) -> None:
    """Its pages have left the process, but for the last; this is what the write-ahead log is for."""
    before = [memory.instance(NAME, portal(n)) for n in range(5)]
    env = {**os.environ, "PYTHONPATH": HOME}
    done = subprocess.run([sys.executable, "-c", HALF, str(path), end], env=env, timeout=60)
    assert done.returncode == status
    if end == "kill":
        assert sum(each.stat().st_size for each in path.parent.iterdir()) > 200_000  # they really have
    after = Registry(path)
    assert [way.number for way in after.instances()] == before
    assert after.errors() == {}
    assert [after.instance(NAME, portal(n)) for n in range(6)] == [*before, 5]
    assert not after.in_memory
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_who_reads_holds_up_nobody_who_writes(memory: Registry, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what he reads changed under him: the other merit of the write-ahead log."""
    monkeypatch.setattr(registry, "BUSY", 0.05)
    memory.instance(NAME, portal(0))
    count = "SELECT count(*) FROM instances"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        assert db.execute(count).fetchone() == (1,)
        assert memory.instance(NAME, portal(1)) == 1
        assert not memory.in_memory
        assert db.execute(count).fetchone() == (1,)
        db.execute("COMMIT")
        assert db.execute(count).fetchone() == (2,)


# --- forks --------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading
from pathlib import Path
from swd.driver.registry import Registry
from swd.values import Portal
memory, stop = Registry(Path(sys.argv[1])), threading.Event()
def work():
    while not stop.is_set():
        memory.want("iqn.2026-01.org.example:x")
thread = threading.Thread(target=work)
thread.start()
bad = 0
for n in range(30):
    child = os.fork()
    if child == 0:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        held = any("sqlite3" in link for link in links)
        memory.instance("iqn.2026-01.org.example:y", Portal("h", 1 + n))
        os._exit(held or memory.in_memory)
    bad += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
stop.set()
thread.join()
print(bad, sorted(way.number for way in memory.instances()) == list(range(30)))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc for the open files")
def test_no_handle_survives_a_fork(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0 True\n", "")


# --- holders ------------------------------------------------------------------------------------------------------


def test_a_holder_is_seen_while_it_lives_and_no_longer() -> None:
    with holders.holding("a mount", [NAME]):
        assert holders.living(NAME) == [holders.Holder(os.getpid(), "a mount", (NAME,))]
        assert holders.living("iqn.2026-01.org.example:other") == []
    assert holders.living() == []


def test_the_record_of_a_killed_holder_deceives_nobody() -> None:
    code = (
        "import sys; from swd.driver import holders\n"
        f"with holders.holding('x', [{NAME!r}]): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": HOME},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert [holder.pid for holder in holders.living(NAME)] == [process.pid]
    process.kill()
    process.communicate()
    assert holders.living(NAME) == []
