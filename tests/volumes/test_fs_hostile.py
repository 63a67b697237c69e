# SPDX-License-Identifier: Apache-2.0
"""Images made to do harm, and a child that is not ours any more."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import filesystems as make

import swd
from swd import errors
from swd.cli.extract import Extractor
from swd.driver.filesystems import opened
from swd.volumes.filesystems import channel, probe
from swd.volumes.filesystems.cache import BLOCK, CAPACITY, BlockCache
from swd.volumes.filesystems.channel import Broken, Channel
from swd.volumes.filesystems.helper import Helper
from swd.volumes.filesystems.record import FileSystem
from swd.volumes.filesystems.volume import Entry, Volume, open_volume

pytestmark = pytest.mark.mkfs


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext2: no checksum hides what is changed in it."""
    folder = tmp_path_factory.mktemp("hostile")
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "victim").write_bytes(b"in the image")
    (source / "AAAAAAAAAA").write_bytes(b"payload")
    (source / "plain").write_bytes(b"p" * 10_000)
    return make.ext(folder / "image", "-d", source, kind="ext2", mebibytes=4)


class Bytes:
    """A disk in memory. `before` is called with each read; `reads` has them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)
        self.before: Callable[[], None] | None = None
        self.reads: list[tuple[int, int]] = []

    def pread(self, length: int, offset: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.reads.append((offset, length))
        if self.before is not None:
            self.before()
        return self.data[offset : offset + length]


# The child


def test_the_child_has_nothing_but_its_socket(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWD_CHAP_SECRET", "a secret of twelve")
    with image.open("rb") as other, opened(str(image)) as volume:
        os.set_inheritable(other.fileno(), True)
        volume.root()
        proc = Path(f"/proc/{volume.helper.pid}")
        links = {os.readlink(fd) for fd in (proc / "fd").iterdir()}
        assert len([link for link in links if link.startswith("socket:")]) == 1
        assert {link for link in links if not link.startswith("socket:")} == {os.devnull}
        assert b"secret" not in (proc / "environ").read_bytes()
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        if os.geteuid() == 0:
            assert status["Uid"].split() == ["65534"] * 4
            assert status["Groups"].split() == []
            assert int(status["CapEff"], 16) == 0
        limits = {line[:26].strip(): line[26:].split()[:2] for line in (proc / "limits").read_text().splitlines()[1:]}
        assert limits["Max address space"] == [str(1 << 30)] * 2
        assert limits["Max cpu time"] == ["90", "90"]
        assert limits["Max file size"] == limits["Max processes"] == ["0", "0"]
        pid = volume.helper.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGXCPU])
def test_a_child_that_dies_or_hangs_is_eio_for_one_call(image: Path, how: signal.Signals) -> None:
    disk = Bytes(image.read_bytes())
    volume = open_volume(disk, "DEV", deadline=1.0 if how == signal.SIGSTOP else 30)

    def strike() -> None:
        disk.before = None
        assert volume.helper.pid is not None
        os.kill(volume.helper.pid, how)

    try:
        disk.before = strike
        with pytest.raises(errors.FileSystemError, match="the reader of ext2 failed at") as caught:
            volume.entry(b"/plain")
        assert caught.value.errno == errno.EIO
        assert volume.read(volume.entry(b"/plain"), 0, 4) == b"pppp"
        assert volume.helper.started == 2
    finally:
        volume.close()


def test_what_the_disk_says_passes_through(image: Path) -> None:
    disk = Bytes(image.read_bytes())
    volume = open_volume(disk, "DEV")

    def fail() -> None:
        raise errors.DeadlineExceeded("no answer in time")

    try:
        disk.before = fail
        with pytest.raises(errors.DeadlineExceeded):
            volume.root()
        disk.before = None
        assert volume.root().kind == "directory"
    finally:
        volume.close()


def test_ctrl_c_in_the_middle_leaves_no_wrong_answer(image: Path) -> None:
    disk = Bytes(image.read_bytes())
    volume = open_volume(disk, "DEV")

    def interrupt() -> None:
        disk.before = None
        raise KeyboardInterrupt

    try:
        disk.before = interrupt
        with pytest.raises(KeyboardInterrupt):
            volume.root()
        assert volume.read(volume.entry(b"/plain"), 0, 2) == b"pp"
    finally:
        volume.close()


def test_after_a_fork_and_after_close_it_is_ebadf(image: Path) -> None:
    with opened(str(image)) as volume:
        root = volume.root()
        pid = os.fork()
        if pid == 0:
            try:
                volume.entry(b"/plain")
            except errors.BadDescriptor:
                volume.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert volume.find(root, b"plain") is not None
    with pytest.raises(errors.BadDescriptor):
        volume.root()


# What it says


class Liar:
    """In the place of the helper: answers what it was told to."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def call(self, operation: str, **_arguments: object) -> Any:
        answer = self.answers[operation]
        return answer.pop(0) if isinstance(answer, list) and answer and isinstance(answer[0], list) else answer


