# SPDX-License-Identifier: Apache-2.0
"""The start of a host whose storage is on iSCSI, from before the network to files read from its volumes; and the same
where the first attempt at the network fails. The host is a network namespace, the storage another one with tgtd."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import tgt
from support.boot import Manager, Namespace, ended
from support.golden import manifest, unpack
from support.process import Watched

PORTAL = "10.9.0.2:3260"
TARGETS = ("iqn.2026-01.org.example:story-a", "iqn.2026-01.org.example:story-b")
VOLUMES = {"striped": "ext4", "linear": "xfs"}  # made by the kernel, as the sums of their files (tests/golden)
ORDER = f"""
[startup]
discover = ["{PORTAL}"]
login = {json.dumps(TARGETS)}
volume_groups = ["story"]
filesystems = {json.dumps([f"lvm://story/{name}" for name in VOLUMES])}
attempt_timeout = {{attempt}}
[all]
login_timeout = 2
"""

pytestmark = [pytest.mark.netns, pytest.mark.strace, pytest.mark.tgt, pytest.mark.timeout(240)]


@dataclass
class Host:
    """The host that starts, the storage that it asks for, and the cable between them, which is not plugged in yet."""

    inside: Namespace
    manager: Manager

    def swdctl(self, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
        return self.inside.call(*prefix, sys.executable, "-m", "swd", *words)

    def plug_in(self) -> None:
        """The network comes: an address, and with it a route, on a link that is up."""
        self.inside.ip("address", "add", "10.9.0.1/24", "dev", "h0")
        self.inside.ip("link", "set", "h0", "up")

    def evidence(self) -> str:
        """By what the phase goes now."""
        shown = json.loads(self.swdctl("--json", "phase", "show").stdout)
        return f"{shown['phase']}: {shown['evidence']}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The two physical volumes of the volume group `story`."""
    return unpack("story", tmp_path_factory.mktemp("story"))


@pytest.fixture
def host(tmp_path: Path, images: list[Path]) -> Iterator[Host]:
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(contextlib.closing(Namespace()))
        storage = stack.enter_context(contextlib.closing(Namespace()))
        inside.ip("link", "set", "lo", "up")
        inside.ip("link", "add", "h0", "type", "veth", "peer", "name", "s0", "netns", str(storage.pid))
        storage.ip("link", "set", "lo", "up")
        storage.ip("address", "add", "10.9.0.2/24", "dev", "s0")
        storage.ip("link", "set", "s0", "up")
        tgtd = stack.enter_context(tgt.serving(tmp_path, portal=PORTAL, enter=storage.enter))
        for name, image in zip(TARGETS, images, strict=True):
            tgtd.add_target(name)
            tgtd.add_lun(name, 1, image)
        manager = stack.enter_context(contextlib.closing(Manager(tmp_path / "notify")))
        yield Host(inside, manager)


def configure(attempt: float, *more: str) -> None:
    text = ORDER.format(attempt=attempt)
    if more:
        text = text.replace(f'discover = ["{PORTAL}"]', f"discover = {json.dumps([PORTAL, *more])}")
    Path(os.environ["SWD_CONFIG"]).write_text(text)


def silent_first_pass(host: Host, trace: Path) -> None:
    """Pass 1, although lo is up and a target listens on it: not a word, no socket for the network, no state touched."""
    listening = Watched(*host.inside.enter, sys.executable, "-m", "swd.target", "--portal", "127.0.0.1:0", "--stats",
                        "--lun", "mem://8M")  # fmt: skip
    with ended(listening):
        portal = listening.wait_for("iscsi://").split()[-1].split("/")[2]
        configure(60, portal)
        strace = ("strace", "-f", "-e", "trace=%network,%file", "-o", str(trace))
        done = host.swdctl("startup", "--pass", "1", prefix=strace)
        assert (done.returncode, done.stdout, done.stderr) == (errno.ENETUNREACH, b"", b"")
        seen = trace.read_text()
        assert "exited with" in seen
        assert not re.search("AF_INET", seen)
        assert not re.search(r'"/var/(?!lib/dpkg)', seen), "below /var"
        assert os.environ["SWD_STATE_DIR"] not in seen
        assert list(Path(os.environ["SWD_STATE_DIR"]).iterdir()) == []
        listening.signal(signal.SIGTERM)
        listening.finish()
        assert json.loads(listening.lines[-1])["accepts"] == 0


