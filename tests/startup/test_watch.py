# SPDX-License-Identifier: Apache-2.0
"""`startup --watch` in network namespaces, with real routes and addresses: when the attempt is over, and its end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.boot import Manager, Namespace, ended
from support.process import run

from swd.cli import main
from swd.driver import holders, phase
from swd.startup.notify import notify
from swd.values import Phase

ALONE = pytest.mark.netns


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with contextlib.closing(Manager(tmp_path / "notify")) as listening:
        yield listening


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with contextlib.closing(Namespace()) as made:
        yield made


def configure(**keys: str) -> None:
    lines = [f"{key} = {value}" for key, value in keys.items()]
    Path(os.environ["SWD_CONFIG"]).write_text("\n".join(["[startup]", *lines, "[all]", "login_timeout = 1"]))


def evidence() -> str:
    """What the phase file of the namespace says; from here it can be read, but holds for nobody."""
    content = json.loads((Path(os.environ["SWD_RUNTIME_DIR"]) / phase.FILE).read_text())
    return str(content["evidence"])


def test_without_the_extra_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    phase.begin()
    assert main.run(["startup", "--watch"]) == errno.EOPNOTSUPP
    assert "iscsi-swd[net]" in capsys.readouterr().err
    assert phase.current() is Phase.PRE_NETWORK


@ALONE
def test_no_address_is_no_network_and_the_time_out_ends_the_attempt(namespace: Namespace, manager: Manager) -> None:
    """Nothing is listed, lo is up: that is no network. The end of the attempt is an end, though it failed."""
    configure(attempt_timeout="1")
    namespace.ip("link", "set", "lo", "up")
    namespace.swdctl("phase", "begin")
    with ended(namespace.watch(manager)) as watcher:
        manager.hear("STATUS=waiting")
        manager.hear("READY=1")
        assert "its time-out of 1 s is over" in evidence()
        watcher.signal(signal.SIGTERM)
        assert watcher.finish() == 128 + signal.SIGTERM
        assert watcher.lines == ["[startup] of the configuration lists nothing, and no target is wanted"]
        manager.hear("STOPPING=1")


@ALONE
def test_an_address_that_comes_ends_the_attempt(namespace: Namespace, manager: Manager) -> None:
    configure(attempt_timeout="60")
    namespace.swdctl("phase", "begin")
    with ended(namespace.watch(manager)) as watcher:
        manager.hear("STATUS=waiting")
        namespace.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        namespace.ip("address", "add", "10.9.0.1/24", "dev", "d0")
        namespace.ip("link", "set", "d0", "up")  # without the other end it has no carrier
        assert "phase begin" in evidence()
        namespace.ip("link", "set", "d1", "up")
        manager.hear("READY=1")
        assert "an address is up" in evidence()
        assert watcher.running


@ALONE
def test_a_route_ends_the_attempt(namespace: Namespace, manager: Manager) -> None:
    """Nobody is at the other end: the attempt is complete all the same, and what pass 2 asks for is not there."""
    configure(discover='["10.9.0.2"]', attempt_timeout="60", step_timeout="1")
    namespace.swdctl("phase", "begin")
    with ended(namespace.watch(manager)) as watcher:
        manager.hear("STATUS=waiting")
        namespace.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        namespace.ip("address", "add", "10.9.0.1/24", "dev", "d0")
        namespace.ip("link", "set", "d1", "up")
        namespace.ip("link", "set", "d0", "up")
        assert "pass 2: " in manager.hear("READY=1")
        assert "there is a route to 10.9.0.2:3260" in evidence()
        assert watcher.wait_for(r"^discover .* failed ")


WAYS = """
import subprocess
from swd.proto.portal import parse_portal
from swd.startup.network import Network

HOSTS = ["127.0.0.1", "10.9.0.2", "192.0.2.1", "[2001:db8::2]", "[fe80::2%d0]", "storage.example"]
STEPS = [
    [],
    ["link set lo up"],
    ["link add d0 type veth peer name d1", "address add 10.9.0.1/24 dev d0", "link set d0 up"],
    ["link set d1 up"],
    ["-6 address add 2001:db8::1/64 dev d0 nodad"],
    ["route add unreachable 192.0.2.0/24"],
    ["route change 192.0.2.0/24 via 10.9.0.7"],
    ["link set d1 down"],
]
with Network() as network:
    for step in STEPS:
        for words in step:
            subprocess.run(["ip", *words.split()], check=True)
        news = network.wait(2 if step else 0)
        seen = network.look(map(parse_portal, HOSTS))
        assert not set(seen.reached) & set(seen.missing) and len(seen.reached) + len(seen.missing) == len(HOSTS)
        print(news, *(portal.removesuffix(":3260") for portal in seen.reached if "fe80" not in portal))
    while network.wait(0):
        pass
    print(network.wait(0.05))
"""


@ALONE
def test_what_has_a_route(namespace: Namespace) -> None:
    """By address and by name, step by step, and news of each step. A link without a carrier leads nowhere."""
    said = run(*namespace.enter, sys.executable, "-c", WAYS)
    assert said.splitlines() == [
        "False",
        "True 127.0.0.1",
        "True 127.0.0.1",
        "True 127.0.0.1 10.9.0.2 storage.example",
        "True 127.0.0.1 10.9.0.2 [2001:db8::2] storage.example",
        "True 127.0.0.1 10.9.0.2 [2001:db8::2] storage.example",
        "True 127.0.0.1 10.9.0.2 192.0.2.1 [2001:db8::2] storage.example",
        "True 127.0.0.1",
        "False",
    ]


SOME = """
from swd.driver import config, phase
from swd.startup import watch
from swd.startup.network import Network

watch.SETTLE = 0.2
phase.begin()
with Network() as network:
    print(watch.attempt(config.load().startup, network))
"""


@ALONE
def test_some_portals_without_a_route_are_waited_for_a_little(namespace: Namespace) -> None:
    configure(discover='["127.0.0.1:1", "192.0.2.1"]', attempt_timeout="60")
    namespace.ip("link", "set", "lo", "up")
    said = run(*namespace.enter, sys.executable, "-c", SOME)
    assert said == "there is a route to 127.0.0.1:1, and still none to 192.0.2.1:3260\n"


@ALONE
def test_somebody_else_may_end_the_phase(namespace: Namespace, manager: Manager) -> None:
    configure(attempt_timeout="60")
    namespace.swdctl("phase", "begin")
    with ended(namespace.watch(manager)):
        manager.hear("STATUS=waiting")
        namespace.swdctl("phase", "complete")
        manager.hear("READY=1")
        assert evidence() == "swdctl phase complete"


@ALONE
def test_one_watcher_is_enough(namespace: Namespace, manager: Manager) -> None:
    configure()
    with ended(namespace.watch(manager)) as watcher:
        manager.hear("READY=1")
        assert [holder.pid for holder in holders.living()] == [watcher.process.pid]
        second = subprocess.run([sys.executable, "-m", "swd", "startup", "--watch"], capture_output=True, text=True)
        assert second.returncode == errno.EBUSY
        assert str(watcher.process.pid) in second.stderr
        watcher.signal(signal.SIGTERM)
        watcher.finish()
    assert holders.living() == []


def test_a_manager_that_is_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch, manager: Manager) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    notify("STATUS=two\nlines")
    assert manager.hear("STATUS") == "STATUS=two lines"
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path) + "-gone")
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1")
    notify("READY=1")


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel chooses an abstract name
        name = listening.getsockname().decode().replace("\0", "@")
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert listening.recv(64) == b"READY=1"
