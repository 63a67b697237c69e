# SPDX-License-Identifier: Apache-2.0
"""The phase file: what makes a reader ignore it, who may write it, and which file decides."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.driver import host, phase, places
from swd.errors import InvalidArgument, NetworkNotInitialized, SwdError
from swd.proto.url import parse_dev
from swd.values import Phase

PRE, ATTEMPTED = Phase.PRE_NETWORK, Phase.NETWORK_ATTEMPTED
NOBODY = 65534
ISCSI = "iscsi://192.0.2.1/iqn.2026-01.org.example:x/0"


@pytest.fixture
def file() -> Path:
    return Path(os.environ["SWD_RUNTIME_DIR"]) / phase.FILE


def change(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps({**content, **changes}))


def test_without_a_file_the_attempt_counts_as_complete() -> None:
    state = phase.show()
    assert (state.phase, state.file, state.since) == (ATTEMPTED, None, None)
    assert "no phase file" in state.evidence
    phase.gate("discover")


def test_begin_and_complete_tell_their_story(file: Path) -> None:
    begun = phase.begin(evidence="a test")
    assert (begun.phase, begun.file, begun.evidence) == (PRE, str(file), "a test")
    assert f"pid {os.getpid()}" in begun.who
    assert begun.expires_in is not None
    assert 299 < begun.expires_in <= 300
    assert file.stat().st_mode & 0o7777 == 0o644
    done = phase.complete()
    assert (done.phase, done.expires_in) == (ATTEMPTED, None)
    assert done.record()["phase"] == "network-attempted"
    assert [
        entry.name for entry in file.parent.iterdir() if "tmp" in entry.name or entry.name.startswith(".phase.json")
    ] == []


@pytest.mark.parametrize("key", ["boot_id", "pid1_start", "net_namespace"])
def test_a_file_of_elsewhere_is_ignored(file: Path, key: str) -> None:
    phase.begin()
    change(file, **{key: "another"})
    state = phase.show()
    assert (state.phase, state.file) == (ATTEMPTED, None)
    assert f"of another {key}" in state.evidence


@pytest.mark.parametrize("key", ["boot_id", "pid1_start", "net_namespace"])
def test_the_identity_is_really_this_hosts(file: Path, key: str) -> None:
    phase.begin()
    if host.LINUX:
        assert json.loads(file.read_bytes())[key]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"phase": "never"},
        {"phase": None},
        {"errno_profile": "12"},
        {"phase_timeout": "300"},
        {"phase_timeout": True},
        {"phase_timeout": -1},
        {"phase_timeout": float("nan")},
        {"since": None},
        {"uptime": 1e18},
        {"who": 7},
        {"evidence": []},
    ],
)
def test_a_malformed_file_is_ignored(file: Path, changes: dict[str, Any]) -> None:
    phase.begin()
    assert phase.current() is PRE
    change(file, **changes)
    assert phase.current() is ATTEMPTED
    assert "malformed" in phase.show().evidence


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode),
    )
)
def test_any_bytes_are_read_without_a_fault(content: bytes) -> None:
    path = Path(os.environ["SWD_RUNTIME_DIR"]) / phase.FILE
    path.write_bytes(content)
    assert phase.current() is ATTEMPTED


def test_deep_nesting_is_malformed_not_a_fault(file: Path) -> None:
    file.write_text("[" * 60000)
    assert phase.current() is ATTEMPTED


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_is_no_regular_file_neither_waits_nor_counts(file: Path, tmp_path: Path, kind: str) -> None:
    phase.begin()
    genuine = file.rename(tmp_path / "elsewhere")
    {"fifo": lambda: os.mkfifo(file), "folder": file.mkdir, "link": lambda: file.symlink_to(genuine)}[kind]()
    assert phase.current() is ATTEMPTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_is_ignored(file: Path) -> None:
    phase.begin()
    os.chown(file, NOBODY, NOBODY)
    assert phase.current() is ATTEMPTED


def test_pre_network_expires_and_complete_does_not(file: Path) -> None:
    phase.begin()
    written = json.loads(file.read_bytes())["uptime"]
    change(file, uptime=written - 299)
    assert phase.current() is PRE
    change(file, uptime=written - 301)
    assert phase.current() is ATTEMPTED
    assert "expired after 300 s" in phase.show().evidence
    phase.complete()
    change(file, uptime=written - 301)
    assert phase.show().file == str(file)


def test_begin_after_complete_needs_force() -> None:
    phase.complete()
    with pytest.raises(SwdError, match="--force") as caught:
        phase.begin()
    assert caught.value.errno == errno.EALREADY
    assert phase.current() is ATTEMPTED
    assert phase.begin(force=True).phase is PRE


def test_begin_twice_and_complete_twice() -> None:
    assert phase.begin().phase is phase.begin().phase is PRE
    first = phase.complete()
    assert phase.complete() == first


def test_begin_takes_profile_and_timeout_from_the_configuration() -> None:
    Path(os.environ["SWD_CONFIG"]).write_text('errno_profile = "11iv3"\nphase_timeout = 7\n')
    state = phase.begin()
    assert (state.errno_profile, state.phase_timeout) == ("11iv3", 7.0)
    Path(os.environ["SWD_CONFIG"]).write_text("")  # the gate goes by the file, not by the configuration
    with pytest.raises(NetworkNotInitialized) as caught:
        phase.gate("connect")
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize(("profile", "number"), [("11iv1", errno.ENETUNREACH), ("11iv3", errno.ENXIO)])
def test_the_errno_of_a_phase_given_by_the_program(profile: str, number: int) -> None:
    with pytest.raises(NetworkNotInitialized) as caught:
        phase.gate(parse_dev(ISCSI), phase=PRE, errno_profile=profile)
    assert caught.value.errno == number
    phase.gate(parse_dev("mem://1M"), phase=PRE)
    phase.begin()
    phase.gate(parse_dev(ISCSI), phase=ATTEMPTED)


@pytest.mark.parametrize(
    ("dev", "gated"),
    [
        (ISCSI, True),
        ("255/0/0.0.0.0", True),
        ("wwid:naa.6001405000000000", True),
        ("lvm://vg/lv", True),
        ("fault://?plan=p&on=iscsi%3A%2F%2F192.0.2.1%2Fiqn.2026-01.org.example%3Ax%2F0", True),
        ("fault://?plan=p&on=mem%3A%2F%2F1M", False),
        ("mem://1M", False),
        ("file:///tmp/x", False),
        ("./x", False),
        ("isw:", False),
    ],
)
def test_which_forms_are_gated(dev: str, gated: bool) -> None:
    assert phase.is_gated(parse_dev(dev)) is gated


def test_a_dev_that_was_not_parsed_does_not_slip_through() -> None:
    with pytest.raises(InvalidArgument):
        phase.gate(ISCSI, phase=PRE)


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWD_RUNTIME_DIR", str(tmp_path / "file" / "run"))
    for act in (phase.begin, phase.complete):
        with pytest.raises(SwdError) as caught:
            act()
        assert caught.value.errno == errno.ENOTDIR
    assert phase.current() is ATTEMPTED


# --- other users, other processes ----------------------------------------------------------------------------------


def run(code: str, *, user: int | None = None, **environment: str) -> str:
    """Output of a script that has `phase` and `places`; `SWD_*` of this test unless replaced ("" is unset).

    It becomes another user after its imports: the interpreter itself may lie where only root can read.
    """
    home = str(Path(phase.__file__).resolve().parents[2])
    become = (
        f"os.setgroups([])\nos.setresgid({user}, {user}, {user})\nos.setresuid({user}, {user}, {user})\n"
        if user
        else ""
    )
    imports = "import errno, os\nfrom swd.driver import config, phase, places\nfrom swd.errors import SwdError\n"
    script = f"{imports}phase.show()\n{become}{code}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": home, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


AS_USER = """
from pathlib import Path
places.HOST_RUNTIME = Path({host!r})
def attempt(act):
    try:
        return act().phase.name
    except SwdError as error:
        return errno.errorcode[error.errno]
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own lie below one that it keeps to itself."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_user_reads_the_hosts_phase_first_and_cannot_change_it(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = shared / "user"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    code = AS_USER.format(host=str(shared / "host"))
    user = {"user": NOBODY, "SWD_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": str(own), "SWD_CONFIG": os.devnull}
    show = code + "print(phase.show().phase.name, phase.show().file)"

    assert run(show, **user) == "NETWORK_ATTEMPTED None"  # type: ignore[arg-type]
    assert run(code + "print(attempt(phase.begin))", **user) == "PRE_NETWORK"  # type: ignore[arg-type]
    assert run(show, **user) == f"PRE_NETWORK {own}/swd/phase.json"  # type: ignore[arg-type]
    assert (own / "swd").stat().st_mode & 0o777 == 0o700

    monkeypatch.setenv("SWD_RUNTIME_DIR", str(shared / "host"))
    phase.complete()
    assert run(show, **user) == f"NETWORK_ATTEMPTED {shared}/host/phase.json"  # type: ignore[arg-type]
    forced = "print(attempt(phase.begin), attempt(lambda: phase.begin(force=True)))"
    assert run(code + forced, **user) == "EALREADY EACCES"  # type: ignore[arg-type]
    phase.begin(force=True)
    assert run(code + "print(attempt(phase.complete))", **user) == "EACCES"  # type: ignore[arg-type]
    assert phase.current() is PRE


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_read_only_folder(shared: Path) -> None:
    code = AS_USER.format(host="/nowhere") + "print(attempt(phase.begin), phase.current().name)"
    assert run(code, user=NOBODY, SWD_RUNTIME_DIR=str(shared), SWD_CONFIG=os.devnull) == "EACCES NETWORK_ATTEMPTED"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_temporary_folder_that_somebody_else_made_is_refused(shared: Path) -> None:
    shared.chmod(0o1777)
    (shared / f"swd-{NOBODY}").mkdir()
    (shared / f"swd-{NOBODY}").chmod(0o777)
    code = AS_USER.format(host="/nowhere") + "print(attempt(phase.begin))"
    words = {"SWD_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": "", "TMPDIR": str(shared), "SWD_CONFIG": os.devnull}
    assert run(code, user=NOBODY, **words) == "EACCES"


