# SPDX-License-Identifier: Apache-2.0
"""The network phase on a host where the network works all along: what is asked for before the first attempt is over
fails at once, without a word and without a socket; after it, the same command succeeds or tells what is wrong."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path

import pytest
from acceptance.conftest import Host, Served, serving

pytestmark = [pytest.mark.netns]

INET = re.compile(rb"AF_INET")


def gated_commands(served: Served, folder: Path) -> dict[str, list[str]]:
    named = served.url.replace("127.0.0.1", "localhost")
    return {
        "discover": ["discover", served.portal],
        "read": ["read", served.url, "--length", "512", "-o", str(folder / "read.img")],
        "info": ["info", served.url],
        "copy": ["copy", served.url, "mem://8M"],
        "copy with a host name": ["copy", named, "mem://8M"],
    }


def succeeds(host: Host, words: list[str]) -> None:
    ended = host.swdctl(*words)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.strace
def test_before_and_after_the_first_attempt(namespace: Host, tmp_path: Path) -> None:
    with serving(namespace, "--lun", "mem://8M") as served:
        commands = gated_commands(served, tmp_path)
        succeeds(namespace, ["phase", "begin"])
        for name, words in commands.items():
            trace = tmp_path / "trace"
            ended = namespace.run(
                "strace", "-f", "-e", "trace=%network", "-o", str(trace), sys.executable, "-m", "swd", *words
            )
            assert (ended.returncode, ended.stdout, ended.stderr) == (errno.ENETUNREACH, b"", b""), name
            assert b"exited with" in trace.read_bytes(), "strace saw nothing"
            assert not INET.search(trace.read_bytes()), name
            assert not (tmp_path / "read.img").exists()
        silent = namespace.python(QUIET_IN_PYTHON, served.url, served.portal, served.name)
        assert (silent.returncode, silent.stdout, silent.stderr) == (0, b"", b"")
        succeeds(namespace, ["phase", "complete"])
        for words in commands.values():
            succeeds(namespace, words)
        # One connection each for discover, read, info and the two copies: none came before `phase complete`.
        assert served.stop()["accepts"] == len(commands)


QUIET_IN_PYTHON = """
import errno, os, sys
import swd
from swd.driver import Driver
url, portal, name = sys.argv[1:]
def refused(call, *arguments):
    try:
        call(*arguments)
    except swd.NetworkNotInitialized as error:
        assert error.errno == errno.ENETUNREACH, error
    else:
        raise SystemExit(f"{call} got through")
with Driver() as driver:
    refused(driver.open, url, os.O_RDWR)
    driver.close(driver.open("mem://1M", os.O_RDWR))     # not gated
refused(swd.open, url)
refused(swd.connect, portal, name)
refused(swd.discover, portal)
"""


def test_down_network_after_the_attempt_is_a_device_that_is_not_there(namespace: Host, tmp_path: Path) -> None:
    succeeds(namespace, ["phase", "begin"])
    succeeds(namespace, ["phase", "complete"])
    # An interface that was up keeps its local route when it goes down: then a connect is silent, not unreachable.
    assert namespace.run("sh", "-c", "ip link set lo down && ip address flush dev lo").returncode == 0
    url = "iscsi://127.0.0.1:3260/iqn.2026-01.org.example:t/0"
    for words in (["discover", "127.0.0.1"], ["read", url], ["info", url], ["copy", url, "mem://8M"]):
        ended = namespace.swdctl(*words)
        assert ended.returncode == errno.ENXIO, words
        assert ended.stdout == b""
        assert 1 <= len(ended.stderr.splitlines()) <= 2
        assert b"127.0.0.1" in ended.stderr
    as_json = namespace.swdctl("--json", "read", url)
    assert json.loads(as_json.stderr)["error"]["name"] == "ENXIO"


def test_two_processes_at_once(namespace: Host, tmp_path: Path) -> None:
    """One process holds a driver open while another ends the phase: the next open of the first one succeeds."""
    with serving(namespace, "--lun", "mem://8M") as served:
        succeeds(namespace, ["phase", "begin"])
        ended = namespace.python(ACROSS_PROCESSES, served.url)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert served.stop()["accepts"] == 1


ACROSS_PROCESSES = """
import os, subprocess, sys
import swd
from swd.driver import Driver
with Driver() as driver:
    try:
        driver.open(sys.argv[1], os.O_RDONLY)
    except swd.NetworkNotInitialized:
        pass
    else:
        raise SystemExit("not gated")
    subprocess.run([sys.executable, "-m", "swd", "phase", "complete"], check=True, stdout=subprocess.DEVNULL)
    fd = driver.open(sys.argv[1], os.O_RDONLY)
    assert driver.pread(fd, 512, 0) == bytes(512)
    driver.close(fd)
"""


def test_profile_of_the_later_edition(namespace: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "swd.toml"
    configuration.write_text('errno_profile = "11iv3"\n')
    monkeypatch.setenv("SWD_CONFIG", str(configuration))
    succeeds(namespace, ["phase", "begin"])
    ended = namespace.swdctl("discover", "127.0.0.1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (errno.ENXIO, b"", b"")


def test_verbose_says_why(namespace: Host) -> None:
    succeeds(namespace, ["phase", "begin"])
    ended = namespace.swdctl("--verbose", "discover", "127.0.0.1")
    assert ended.returncode == errno.ENETUNREACH
    assert len(ended.stderr.splitlines()) in (1, 2)


@pytest.mark.parametrize("words", [["ioctl", "isw:", "SWD_PHASE_GET"], ["phase", "show"], ["info", "--build"]])
def test_what_is_not_gated_works(namespace: Host, words: list[str]) -> None:
    succeeds(namespace, ["phase", "begin"])
    succeeds(namespace, words)


def test_a_phase_of_another_namespace_is_not_ours(namespace: Host, here: Host) -> None:
    """The file says in which network namespace it was written; a reader in another one ignores it."""
    succeeds(namespace, ["phase", "begin"])
    ended = here.swdctl("discover", "127.0.0.1:1")
    assert ended.returncode == errno.ENXIO