def lying(**answers: Any) -> Volume:
    volume = Volume(Bytes(bytes(4096)), "DEV", FileSystem("ext4", "", "", 4096, 4096))
    volume.helper = Liar(**answers)  # type: ignore[assignment]
    return volume


ABOUT = {
    "number": 12,
    "kind": "file",
    "mode": 0o644,
    "links": 1,
    "size": 10,
    "uid": 0,
    "gid": 0,
    "mtime": 0,
    "atime": 0,
}


@pytest.mark.parametrize(
    "told",
    [
        None, 7, "x", [], {}, ABOUT | {"kind": "door"}, ABOUT | {"size": -1}, ABOUT | {"size": 1 << 64},
        ABOUT | {"uid": "0"},
        ABOUT | {"number": True}, ABOUT | {"mtime": 1e300}, ABOUT | {"kind": ["file"]}, ABOUT | {"device": [1, "x"]},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_error(told: object) -> None:
    with pytest.raises(errors.FileSystemError, match="makes no sense"):
        lying(root=2, about=told).root()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "../../x", "nul\0", "n" * 2000])
def test_a_name_that_leads_elsewhere_is_never_an_entry(name: str, tmp_path: Path) -> None:
    volume = lying(list=[[[name, 12, dict(ABOUT)]], []], root=2, about=ABOUT | {"kind": "directory"})
    (entry,) = list(volume.list(Entry(b"", 2, "directory")))
    assert entry.kind == "unknown"
    assert "name" in entry.unreadable
    extractor = Extractor(lying(list=[[[name, 12, dict(ABOUT)]], []], read=b"x" * 10, extents=None))
    extractor.tree(Entry(b"", 2, "directory", mode=0o755), str(tmp_path / "out"))
    assert len(extractor.copied.failures) == 1
    assert os.listdir(tmp_path / "out") == []
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("answer", [b"", b"x" * 11, "text", None, 5])
def test_a_file_that_is_shorter_or_longer_than_it_says(answer: object) -> None:
    with pytest.raises(errors.FileSystemError, match="damaged"):
        lying(read=answer).read(Entry(b"f", 12, "file", size=10), 0, 10)


@pytest.mark.parametrize("page", [5, [5], [[0, False]], [[-1, True]], [["1", True]], [[1, True, 2]], {"a": 1}])
def test_extents_that_make_no_sense(page: object) -> None:
    with pytest.raises(errors.FileSystemError, match="makes no sense"):
        list(lying(extents=page).spans(Entry(b"f", 12, "file", size=10)))


def test_spans_stay_inside_the_file() -> None:
    pages = [[[4, True], [4, False], [1 << 40, False]], []]
    assert list(lying(extents=pages).spans(Entry(b"f", 12, "file", size=10))) == [(4, 6)]
    pages = [[[4, False], [4, True]], []]
    assert list(lying(extents=pages).spans(Entry(b"f", 12, "file", size=10))) == [(0, 4), (8, 2)]


@pytest.mark.parametrize(
    "frames",
    [
        [b"Z\0\0\0\0"],
        [b"R\xff\xff\xff\xff"],
        [b"R\0\0\0\2{]"],
        [b"W\0\0\0\3abc"],
        [channel.HEAD.pack(b"W", 12) + channel.RANGE.pack(0, 2 << 20)],
        [b"R\0\0"],
    ],
)
def test_frames_that_break_the_rules_end_the_child(frames: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = Helper("ext4", BlockCache(Bytes(bytes(4096))), deadline=5)
        theirs.sendall(b"".join(frames))
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Broken):
            helper._ask(Channel(ours), {"op": "root"})


def test_a_range_outside_of_the_disk_is_refused_to_the_child() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        disk = Bytes(bytes(4096))
        helper = Helper("ext4", BlockCache(disk), deadline=5)
        for offset, length in ((4096, 1), (0, 4097), ((1 << 64) - 1, 1)):
            theirs.sendall(channel.HEAD.pack(b"W", 12) + channel.RANGE.pack(offset, length))
        theirs.sendall(channel.HEAD.pack(b"E", 2) + b"{}")
        with pytest.raises(errors.FileSystemError, match="outside of the disk"):
            helper._ask(Channel(ours), {"op": "root"})
        assert disk.reads == []


# The cache


