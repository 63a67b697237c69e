# SPDX-License-Identifier: Apache-2.0
"""What only a process of its own can show: signals, pipes that close, full disks, closed descriptors, memory."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swd.cli.stream import CHUNK

Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sparse device of 64 MiB, in a folder of its own."""
    path = tmp_path / "device" / "image"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def under_way(child: subprocess.Popen[bytes]) -> None:
    """Returns when the child has begun to move data: its first bytes have come."""
    assert child.stdout is not None
    assert len(child.stdout.read(1)) == 1


def ended(child: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    assert child.stderr is not None
    said = child.stderr.read()
    return child.wait(timeout=20), said


@pytest.fixture
def reading(spawn: Spawn, image: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`swdctl read` into a pipe that nobody empties: it hangs in a write."""
    with spawn("read", str(image), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as child:
        under_way(child)
        yield child


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_at_once_and_silently(
    reading: subprocess.Popen[bytes], number: signal.Signals, status: int
) -> None:
    reading.send_signal(number)
    assert ended(reading) == (status, b"")


def test_a_reader_that_leaves_is_141_and_silent(reading: subprocess.Popen[bytes]) -> None:
    assert reading.stdout is not None
    reading.stdout.close()
    assert ended(reading) == (141, b"")


def test_help_into_a_pipe_that_is_closed(spawn: Spawn) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with spawn("--help", stdout=writer, stderr=subprocess.PIPE) as child:
        os.close(writer)
        assert ended(child) == (141, b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_copy_leaves_no_file(spawn: Spawn, tmp_path: Path, number: signal.Signals, status: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with spawn("copy", "-", str(folder / "new"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        rest = memoryview(bytes(2 * CHUNK))
        while rest:  # a pipe is smaller than a chunk: when all has gone in, the first chunk has been taken out
            rest = rest[os.write(child.stdin.fileno(), rest) :]
        assert len(list(folder.iterdir())) == 1
        child.send_signal(number)
        assert ended(child) == (status, b"")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("read", "{image}", "-o", "/dev/full"), ("info", "{image}"), ("info", "{image}", "--json"), ("--help",)]
)
def test_a_full_disk_is_enospc_and_one_line(spawn: Spawn, image: Path, words: tuple[str, ...]) -> None:
    named = [word.format(image=image) for word in words]
    with open("/dev/full", "wb") as full, spawn(*named, stdout=full, stderr=subprocess.PIPE) as child:
        status, said = ended(child)
    assert status == errno.ENOSPC
    assert b"No space left on device" in said
    assert said.count(b"\n") == 1


@pytest.mark.parametrize("words", [("info", "./no-such-file"), ("info", "./no-such-file", "--json"), ("no-such-verb",)])
def test_a_full_stderr_does_not_change_the_status(spawn: Spawn, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full, spawn(*words, stdout=subprocess.DEVNULL, stderr=full) as child:
        assert child.wait(timeout=20) == (errno.ENXIO if words[0] == "info" else 2)


def test_a_read_to_a_full_stdout(spawn: Spawn, image: Path) -> None:
    with open("/dev/full", "wb") as full, spawn("read", str(image), stdout=full, stderr=subprocess.PIPE) as child:
        status, said = ended(child)
    assert status == errno.ENOSPC
    assert b"standard output: No space left" in said


def test_a_full_file_system_keeps_no_half_of_a_file(image: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    command = shlex.join([sys.executable, "-m", "swd", "read", str(image), "-o", str(folder / "out")])
    script = f"mount -t tmpfs -o size=12M swd-test {folder} || exit 99; {command}; echo status $?; ls -A {folder}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment, capture_output=True, check=False)
    if done.returncode == 99 or b"unshare" in done.stderr:
        pytest.skip("no right to mount a tmpfs here")
    assert done.stdout.split() == [b"status", str(errno.ENOSPC).encode()]
    assert done.stderr.count(b"\n") == 1
    assert str(folder / "out").encode() in done.stderr


def shell(command: str, environment: dict[str, str]) -> int:
    return subprocess.run(["sh", "-c", command], env=environment, check=False).returncode


def test_closed_descriptors_never_become_somebodys_output(
    image: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(1 << 20))
    write = shlex.join([sys.executable, "-m", "swd", "write", str(image), "-i", str(data), "--verbose"])
    assert shell(f"exec {write} <&- >&- 2>&-", environment) == errno.EBADF  # the bytes went, the answer could not
    assert image.read_bytes() == data.read_bytes() + bytes(63 << 20)
    for words in (("info", "--build"), ("read", str(image)), ("copy", str(image), "-")):
        command = shlex.join([sys.executable, "-m", "swd", *words])
        assert shell(f"exec {command} >&- 2>&-", environment) == errno.EBADF, words


def test_no_file_takes_the_place_of_a_closed_descriptor(tmp_path: Path, environment: dict[str, str]) -> None:
    """The program is `swdctl` with one verb, which opens a file and writes the descriptor's number into it."""
    opened = tmp_path / "opened"
    (tmp_path / "opener.py").write_text(
        f"def opener(call):\n    with open({str(opened)!r}, 'w') as file: file.write(str(file.fileno()))\n"
    )
    program = (
        "import sys; from swd.cli import main; from swd.cli.table import Verb; "
        "main.VERBS = (Verb('opener', 'x', 'opener:opener'),); sys.exit(main.main())"
    )
    path = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    command = shlex.join([sys.executable, "-c", program, "opener"])
    assert shell(f"exec {command} <&- >&- 2>&-", environment | {"PYTHONPATH": path}) == 0
    assert int(opened.read_text()) > 2


def peak(spawn: Spawn, image: Path, length: str) -> int:
    """The most memory, in bytes, that a read of that length took."""
    child = spawn("read", str(image), "--length", length, "-o", "/dev/null", stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow_with_the_length(spawn: Spawn, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(512 << 20)
    assert peak(spawn, large, "512M") - peak(spawn, large, "16M") < 2 * CHUNK


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A portal where nobody speaks iSCSI."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def unit_at(listener: socket.socket) -> str:
    return f"iscsi://127.0.0.1:{listener.getsockname()[1]}/iqn.2026-01.org.example:silent/0"


def test_an_interrupt_does_not_wait_for_a_silent_target(spawn: Spawn, listener: socket.socket) -> None:
    with spawn("info", unit_at(listener), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        peer, _ = listener.accept()
        with peer:
            assert len(peer.recv(48)) == 48  # the login request is on its way, and is never answered
            start = time.monotonic()
            child.send_signal(signal.SIGINT)
            assert ended(child) == (130, b"")
            assert time.monotonic() - start < 3


def test_a_target_that_closes_in_mid_login_is_enxio(spawn: Spawn, listener: socket.socket) -> None:
    with spawn("info", unit_at(listener), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        peer, _ = listener.accept()
        peer.recv(48)
        peer.close()
        status, said = ended(child)
    assert status == errno.ENXIO
    assert 1 <= said.count(b"\n") <= 2


def test_a_crc_kernel_that_is_not_there_is_no_bug_of_swd(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWD_CRC", "md5")
    with spawn("info", "--build", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        status, said = ended(child)
    assert status == errno.EINVAL
    assert said.startswith(b"swdctl: SWD_CRC: no CRC32C kernel 'md5'; there are ")
    assert len(said.splitlines()) <= 2
