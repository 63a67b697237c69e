# SPDX-License-Identifier: Apache-2.0
"""`target serve --config`: what a file describes is what is served, and what it may not say is told with its line."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.schema import faults

import swd
from swd.cli.verbs import serve_file
from swd.errors import AuthenticationFailed, InvalidArgument, SwdError
from swd.target import Limits, Lun, RamMedium
from swd.values import Chap

Ctl = Callable[..., Any]
DOCS = Path(__file__).resolve().parents[2] / "docs"
SECRET = "sentinel-secret-of-the-file"
HEAD = '[target."iqn.2026-01.org.example:a"]\n'
UNIT = '[[target."iqn.2026-01.org.example:a".lun]]\ndev = "mem://1M"\n'


def read(tmp_path: Path, text: str) -> serve_file.Described:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    return serve_file.read(str(path), lambda dev, size: Lun(RamMedium(1 << 20), size))


def example() -> str:
    """The one of the documentation."""
    found = re.search(r"```toml\n(.*?)```", (DOCS / "target.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_the_documentation_is_served(
    spawn: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", example()).replace("/var/lib/targets", str(tmp_path))
    (tmp_path / "targets.toml").write_text(text)
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "target-secret").touch(0o600)
    (tmp_path / "target-secret").write_text(SECRET + "2")
    words = ("target", "serve", "--config", str(tmp_path / "targets.toml"), "--json")
    with spawn(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        ready = record(child)
        assert faults(ready, "target-serve") == []
        assert len(ready["portals"]) == 2
        chap = Chap("host1", SECRET, target_user="disk", target_secret=SECRET + "2")
        found = {one.name.rpartition(":")[2]: one for one in swd.discover(ready["portal"])}
        assert {one.tpgt for one in found["disks"].portals} == {1, 2}
        with pytest.raises(AuthenticationFailed):
            swd.connect(ready["portal"], found["disks"].name)
        with swd.connect(ready["portal"], found["disks"].name, chap=chap) as session:
            assert session.luns() == [0, 1, 7]
            assert session.parameters.max_outstanding_r2t == 4
            with session.unit(1) as disk:
                assert (disk.block_size, disk.read_only) == (4096, True)
        with pytest.raises(SwdError) as refused:
            swd.connect(ready["portal"], "iqn.2026-01.org.example:private")
        assert refused.value.errno == errno.EACCES
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=20)
    assert SECRET.encode() not in b"".join(rest)


def record(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line == b"}\n":
            break
    assert lines, child.stderr.read() if child.stderr else b""
    found: dict[str, Any] = json.loads(b"".join(lines))
    return found


def test_every_key_of_a_limit_is_one_of_the_file(tmp_path: Path) -> None:
    target = read(tmp_path, HEAD + "max_burst_length = 65536\ninitial_r2t = true\nmax_outstanding_r2t = 3\n").targets[0]
    assert target.limits == Limits(max_burst_length=65536, initial_r2t=True, max_outstanding_r2t=3)


def test_units_are_numbered_on(tmp_path: Path) -> None:
    units = '{dev="mem://1M"}, {dev="mem://1M", number=9}, {dev="mem://1M"}'
    assert list(read(tmp_path, f"{HEAD}lun = [{units}]\n").targets[0].luns) == [0, 9, 10]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("portals = 1\n" + HEAD, 1, "list"),
        ("portals = [1]\n" + HEAD, 1, "list of str"),
        ("portal = []\n" + HEAD, 1, "portals is"),
        (HEAD + "alias = 5\n", 2, "str"),
        (HEAD + "queue_depth = true\n", 2, "int"),
        (HEAD + "initial_r2t = 1\n", 2, "bool"),
        (HEAD + "max_burst_lenght = 5\n", 2, "max_burst_length is"),
        (HEAD + 'chap_algs = ["md4"]\n', 2, "md5"),
        (HEAD + 'secret_file = "x"\n', 1, "protect nothing"),
        (HEAD + "nop_interval = 5\n", 1, "attended"),
        (HEAD + 'alua = { one = "standby" }\n', 2, "each portal group"),
        (HEAD + 'alua = { 1 = "asleep" }\n', 1, "no access state"),
        (HEAD + "lun = [1]\n", 2, "dev"),
        (HEAD + "lun = [{}]\n", 2, "dev"),
        (HEAD + 'lun = [{dev="mem://1M"}, {dev="mem://1M", number=0}]\n', 2, "LUN 0"),
        (HEAD + 'lun = [{dev="mem://1M", number=16384}]\n', 2, "LUN 16384"),
        (HEAD + "\n" + UNIT + "removabel = true\n", 5, "removable is"),
        (HEAD + UNIT + "block_size = 520\n", 2, "block size 520"),
        ("target = 5\n", 1, "dict"),
        ('target = { "iqn.2026-01.org.example:a" = 5 }\n', 1, "table"),
    ],
)
def test_what_may_not_be_said_is_told_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as wrong:
        read(tmp_path, text)
    assert f"targets.toml:{line}:" in str(wrong.value)


@pytest.mark.parametrize("data", [b"", b"portals = []", b"[target", b"\xff", b"#" * ((1 << 20) + 1)])
def test_files_that_describe_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "targets.toml"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument, match=r"targets\.toml"):
        serve_file.read(str(path), lambda dev, size: Lun(RamMedium(4096), size))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--config", "/nonexistent/file"), errno.ENOENT),
        (("--config", "/nonexistent/file", "--lun", "mem://1M"), 2),
        (("--lun", "mem://1M", "--portal", "127.0.0.1:0,0"), errno.EINVAL),
        (("--lun", "mem://1M", "--state-file", "/nonexistent/state"), errno.EINVAL),
    ],
)
def test_what_cannot_be_served(ctl: Ctl, words: tuple[str, ...], status: int) -> None:
    ended = ctl("target", "serve", *words)
    assert (ended.status, ended.out) == (status, "")
    assert ended.err
