# SPDX-License-Identifier: Apache-2.0
"""The verbs against the embedded target: what they say, what they leave, what they never tell."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swd.cli import guard
from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer
from swd.values import Chap

Ctl = Callable[..., Any]
NAME = "iqn.2026-01.org.example:cli"
LOCKED = "iqn.2026-01.org.example:locked"
SECRETS = ("sentinel-secret-of-ours", "sentinel-secret-of-the-target")
SIZE = 8 << 20


@pytest.fixture
def server() -> Iterator[TargetServer]:
    """Two targets: one open, one behind mutual CHAP; each with a 512 and a 4096 LUN."""
    chap = Chap("u", SECRETS[0], target_user="t", target_secret=SECRETS[1])
    media = [RamMedium(SIZE) for _ in range(4)]
    targets = [
        TargetConfig(NAME, {0: Lun(media[0]), 1: Lun(media[1], 4096)}),
        TargetConfig(LOCKED, {0: Lun(media[2]), 1: Lun(media[3], 4096)}, chap=chap),
    ]
    with TargetServer(targets, discovery_chap=None) as running:
        yield running
    for medium in media:
        medium.close()


def dev(server: TargetServer, lun: int = 0, name: str = NAME, query: str = "") -> str:
    return f"iscsi://{server.portal}/{name}/{lun}{query}"


@pytest.fixture
def credentials(tmp_path: Path) -> tuple[str, ...]:
    """`-O` words that log in to the locked target."""
    paths = []
    for number, secret in enumerate(SECRETS):
        path = tmp_path / f"secret{number}"
        path.touch(0o600)
        path.write_text(secret)
        paths.append(path)
    return (
        "-O",
        "user=u",
        "-O",
        f"secret_file={paths[0]}",
        "-O",
        f"target_secret_file={paths[1]}",
        "-O",
        "target_user=t",
    )


def test_discover(ctl: Ctl, server: TargetServer) -> None:
    rows = json.loads(ctl("discover", str(server.portal), "--json").out)
    assert {row["target"] for row in rows} == {NAME, LOCKED}
    assert {row["portal"] for row in rows} == {str(server.portal)}
    text = ctl("discover", str(server.portal)).out
    assert text.splitlines()[0].split() == ["target", "portal", "portal", "group"]


@pytest.mark.parametrize(("lun", "block_size"), [(0, 512), (1, 4096)])
def test_info_shows_what_was_negotiated(ctl: Ctl, server: TargetServer, lun: int, block_size: int) -> None:
    ended = ctl("info", dev(server, lun), "-O", "header_digest=crc32c!", "-O", "data_digest=none", "--json")
    record = json.loads(ended.out)
    assert (record["size_bytes"], record["block_size"], record["read_only"]) == (SIZE, block_size, False)
    assert record["identity"].startswith("naa.")
    session = record["session"]
    assert (session["header_digest"], session["data_digest"], session["auth"]) == (True, False, "none")
    assert (session["target_name"], session["lun"]) == (NAME, str(lun))
    assert record["timers"]["timeout"] == 30
    assert record["long_commands"]["FORMAT UNIT"] == 4 * 3600
    assert record["long_commands"]["UNMAP"] == 300
    text = ctl("info", dev(server, lun)).out
    assert "session:" in text
    assert NAME in text


@pytest.mark.parametrize("lun", [0, 1])
def test_bytes_go_and_come_back(ctl: Ctl, server: TargetServer, tmp_path: Path, lun: int) -> None:
    data, back = tmp_path / "data", tmp_path / "back"
    data.write_bytes(os.urandom((1 << 20) + 512))  # no whole number of 4096-byte blocks
    place = ("--offset", "1M")
    assert ctl("write", dev(server, lun), *place, "-i", str(data)).status == 0
    assert ctl("read", dev(server, lun), *place, "--length", str(data.stat().st_size), "-o", str(back)).status == 0
    assert back.read_bytes() == data.read_bytes()


def test_copy_from_unit_to_unit_and_to_a_file(ctl: Ctl, server: TargetServer, tmp_path: Path) -> None:
    image, out = tmp_path / "image", tmp_path / "out"
    image.write_bytes(bytes(65536) + os.urandom(SIZE - 65536))
    for src, dst in ((str(image), dev(server)), (dev(server), dev(server, 1)), (dev(server, 1), str(out))):
        ended = ctl("copy", src, dst, "--verify", "-O", "data_digest=crc32c!", "--json")
        assert (ended.status, ended.err) == (0, "")
        assert json.loads(ended.out)["length_bytes"] == SIZE
    assert out.read_bytes() == image.read_bytes()
    for again in (dev(server, 1), dev(server, 0)[:-1] + "0x0001000000000000"):
        assert ctl("copy", dev(server, 1), again).status == errno.EINVAL


def test_the_guard_looks_at_the_unit(ctl: Ctl, server: TargetServer, tmp_path: Path) -> None:
    disk, data = tmp_path / "disk", tmp_path / "data"
    disk.write_bytes(b"XFSB" + bytes(1020))
    data.write_bytes(b"x" * 512)
    assert ctl("write", dev(server), "-i", str(disk)).status == 0
    ended = ctl("write", dev(server), "--offset", "1M", "-i", str(data))
    assert ended.status == errno.EBUSY
    assert "XFS" in ended.err
    assert ctl("write", dev(server), "--offset", "1M", "-i", str(data), "--overwrite").status == 0


def test_a_unit_that_the_kernel_has_is_refused(
    ctl: Ctl, server: TargetServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = json.loads(ctl("info", dev(server), "--json").out)["identity"].removesuffix(" (weak)")
    device = tmp_path / "block" / "sdx" / "device"
    device.mkdir(parents=True)
    (device / "wwid").write_text(identity)
    (tmp_path / "data").write_bytes(b"x" * 512)
    monkeypatch.setattr(guard, "SYSFS", tmp_path)
    words = ("write", dev(server), "-i", str(tmp_path / "data"))
    ended = ctl(*words)
    assert ended.status == errno.EBUSY
    assert "/dev/sdx" in ended.err
    assert ctl(*words, "--overwrite").status == errno.EBUSY
    assert ctl(*words, "--force").status == 0
    assert ctl("write", dev(server, 1), "-i", str(tmp_path / "data")).status == 0


def test_ioctl_and_raw_commands(ctl: Ctl, server: TargetServer) -> None:
    assert json.loads(ctl("ioctl", dev(server, 1), "BLKSSZGET", "--json").out)["result"] == 4096
    inquiry = json.loads(ctl("ioctl", dev(server), "SG_IO", "cdb=120000006000", "data_in=96", "--json").out)["result"]
    assert inquiry["status"] == 0
    assert bytes.fromhex(inquiry["data"])[8:11] == b"SWD"
    bad = json.loads(ctl("ioctl", dev(server), "SG_IO", "cdb=ff0000000000", "--write", "--json").out)["result"]
    assert (bad["status"], bad["sense"]["key"], bad["sense"]["asc"]) == (2, 5, 0x20)
    assert ctl("ioctl", dev(server), "SG_IO", "cdb=ff0000000000").status == errno.EBADF


def test_chap_both_ways_by_files_and_by_environment(
    ctl: Ctl, server: TargetServer, credentials: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads(ctl("info", dev(server, name=LOCKED), *credentials, "--json").out)
    assert record["session"]["auth"] == "chap-mutual"
    monkeypatch.setenv("SWD_CHAP_SECRET", SECRETS[0])
    monkeypatch.setenv("SWD_CHAP_TARGET_SECRET", SECRETS[1])
    assert ctl("info", dev(server, name=LOCKED), "-O", "user=u", "-O", "target_user=t").status == 0
    monkeypatch.setenv("SWD_CHAP_SECRET", "wrong-secret-wrong")
    ended = ctl("info", dev(server, name=LOCKED), "-O", "user=u")
    assert ended.status == errno.EACCES
    assert 1 <= ended.err.count("\n") <= 2


def test_no_secret_is_ever_told(
    process: Ctl, server: TargetServer, credentials: tuple[str, ...], tmp_path: Path
) -> None:
    """Every verb that logs in, right and wrong, with all that it can say, in a process of its own."""
    locked = dev(server, name=LOCKED)
    (tmp_path / "data").write_bytes(b"x" * 512)
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("sentinel-secret-that-is-wrong")
    good, bad = credentials, ("-O", "user=u", "-O", f"secret_file={wrong}")
    verbs = [
        ("discover", str(server.portal)),
        ("info", locked),
        ("read", locked, "--length", "512", "-o", str(tmp_path / "out")),
        ("write", locked, "-i", str(tmp_path / "data")),
        ("copy", locked, str(tmp_path / "copied")),
        ("ioctl", locked, "SWD_STATS_GET"),
        ("demo", locked),
    ]
    before = {path for path in tmp_path.iterdir() if "secret" in path.name or path == wrong}
    for verb in verbs:
        for words in ((*bad, "--debug"), (*good, "--verbose", "--json")):
            ended = process(*verb, *words, TMPDIR=str(tmp_path))
            assert "sentinel" not in ended.out + ended.err, (verb, words)
    for path in tmp_path.rglob("*"):
        assert path in before or not path.is_file() or b"sentinel" not in path.read_bytes(), path
    for folder in ("SWD_RUNTIME_DIR", "SWD_STATE_DIR"):
        assert all(
            b"sentinel" not in path.read_bytes() for path in Path(os.environ[folder]).rglob("*") if path.is_file()
        )


def test_what_is_not_there_is_enxio(ctl: Ctl, server: TargetServer) -> None:
    for name in (dev(server, 7), dev(server, name="iqn.2026-01.org.example:none")):
        ended = ctl("info", name)
        assert (ended.status, ended.out) == (errno.ENXIO, "")
        assert 1 <= ended.err.count("\n") <= 2
    portal = str(server.portal)
    server.stop()
    for words in (("discover", portal), ("info", f"iscsi://{portal}/{NAME}/0")):
        ended = ctl(*words)
        assert ended.status == errno.ENXIO
        assert 1 <= ended.err.count("\n") <= 2
        assert json.loads(ctl(*words, "--json").err)["error"]["name"] == "ENXIO"


def test_before_the_network_nobody_calls_the_target(
    process: Ctl, ctl: Ctl, server: TargetServer, tmp_path: Path
) -> None:
    assert ctl("phase", "begin").status == 0
    out = str(tmp_path / "out")
    verbs = [
        ("discover", str(server.portal)),
        ("read", dev(server), "-o", out),
        ("info", dev(server)),
        ("copy", dev(server), out),
        ("demo", dev(server)),
        ("info", f"iscsi://no-such-host.invalid/{NAME}/0"),
    ]
    for words in verbs:
        ended = process(*words)
        assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", ""), words
    assert server.statistics["accepts"] == 0
    assert not Path(out).exists()
    assert ctl("phase", "complete").status == 0
    for words in verbs[:-1]:
        assert process(*words).status == 0, words
    assert server.statistics["accepts"] > 0


def test_a_write_protected_unit_is_shown_and_refuses(ctl: Ctl, tmp_path: Path) -> None:
    medium = RamMedium(SIZE)
    (tmp_path / "data").write_bytes(b"x" * 512)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium, read_only=True)})]) as server:
        assert json.loads(ctl("info", dev(server), "--json").out)["read_only"] is True
        assert ctl("write", dev(server), "-i", str(tmp_path / "data")).status == errno.EROFS
        assert ctl("read", dev(server), "-o", str(tmp_path / "out")).status == 0
    medium.close()


def test_a_full_disk_ends_the_session_cleanly(ctl: Ctl, server: TargetServer) -> None:
    ended = ctl("read", dev(server), "-o", "/dev/full")
    assert ended.status == errno.ENOSPC
    assert ended.err.count("\n") == 1


def test_two_at_once(process: Ctl, server: TargetServer, tmp_path: Path) -> None:
    results: dict[int, int] = {}

    def run(number: int) -> None:
        results[number] = process("read", dev(server), "-o", str(tmp_path / str(number))).status

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: 0, 1: 0}
