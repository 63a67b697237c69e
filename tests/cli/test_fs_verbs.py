# SPDX-License-Identifier: Apache-2.0
"""`swdctl fs ...` on images: what is printed, statuses, and what `get` leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import filesystems as make
from support.schema import faults

pytestmark = pytest.mark.mkfs


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make.unpacked("fs-ext4.img", tmp_path_factory.mktemp("fs")))


@pytest.fixture
def dirty(tmp_path: Path) -> str:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    path = make.ext(tmp_path / "dirty.img", "-d", source, kind="ext2", mebibytes=4)
    make.run("debugfs", "-w", "-R", "ssv state 0", path)
    return str(path)


def told(ended: Any) -> Any:
    assert ended.status == 0, ended.err
    record = json.loads(ended.out)
    assert faults(record, "fs") == []
    return record


def test_detect(ctl: Callable[..., Any], image: str, dirty: str, tmp_path: Path) -> None:
    found = told(ctl("fs", "detect", image, "--json"))
    assert (found["file_system"], found["clean"], found["readable"]) == ("ext4", True, True)
    found = told(ctl("fs", "detect", dirty, "--json"))
    assert (found["clean"], bool(found["not_clean_because"])) == (False, True)
    assert told(ctl("fs", "detect", str(make.blank(tmp_path / "zeros", 1)), "--json"))["file_system"] is None
    assert ctl("fs", "detect", str(tmp_path / "absent")).status == errno.ENXIO


def test_ls(ctl: Callable[..., Any], image: str) -> None:
    listing = told(ctl("fs", "ls", image, "/odd", "--json"))
    entries = {entry["name"]: entry for entry in listing["entries"]}
    assert listing["not_clean"] == ""
    assert list(entries) == sorted(entries)
    assert entries["owned"]["mode"] == "-rwsr-s--x"
    assert (entries["owned"]["uid"], entries["owned"]["gid"], entries["owned"]["size"]) == (70001, 123456, 11)
    assert entries["link"]["target"] == "to \udcff nowhere"
    assert "\udcff\udcfe no UTF-8 \udc80" in entries
    text = ctl("fs", "ls", image, "/odd").out
    assert "line\\nfeed and \\x1b escape" in text  # what a terminal would obey is an escape
    assert "\\udcff\\udcfe no UTF-8" in text
    assert [entry["name"] for entry in told(ctl("fs", "ls", image, "/small", "--json"))["entries"]] == ["small"]
    assert ctl("fs", "ls", image, "/nothing").status == errno.ENOENT


def test_tree(ctl: Callable[..., Any], image: str) -> None:
    found = told(ctl("fs", "tree", image, "--json"))
    truth = make.truth("fs-ext4")
    assert found["directories"] == 1 + sum(entry["type"] == 4 for entry in truth.values())  # lost+found, too
    assert found["files"] == sum(entry["type"] != 4 for entry in truth.values())
    assert "  short link -> ../megabyte" in "\n".join(found["tree"])


def test_cat(process: Callable[..., Any], image: str) -> None:
    done = process("fs", "cat", image, "/megabyte")
    assert (done.status, done.err) == (0, "")
    assert hashlib.sha256(done.out.encode("latin-1")).hexdigest() == make.truth("fs-ext4")["megabyte"]["sha256"]
    assert process("fs", "cat", image, "/many").status == errno.EISDIR


def test_df(ctl: Callable[..., Any], image: str) -> None:
    found = told(ctl("fs", "df", image, "--json"))
    assert found["used_bytes"] + found["free_bytes"] == found["size_bytes"] == 48 << 20


def test_get_one_file(ctl: Callable[..., Any], image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(ctl("fs", "get", image, "/small", "--json"))["files"] == 1
    about = (tmp_path / "small").stat()
    assert ((tmp_path / "small").read_bytes(), about.st_mode & 0o7777) == (b"hello\n", 0o400)
    assert about.st_mtime_ns == make.truth("fs-ext4")["small"]["mtime"]
    again = ctl("fs", "get", image, "/small")
    assert (again.status, again.err) == (errno.EEXIST, "swdctl: small: it is there already; --overwrite replaces it\n")
    assert ctl("fs", "get", image, "/small", "--overwrite").status == 0
    assert ctl("fs", "get", image, "/megabyte", "-o", str(tmp_path / "other")).status == 0
    assert (tmp_path / "other").stat().st_size == 1 << 20
    assert ctl("fs", "get", image, "/megabyte", "-o", str(tmp_path / "no" / "folder")).status == errno.ENOENT
    assert ctl("fs", "get", image, "/many").status == 2
    assert ctl("fs", "get", image, "/").status == 2


def test_get_a_tree(ctl: Callable[..., Any], image: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    got = told(ctl("fs", "get", "-r", image, "/odd", "-o", str(out), "--json"))
    assert (got["directories"], got["changed"], got["skipped"]) == (2, False, [])
    assert (out / "owned").stat().st_mode & 0o7777 == 0o751  # not for somebody else without --owner
    assert (out / "sticky").stat().st_mode & 0o7777 == 0o1777
    assert ctl("fs", "get", "-r", image, "/odd", "-o", str(out)).status == errno.ENOTEMPTY
    assert ctl("fs", "get", "-r", image, "/odd", "-o", str(out), "--overwrite").status == 0
    (out / "sticky").rmdir()
    (out / "sticky").write_bytes(b"in the way")
    ended = ctl("fs", "get", "-r", image, "/odd", "-o", str(out), "--overwrite", "--verbose")
    assert ended.status == errno.ENOTDIR
    assert "sticky" in ended.err
    assert "Traceback" not in ended.err


def test_not_clean_is_refused_and_then_marked_everywhere(
    ctl: Callable[..., Any], process: Callable[..., Any], dirty: str, tmp_path: Path
) -> None:
    for words in (["ls"], ["tree"], ["df"], ["cat", "/file"], ["get", "/file", "-o", str(tmp_path / "got")]):
        call = ["fs", words[0], dirty, *words[1:]]
        refused = process(*call)
        assert refused.status == errno.EBUSY
        assert refused.out == ""
        assert "not clean" in refused.err
        assert "--dirty" in refused.err
        done = process(*call, "--dirty", "--json")
        assert done.status == 0
        assert "is not clean" in json.loads(done.err)["warning"]
        if words[0] != "cat":
            assert "unmounted" in json.loads(done.out)["not_clean"]
    assert (tmp_path / "got").read_bytes() == b"content"


def test_a_disk_that_is_written_to_meanwhile(process: Callable[..., Any], tmp_path: Path) -> None:
    """The superblock is read again at the end: here a copy to a FIFO of ours waits until we have mounted it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(b"L" * (1 << 20))
    image = make.ext(tmp_path / "image", "-d", source, mebibytes=8)
    import subprocess
    import sys

    with subprocess.Popen(
        [sys.executable, "-m", "swd", "fs", "cat", str(image), "/large"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cat:
        assert cat.stdout is not None
        assert cat.stderr is not None
        first = cat.stdout.read(1)  # it has opened the file system, and the pipe is full
        make.run("debugfs", "-w", "-R", "ssv mnt_count 9", image)
        rest = cat.stdout.read()
        said = cat.stderr.read().decode()
    assert len(first + rest) == 1 << 20
    assert cat.returncode == errno.EBUSY
    assert "while it was read" in said


def test_hostile_arguments(ctl: Callable[..., Any], image: str, tmp_path: Path) -> None:
    for words in (["fs"], ["fs", "ls"], ["fs", "cat", image], ["fs", "ls", image, "/", "extra"], ["fs", "rm", image]):
        assert ctl(*words).status == 2
    assert ctl("fs", "ls", "mem://1M").status == errno.EOPNOTSUPP
    assert ctl("fs", "ls", image, "/small/../small").status in (0, errno.ENOTDIR)
    assert ctl("fs", "ls", image, "/../../many").status == 0
    assert ctl("fs", "ls", image, "x" * 5000).status == errno.ENOENT
    assert ctl("fs", "ls", image, "--partition", "3").status in (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP)


def test_before_the_network_fs_is_silent(process: Callable[..., Any], tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    settings = {"SWD_RUNTIME_DIR": str(runtime), "SWD_STATE_DIR": str(tmp_path / "state"), "SWD_CONFIG": os.devnull}
    assert process("phase", "begin", **settings).status == 0
    for verb in ("detect", "ls", "df"):
        done = process("fs", verb, "iscsi://127.0.0.1:1/iqn.2026-01.org.example:x/0", **settings)
        assert (done.status, done.out, done.err) == (errno.ENETUNREACH, "", "")