def test_temporary_places_below_var_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWD_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    if host.LINUX:
        assert places.runtime_folder() == Path(f"/tmp/swd-{NOBODY}")
    assert places.runtime_folders()[0] == Path("/run/swd")


def test_a_begin_cannot_undo_a_complete_of_the_same_moment(file: Path) -> None:
    """Many processes at once: each file that a reader sees is whole, and after a `complete` no `begin` has won."""
    home = str(Path(phase.__file__).resolve().parents[2])
    script = (
        "import sys\nfrom swd.driver import phase\nfrom swd.errors import SwdError\nsys.stdin.read()\n"
        "for _ in range(40):\n    try:\n        getattr(phase, sys.argv[1])()\n    except SwdError as error:\n"
        "        assert error.errno in (114, 37), error\n"
        "    assert phase.show().file, phase.show()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, act], env={**os.environ, "PYTHONPATH": home}, stdin=subprocess.PIPE
        )
        for act in ("begin", "begin", "complete")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert phase.show().phase is ATTEMPTED


def test_writers_take_turns(file: Path) -> None:
    """While one writer is between reading and writing, another waits; then it sees what the first one wrote."""
    home = str(Path(phase.__file__).resolve().parents[2])
    script = "from swd.driver import phase\nfrom swd.errors import SwdError\nprint('go', flush=True)\n"
    script += "try:\n    phase.begin()\nexcept SwdError as error:\n    print(error.errno)\n"
    with phase._writing() as held:
        process = subprocess.Popen(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": home}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        phase._write(held, ATTEMPTED, "11iv1", 300.0, "the first writer")
    assert process.communicate(timeout=60)[0] == f"{errno.EALREADY}\n"
    assert phase.show().evidence == "the first writer"
