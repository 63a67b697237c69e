# SPDX-License-Identifier: Apache-2.0
"""tools/preflight on machines that lack something: a PATH of our own, a user of no rights, an apt-get that we watch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOOLS = ("sh", "mktemp", "rm", "cat", "id", "tr", "sed", "uname", "ln")
COMPILER = ("gcc", "cc", "as", "ld", "x86_64-linux-gnu-gcc", "aarch64-linux-gnu-gcc")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
THIS_PYTHON = getattr(sys, "_base_executable", sys.executable)  # not the one of a virtual environment
Machine = Callable[..., Path]
Preflight = Callable[..., "subprocess.CompletedProcess[str]"]

APT = """#!/bin/sh
echo "$*" >>"{log}"
case "$*" in *install*) for tool in {tools}; do ln -s "{hidden}/$tool" "{bin}/$tool"; done ;; esac
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def machine(folder: Path) -> Machine:
    """Gives a folder to be the whole PATH: the shell's tools and those that are asked for."""

    def make(*names: str) -> Path:
        path = folder / "bin"
        path.mkdir()
        for name in (*TOOLS, *names):
            if real := shutil.which(name, path=SYSTEM_PATH):
                (path / name).symlink_to(real)
        return path

    return make


@pytest.fixture
def preflight(root: Path, folder: Path) -> Preflight:
    """Runs preflight with nothing in its environment but what is given, as a user of no rights unless told."""

    def run(path: Path | str, *, as_ourselves: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        script = folder / "preflight"
        shutil.copy(root / "tools" / "preflight", script)
        nobody = os.geteuid() == 0 and not as_ourselves
        return subprocess.run(
            ["/bin/sh", str(script)],
            env={"PATH": str(path), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            user=65534 if nobody else None,
            group=65534 if nobody else None,
            extra_groups=[] if nobody else None,
        )

    return run


def system_python() -> str:
    """The name of a Python of the system's own, complete with venv and headers; the tests below hide its parts."""
    for name in ("python3.13", "python3.12", "python3.11", "python3.10"):
        found = shutil.which(name, path="/usr/bin")
        if found and Path(f"/usr/include/{name}/Python.h").exists():
            return name
    pytest.skip("the system has no Python of its own with headers")


def test_a_complete_machine_gets_its_python(preflight: Preflight) -> None:
    done = preflight(SYSTEM_PATH, as_ourselves=True, PYTHON=THIS_PYTHON)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert Path(done.stdout.strip()).is_file()


def test_python_in_the_environment_wins(preflight: Preflight, machine: Machine, folder: Path) -> None:
    """A wrapper that counts: preflight must call it and no other Python."""
    wrapper = folder / "my python"
    wrapper.write_text(f'#!/bin/sh\nexec "{THIS_PYTHON}" "$@"\n')
    wrapper.chmod(0o755)
    (path := machine(*COMPILER)).joinpath("python3.13").symlink_to("/bin/false")
    done = preflight(f"{path}:{SYSTEM_PATH}", as_ourselves=True, PYTHON=str(wrapper))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == Path(THIS_PYTHON).resolve()


def test_a_python_that_is_too_old_is_refused_in_one_line(preflight: Preflight, folder: Path) -> None:
    old = folder / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # what `sys.version_info < (3, 10)` makes of it
    old.chmod(0o755)
    done = preflight(SYSTEM_PATH, PYTHON=str(old))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"preflight: PYTHON={old} is not a Python 3.10 or later; run: make PYTHON=/path/to/python3\n"


def test_no_compiler_is_told_in_one_line_with_the_command(preflight: Preflight, machine: Machine) -> None:
    path = machine(system_python(), "apt-get")
    if not (path / "apt-get").exists():
        (path / "apt-get").symlink_to("/bin/true")
    done = preflight(path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("preflight: missing: a working C compiler (for ")
    assert done.stderr.endswith("run: sudo sh -c 'apt-get update && apt-get install -y gcc libc6-dev'\n")


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo sh -c 'apt-get update && apt-get install -y python3 python3-venv python3-dev gcc libc6-dev'"),
        ("dnf", "sudo dnf install -y python3 python3-devel gcc"),
        ("apk", "sudo apk add python3 python3-dev gcc musl-dev"),
    ],
)
def test_no_python_is_told_in_the_words_of_the_system(
    preflight: Preflight, machine: Machine, manager: str, command: str
) -> None:
    path = machine(*COMPILER)
    (path / manager).symlink_to("/bin/true")
    done = preflight(path)
    assert done.returncode == 1
    assert done.stderr == f"preflight: missing: Python 3.10 or later; run: {command}\n"


def test_a_compiler_that_does_not_compile_is_none(preflight: Preflight, machine: Machine) -> None:
    path = machine(system_python())
    done = preflight(path, CC="/bin/false")
    assert done.returncode == 1
    assert "a working C compiler" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="what root gets is shown as root")
def test_root_gets_what_is_missing(preflight: Preflight, machine: Machine, folder: Path) -> None:
    """apt-get is ours: it notes what it was asked, and 'installs' the compiler into the PATH."""
    path, hidden, log = machine(system_python()), folder / "hidden", folder / "apt.log"
    hidden.mkdir()
    here = [name for name in COMPILER if shutil.which(name, path="/usr/bin")]
    for name in here:
        (hidden / name).symlink_to(f"/usr/bin/{name}")
    (path / "apt-get").write_text(APT.format(log=log, tools=" ".join(here), hidden=hidden, bin=path))
    (path / "apt-get").chmod(0o755)
    done = preflight(path, as_ourselves=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "preflight: installing gcc libc6-dev (apt-get, as root)\n"
    asked = log.read_text().splitlines()
    assert asked == ["-qq update", "-qq -y --no-install-recommends install gcc libc6-dev"]


@pytest.mark.skipif(os.geteuid() != 0, reason="what root gets is shown as root")
def test_root_is_told_when_apt_does_not_help(preflight: Preflight, machine: Machine) -> None:
    path = machine(system_python())
    (path / "apt-get").symlink_to("/bin/false")
    done = preflight(path, as_ourselves=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("preflight: missing: a working C compiler")
