# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong, and what goes wrong under him: the right errno, one or two lines, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acceptance.conftest import Host, Served, environment, serving

import swd
from swd.driver import Driver

NAME = "iqn.2026-01.org.example:t"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(Host(), "--lun", "mem://8M") as target:
        yield target


def complaint(ended: subprocess.CompletedProcess[bytes], number: int) -> str:
    assert ended.returncode == number, ended
    assert ended.stdout == b""
    text = ended.stderr.decode()
    assert 1 <= len(text.splitlines()) <= 2, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("dev", "number", "words"),
    [
        ("iscsi://127.0.0.1/" + NAME, errno.EINVAL, "LUN"),
        ("iscsi://127.0.0.1/" + NAME + "/0?header_digets=none", errno.EINVAL, "header_digest"),
        ("iscsi://127.0.0.1/" + NAME + "/0?timeout=1&timeout=2", errno.EINVAL, "timeout"),
        ("iscsi://127.0.0.1/" + NAME + "/0?timeout=soon", errno.EINVAL, "timeout"),
        ("iscsi://127.0.0.1/" + NAME + "/0?connections=2", errno.EOPNOTSUPP, "connections"),
        ("iscsi://127.0.0.1/" + NAME + "/16384", errno.EINVAL, "LUN"),
        ("iscsi://127.0.0.1/no name/0", errno.EINVAL, "name"),
        ("iscsi://127.0.0.1:99999/" + NAME + "/0", errno.EINVAL, "port"),
        ("iscsi://no-such-host.invalid/" + NAME + "/0", errno.ENXIO, "no-such-host.invalid"),
        ("iscsi://127.0.0.1:1/" + NAME + "/0", errno.ENXIO, "refused"),
        ("nvme://x/y", errno.ENODEV, "nvme"),
        ("lvm://vg/lv", errno.ENXIO, "is not active"),
        ("sda", errno.EINVAL, "/"),
        ("mem://", errno.EINVAL, "size"),
        ("mem://1M?block_size=1000", errno.EINVAL, "block_size"),
        ("./no-such-file.img", errno.ENXIO, "no-such-file.img"),
    ],
)
def test_devices_that_cannot_be(here: Host, dev: str, number: int, words: str) -> None:
    assert words in complaint(here.swdctl("info", dev), number)


def test_target_and_unit_that_are_not_there(here: Host, served: Served) -> None:
    assert "9" in complaint(here.swdctl("info", f"iscsi://{served.portal}/{served.name}/9"), errno.ENXIO)
    assert "nobody" in complaint(here.swdctl("info", f"iscsi://{served.portal}/{served.name}-nobody/0"), errno.ENXIO)


def test_offset_past_the_end(here: Host, served: Served, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_bytes(b"precious")
    ended = here.swdctl("read", served.url, "--offset", "16M", "--length", "512", "-o", str(output))
    assert ended.returncode != 0
    assert output.read_bytes() == b"precious", "what was there must stay until the new content is complete"
    source = tmp_path / "big"
    source.write_bytes(os.urandom(1 << 20))
    before = here.swdctl("read", served.url).stdout
    complaint(here.swdctl("write", served.url, "--offset", "7680K", "-i", str(source), "--overwrite"), errno.ENOSPC)
    assert here.swdctl("read", served.url).stdout == before, "nothing may be written of what does not fit"


def test_eight_scans_at_once_with_one_registry_say_the_same(here: Host, served: Served) -> None:
    command = here.command(sys.executable, "-m", "swd", "scan", served.portal, "--json")
    scans = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) for _ in range(8)]
    answers = [scan.communicate(timeout=60)[0] for scan in scans]
    assert [scan.returncode for scan in scans] == [0] * 8
    assert set(answers) == {here.swdctl("scan", "--json").stdout}
    known = json.loads(here.swdctl("list", "--json").stdout)
    assert [list(target["portals"]) for target in known["targets"]] == [["0"]]


def test_unaligned_access_through_a_descriptor(served: Served) -> None:
    with Driver() as driver:
        fd = driver.open(served.url, os.O_RDWR)
        for call in (
            lambda: driver.pread(fd, 100, 0),
            lambda: driver.pread(fd, 512, 1),
            lambda: driver.pwrite(fd, b"x", 0),
            lambda: driver.pwrite(fd, bytes(512), 7),
        ):
            with pytest.raises(swd.SwdError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL
        assert driver.pread(fd, 512, 0) == bytes(512)


@contextmanager
def closes_after(received: int) -> Iterator[int]:
    """A portal that reads some bytes of a login and closes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the test is over
            with connection:
                connection.recv(received)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("received", [1, 48, 4096])
def test_target_that_closes_in_mid_login(here: Host, received: int) -> None:
    with closes_after(received) as port:
        assert f"127.0.0.1:{port}" in complaint(here.swdctl("info", f"iscsi://127.0.0.1:{port}/{NAME}/0"), errno.ENXIO)


def test_silent_target_ends_at_login_timeout(here: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"iscsi://127.0.0.1:{listener.getsockname()[1]}/{NAME}/0"
        assert "silent" in complaint(here.swdctl("info", url, "-O", "login_timeout=0.3"), errno.ENXIO)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk(here: Host, served: Served) -> None:
    complaint(here.swdctl("read", served.url, "-o", "/dev/full"), errno.ENOSPC)


def test_usage(here: Host) -> None:
    for words in (["frobnicate"], ["read"], ["info", "mem://1M", "extra"], ["read", "mem://1M", "--length", "many"]):
        ended = here.swdctl(*words)
        assert ended.returncode in (2, errno.EINVAL), words
        assert b"Traceback" not in ended.stderr


def test_destructive_verbs_look_first(here: Host, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    image = bytearray(8 << 20)
    image[510:512] = b"\x55\xaa"
    image[450] = 0x83  # a partition: MBR
    disk.write_bytes(image)
    source = tmp_path / "source"
    source.write_bytes(b"\0" * 512)
    for words in (["write", str(disk), "-i", str(source)], ["copy", "mem://8M", str(disk)]):
        assert "--overwrite" in complaint(here.swdctl(*words), errno.EBUSY)
        assert disk.read_bytes() == image
    assert here.swdctl("write", str(disk), "-i", str(source), "--overwrite").returncode == 0
