# SPDX-License-Identifier: Apache-2.0
"""`target serve` as a process of its own, met by the other verbs."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.schema import faults

Ctl = Callable[..., Any]
SECRET = "sentinel-secret-of-serve"


def serve(spawn: Callable[..., subprocess.Popen[bytes]], *words: str) -> subprocess.Popen[bytes]:
    return spawn("target", "serve", "--portal", "127.0.0.1:0", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read_record(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next JSON object that the child prints; it ends with a brace at the start of a line."""
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line == b"}\n":
            break
    record: dict[str, Any] = json.loads(b"".join(lines))
    return record


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_a_signal_and_counts(
    spawn: Callable[..., subprocess.Popen[bytes]], ctl: Ctl, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    words = ("--lun", "mem://2M", "--lun", f"file://{image}?block_size=4096", "--json")
    with serve(spawn, *words, "--spin", "20", "--congestion", "reno", "--huge-pages") as child:
        ready = read_record(child)
        assert faults(ready, "target-serve") == []
        assert ready["ready"] is True
        assert [one.rpartition("/")[2] for one in ready["devices"]] == ["0", "1"]
        sizes = [json.loads(ctl("info", dev, "--json").out) for dev in ready["devices"]]
        assert [(one["size_bytes"], one["block_size"]) for one in sizes] == [(2 << 20, 512), (1 << 20, 4096)]
        (tmp_path / "data").write_bytes(b"x" * 4096)
        assert ctl("write", ready["devices"][1], "-i", str(tmp_path / "data")).status == 0
        child.send_signal(number)
        counts = read_record(child)
        assert faults(counts, "target-serve") == []
        assert child.wait(timeout=20) == status
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert counts["accepts"] == counts["logins"] == 3
    assert image.read_bytes()[:4097] == b"x" * 4096 + b"\0"


def test_chap_and_digests_are_required(
    spawn: Callable[..., subprocess.Popen[bytes]], ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    words = ("--user", "u", "--secret-file", str(secret), "--header-digest", "crc32c!", "--data-digest", "none")
    with serve(spawn, "--lun", "mem://1M", *words, "--json") as child:
        ready = read_record(child)
        assert ready["auth"] == "CHAP"
        assert ctl("info", ready["devices"][0]).status == errno.EACCES
        assert ctl("discover", ready["portal"]).status == errno.EACCES
        monkeypatch.setenv("SWD_CHAP_SECRET", SECRET)
        session = json.loads(ctl("info", ready["devices"][0], "-O", "user=u", "--json").out)["session"]
        assert (session["auth"], session["header_digest"], session["data_digest"]) == ("chap", True, False)
        assert ctl("discover", ready["portal"], "-O", "user=u").status == 0
        argv = Path(f"/proc/{child.pid}/cmdline")
        assert not argv.exists() or SECRET.encode() not in argv.read_bytes()
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=20)
    assert SECRET.encode() not in b"".join(rest)


def test_it_misbehaves_by_a_plan_and_says_how_often(
    spawn: Callable[..., subprocess.Popen[bytes]], ctl: Ctl, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[[fault]]\ndo = "check_condition"\nsense = "3/11/00"\ncommand = "READ"\nlba = "8-15"\n')
    with serve(spawn, "--lun", "mem://1M", "--faults", str(plan), "--json") as child:
        ready = read_record(child)
        assert faults(ready, "target-serve") == []
        assert ready["faults"][0].startswith("1. check_condition (sense = 3/11/00): ")
        dev = ready["devices"][0]
        assert ctl("read", dev, "--length", "4K", "-o", str(tmp_path / "good")).status == 0
        assert ctl("read", dev, "--offset", "4K", "--length", "4K", "-o", str(tmp_path / "bad")).status == errno.EIO
        child.send_signal(signal.SIGINT)
        counts = read_record(child)
    assert faults(counts, "target-serve") == []
    assert counts["faults"] == {"check_condition": 1}


def test_a_plan_is_explained_and_a_wrong_one_refused_with_its_line(ctl: Ctl, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[[fault]]\ndo = "reset"\nnth = 3\n')
    told = ctl("target", "faults", str(plan))
    assert told.status == 0
    assert "1. reset: on DATA_IN or SCSI_RESPONSE, the 3rd time -- the connection is reset (RST)" in told.out
    assert "poison" in ctl("target", "faults").out
    plan.write_text('[[fault]]\ndo = "rset"\nnth = 3\n')
    for words in (("faults", str(plan)), ("serve", "--lun", "mem://1M", "--faults", str(plan))):
        refused = ctl("target", *words)
        assert (refused.status, refused.out) == (errno.EINVAL, "")
        assert f"{plan}:2: there is no fault 'rset'; did you mean 'reset'?" in refused.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 2),
        (("--lun", "mem://1M", "--faults", "/nonexistent/plan.toml"), errno.ENOENT),
        (("--lun", "iscsi://127.0.0.1/iqn.2026-01.org.example:x/0"), errno.EOPNOTSUPP),
        (("--lun", "/nonexistent/image"), errno.ENOENT),
        (("--lun", "mem://1M", "--block-size", "1000"), errno.EINVAL),
        (("--lun", "mem://1M", "--data-digest", "md5"), errno.EINVAL),
        (("--lun", "mem://1M", "--secret-file", "x"), errno.EINVAL),
        (("--lun", "mem://1M", "--target", "no name"), errno.EINVAL),
        (("--lun", "mem://1M", "--portal", "192.0.2.1:0"), errno.EINVAL),
    ],
)
def test_what_cannot_be_served(ctl: Ctl, words: tuple[str, ...], status: int) -> None:
    ended = ctl("target", "serve", *words)
    assert (ended.status, ended.out) == (status, "")
    assert ended.err