def test_the_cache_reads_ahead_holds_on_and_is_bounded() -> None:
    data = random.Random(1).randbytes(BLOCK) * 400
    disk = Bytes(data)
    cache = BlockCache(disk)
    for offset in range(0, len(data), 50_000):
        assert cache.read(offset, 7) == data[offset : offset + 7]
    assert len(disk.reads) <= 400 // 8 + 3
    assert len(cache._blocks) <= CAPACITY
    before = len(disk.reads)
    assert cache.read(len(data) - 100, 100) == data[-100:]
    assert len(disk.reads) == before
    assert cache.read(BLOCK - 3, 2 * BLOCK) == data[BLOCK - 3 : 3 * BLOCK - 3]
    for offset, length in ((-1, 1), (len(data), 1), (0, len(data) + 1), (5, -1)):
        with pytest.raises(errors.FileSystemError):
            cache.read(offset, length)


# Images


def renamed(image: Path, to: Path, name: bytes) -> Path:
    """The file of ten letters gets another name, which mkfs would not have given it."""
    raw = image.read_bytes()
    assert raw.count(b"AAAAAAAAAA") == 1
    to.write_bytes(raw.replace(b"AAAAAAAAAA", name.ljust(10, b"\0")))
    at = to.read_bytes().index(name.ljust(10, b"\0"))
    return make.patched(to, (at - 2, bytes([len(name)])))


@pytest.mark.parametrize("name", [b"../escaped", b"..", b"/escaped", b"sub/victim", b"nul\0nul", b"."])
def test_a_foreign_name_writes_nowhere_else(image: Path, tmp_path: Path, name: bytes) -> None:
    bad = renamed(image, tmp_path / "bad", name)
    (tmp_path / "there").mkdir()
    with opened(str(bad)) as volume:
        extractor = Extractor(volume, overwrite=True)
        extractor.tree(volume.root(), str(tmp_path / "there" / "out"))
    assert sorted(os.listdir(tmp_path)) == ["bad", "there"]
    assert os.listdir(tmp_path / "there") == ["out"]
    assert sorted(os.listdir(tmp_path / "there" / "out")) == ["lost+found", "plain", "sub"]
    assert (tmp_path / "there" / "out" / "sub" / "victim").read_bytes() == b"in the image"
    if name not in (b".", b".."):
        assert len(extractor.copied.failures) == 1


def test_a_link_in_the_destination_is_not_followed(image: Path, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (elsewhere / "kept").write_bytes(b"kept")
    (out / "sub").symlink_to(elsewhere)
    (out / "plain").symlink_to(elsewhere / "kept")
    with opened(str(image)) as volume:
        extractor = Extractor(volume, overwrite=True)
        extractor.tree(volume.root(), str(out))
    assert os.listdir(elsewhere) == ["kept"]
    assert (elsewhere / "kept").read_bytes() == b"kept"
    assert not (out / "plain").is_symlink()
    assert [path for path, _error in extractor.copied.failures] == [b"sub"]


def test_a_circle_of_directories_ends(image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(image.read_bytes())
    make.run("debugfs", "-w", "-R", "link / sub/again", bad)
    make.run("debugfs", "-w", "-R", "link sub sub/self", bad)
    with opened(str(bad)) as volume:
        extractor = Extractor(volume)
        extractor.tree(volume.root(), str(tmp_path / "out"))
        assert {error.errno for _path, error in extractor.copied.failures} == {errno.ELOOP}
        assert volume.entry(b"/sub/again/sub/self/victim").size == 12


def test_links_inside_the_image_stay_inside(image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(image.read_bytes())
    for name, target in (("up", "../../../plain"), ("root", "/sub"), ("me", "me"), ("out", "/etc/passwd")):
        make.run("debugfs", "-w", "-R", f"symlink {name} {target}", bad)
    with opened(str(bad)) as volume:
        assert volume.entry(b"up").size == 10_000
        assert volume.entry(b"root/victim").size == 12
        for path, number in ((b"me", errno.ELOOP), (b"out", errno.ENOENT), (b"plain/x", errno.ENOTDIR)):
            with pytest.raises(errors.FileSystemError) as caught:
                volume.entry(path)
            assert caught.value.errno == number
        assert isinstance(caught.value, OSError)
        with pytest.raises(FileNotFoundError):
            volume.entry(b"nothing")


# Mutations; tools/fs_mutants.py runs thousands of them over every kind


@pytest.mark.parametrize("kind", ["ext4", "xfs", "fat16", "ntfs"])
def test_mutated_images_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    done = make.mutants.run(kind, 12, tmp_path, seed=11)
    assert done.ended == 12
    assert done.wrong == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20


def test_probe_and_swd_open_agree_on_the_size(image: Path) -> None:
    with swd.open(str(image)) as disk:
        found = probe.probe(disk)
    assert found is not None
    assert found.size_bytes == image.stat().st_size
    assert struct.unpack_from("<I", image.read_bytes(), 1028)[0] * found.block_size == found.size_bytes
