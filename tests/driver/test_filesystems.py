# SPDX-License-Identifier: Apache-2.0
"""`swd.filesystem`: fsspec over an image, over a partition, over iSCSI; refusals; what is missing."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec import AbstractFileSystem
from support import filesystems as make

import swd
from swd import errors

pytestmark = pytest.mark.mkfs


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.unpacked("fs-ext4.img", tmp_path_factory.mktemp("face"))


@pytest.fixture(scope="module")
def fs(image: Path) -> Iterator[AbstractFileSystem]:
    with swd.filesystem(str(image)) as opened:
        yield opened


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, object]]:
    return make.truth("fs-ext4")


def test_every_name_and_every_byte(fs: AbstractFileSystem, truth: dict[str, dict[str, object]]) -> None:
    found = {path.strip("/") for path in fs.find("/", withdirs=True)}
    assert {path for path in found if not path.startswith("lost+found")} - {""} == set(truth)
    for path in ("megabyte", "many/file number 000001", "fragments", "holes", "odd/\udcff\udcfe no UTF-8 \udc80"):
        assert hashlib.sha256(fs.cat_file(path)).hexdigest() == truth[path]["sha256"]
        assert fs.info(path)["mtime_ns"] == truth[path]["mtime"]
        assert fs.info(path)["mode"] == truth[path]["mode"]


def test_a_file_is_sought_and_read(fs: AbstractFileSystem) -> None:
    whole = fs.cat_file("/megabyte")
    with fs.open("/megabyte", block_size=4096) as file:
        assert (file.size, file.seek(-10, os.SEEK_END), file.read()) == (1 << 20, (1 << 20) - 10, whole[-10:])
        file.seek(12345)
        assert file.read(100) == whole[12345:12445]
    assert fs.cat_file("/megabyte", start=1000, end=1010) == whole[1000:1010]
    with fs.open("/dir 1/short link", "rb") as file:  # a link is followed
        assert file.read(8) == whole[:8]
    with fs.open("/small", "r") as file:
        assert file.read() == "hello\n"


def test_what_fsspec_users_do(fs: AbstractFileSystem, tmp_path: Path) -> None:
    assert fs.exists("/small")
    assert not fs.exists("/nothing")
    assert fs.isdir("/many")
    assert fs.isfile("/small")
    assert fs.du("/small") == 6
    assert len(fs.glob("/many/file number 00000*")) == 5
    assert fs.info("/dir 1/short link")["type"] == "link"
    assert fs.readlink("/dir 1/short link") == "../megabyte"
    fs.get("/small", str(tmp_path / "small"))
    assert (tmp_path / "small").read_bytes() == b"hello\n"
    assert {name for name, _below, _files in fs.walk("/odd")} >= {"/odd"}
    assert fs.free_bytes() > 0
    assert fs.kind == "ext4"
    assert not fs.changed()


def test_nothing_is_written(fs: AbstractFileSystem) -> None:
    for attempt in (lambda: fs.rm("/small"), lambda: fs.mkdir("/new"), lambda: fs.copy("/small", "/other")):
        with pytest.raises(errors.FileSystemError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    with pytest.raises(errors.Unsupported):
        fs.open("/small", "wb")
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(fs)


def test_missing_and_wrong_kinds(fs: AbstractFileSystem) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fs.open("/nothing")
    assert isinstance(caught.value, errors.SwdError)
    assert caught.value.errno == errno.ENOENT
    for path, number in (("/many", errno.EISDIR), ("/small/x", errno.ENOTDIR)):
        with pytest.raises(errors.FileSystemError) as failed:
            fs.open(path)
        assert failed.value.errno == number


def test_many_threads_read_what_one_reads(fs: AbstractFileSystem, truth: dict[str, dict[str, object]]) -> None:
    wrong: list[str] = []
    paths = [path for path, entry in truth.items() if "sha256" in entry and path.startswith("many/")][:40]

    def read(mine: list[str]) -> None:
        wrong.extend(path for path in mine if hashlib.sha256(fs.cat_file(path)).hexdigest() != truth[path]["sha256"])

    threads = [threading.Thread(target=read, args=(paths[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_table_of_a_partition(tmp_path: Path) -> None:
    """As pandas would: a text file out of a partition, by its number."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "table.csv").write_text("a,b\n1,2\n")
    part = make.ext(tmp_path / "part", "-d", source, mebibytes=8)
    disk = make.blank(tmp_path / "disk", 12)
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (16384).to_bytes(4, "little")
    make.patched(disk, (446, entry), (510, b"\x55\xaa"), (1 << 20, part.read_bytes()))
    with swd.filesystem(str(disk), partition=1) as fs, fs.open("table.csv") as file:
        assert list(csv.reader(io.TextIOWrapper(file))) == [["a", "b"], ["1", "2"]]
    with pytest.raises(errors.Unsupported, match="--partition N"):
        swd.filesystem(str(disk))


def test_a_file_system_that_is_not_clean(tmp_path: Path) -> None:
    image = make.ext(tmp_path / "image", kind="ext2", mebibytes=4)
    make.run("debugfs", "-w", "-R", "ssv state 0", image)
    with pytest.raises(errors.DeviceBusy):
        swd.filesystem(str(image))
    with swd.filesystem(str(image), dirty=True) as fs:
        assert "unmounted" in fs.dirty
        assert fs.ls("/", detail=False) == ["/lost+found"]
        make.run("debugfs", "-w", "-R", "ssv mnt_count 7", image)
        assert fs.changed()


@pytest.mark.parametrize("module", ["pyfsext", "fsspec"])
def test_without_the_extra_it_is_named(image: Path, module: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
import swd
try:
    swd.filesystem({str(image)!r})
except swd.Unsupported as error:
    print(error.errno, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"{errno.EOPNOTSUPP} " in done.stdout
    assert "pip install 'iscsi-swd[fs]'" in done.stdout, done.stderr


def test_windows_asleep_is_not_clean(tmp_path: Path) -> None:
    image = make.ntfs(tmp_path / "image")
    sleeping = tmp_path / "hiberfil.sys"
    sleeping.write_bytes(b"hibr" + bytes(8192))
    make.run("ntfscp", image, sleeping, "/hiberfil.sys")
    with pytest.raises(errors.DeviceBusy, match="hibernated"):
        swd.filesystem(str(image))
    with swd.filesystem(str(image), dirty=True) as fs:
        assert fs.ls("/", detail=False) == ["/hiberfil.sys"]