READ = """
import hashlib, json, sys
import swd

files = {}
for volume, path, expected in json.loads(sys.argv[1]):
    if volume not in files:
        files[volume] = swd.filesystem(f"lvm://story/{volume}")
    assert hashlib.sha256(files[volume].cat_file(f"/{path}")).hexdigest() == expected, (volume, path)
for one in files.values():
    one.close()
print("all", len(files))
"""


def everything_is_there(host: Host, watcher: Watched) -> None:
    """What the watcher tells of its last pass, and the files of both volumes with the sums that the kernel gave."""
    for kind, name in [("discover", PORTAL), *(("login", one) for one in TARGETS), ("volume group", "story")]:
        watcher.wait_for(rf"^{kind} +{re.escape(name)} +done ")
    for volume, kind in VOLUMES.items():
        watcher.wait_for(rf"^file system +lvm://story/{volume} +done .* {kind}, clean")
    wanted = [(one["lv"], one["path"], one["sha256"]) for one in manifest()["story"]["files"]]
    assert {lv for lv, _, _ in wanted} == set(VOLUMES)
    done = host.inside.call(sys.executable, "-c", READ, json.dumps(wanted))
    assert (done.returncode, done.stdout) == (0, b"all 2\n"), done.stderr


def watching(host: Host) -> Watched:
    env = {"NOTIFY_SOCKET": str(host.manager.path)}
    return Watched(*host.inside.enter, sys.executable, "-m", "swd", "startup", "--watch", env=env)


def test_a_boot(host: Host, tmp_path: Path) -> None:
    assert host.swdctl("phase", "begin").returncode == 0
    silent_first_pass(host, tmp_path / "trace")
    configure(60)
    with ended(watching(host)) as watcher:
        host.manager.hear("STATUS=waiting")
        quiet = host.swdctl("vg", "activate", "story")
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (errno.ENETUNREACH, b"", b"")
        host.plug_in()
        assert "STATUS=pass 2: all is there" in host.manager.hear("READY=1")
        assert host.evidence() == f"network-attempted: startup --watch: there is a route to {PORTAL}"
        everything_is_there(host, watcher)
        one = manifest()["story"]["files"][0]
        read = host.swdctl("fs", "cat", f"lvm://story/{one['lv']}", f"/{one['path']}")
        assert hashlib.sha256(read.stdout).hexdigest() == one["sha256"], read.stderr
        again = host.swdctl("--json", "startup", "--pass", "2")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["done"] == 6, "a further pass 2 changes nothing"
        watcher.signal(signal.SIGTERM)
        assert watcher.finish() == 128 + signal.SIGTERM
        assert "ENETUNREACH" not in "\n".join(watcher.lines)


def test_a_boot_whose_first_attempt_fails(host: Host) -> None:
    """The time-out ends the attempt. From then on what is not there is ENXIO and told, until the network comes."""
    configure(1)
    assert host.swdctl("phase", "begin").returncode == 0
    assert host.swdctl("startup", "--pass", "1").returncode == errno.ENETUNREACH
    with ended(watching(host)) as watcher:
        host.manager.hear("READY=1")
        assert "its time-out of 1 s is over" in host.evidence()
        watcher.wait_for(r"^swdctl: ")
        rows = [line.split() for line in watcher.lines if re.match("discover|login", line)]
        assert [(row[2], row[3]) for row in rows] == [("failed", "ENXIO")] * 3
        for words in (["startup", "--pass", "1"], ["startup", "--pass", "2"], ["discover", PORTAL]):
            done = host.swdctl(*words)
            assert done.returncode == errno.ENXIO, words
            assert 1 <= len(done.stderr.splitlines()) <= 2
        host.plug_in()
        everything_is_there(host, watcher)
        assert "ENETUNREACH" not in "\n".join(watcher.lines)
        assert "its time-out of 1 s is over" in host.evidence(), "the attempt was over once"
