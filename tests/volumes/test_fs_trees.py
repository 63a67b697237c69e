# SPDX-License-Identifier: Apache-2.0
"""Whole trees: what comes out of an image is what went in, as the kernel (or the tool that made it) says.

The golden images were written by the kernel's own ext4 and XFS (tools/fs_trees.py golden); the others are made here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
from support import filesystems as make

from swd import errors
from swd.cli.extract import Extractor
from swd.driver.filesystems import opened

pytestmark = pytest.mark.mkfs

ROOT = os.geteuid() == 0
# libfsxfs says that it does not know extents in a tree of three levels: an error, not wrong bytes.
NOT_READ = {"xfs-1k": {"fragments"}}


def extracted(image: Path, folder: Path, **settings: Any) -> Extractor:
    with opened(str(image)) as volume:
        extractor = Extractor(volume, **settings)
        extractor.tree(volume.root(), str(folder))
    return extractor


@pytest.mark.parametrize("name", ["ext4", "ext4-1k", "ext4-bigalloc", "ext4-old", "xfs", "xfs-1k"])
def test_a_tree_that_the_kernel_wrote_comes_out_the_same(tmp_path: Path, name: str) -> None:
    """Names of any bytes, deep paths, fragments, links of both kinds, owners, modes, times to the nanosecond."""
    image, truth = make.unpacked(f"fs-{name}.img", tmp_path), make.truth(f"fs-{name}")
    done = extracted(image, tmp_path / "out", owner=ROOT)
    got = make.trees.manifest(os.fsencode(tmp_path / "out"))
    not_read = NOT_READ.get(name, set())
    assert {path.decode() for path, _error in done.copied.failures} == not_read
    assert {error.errno for _path, error in done.copied.failures} <= {errno.EOPNOTSUPP}
    ignored = {"data"} | (set() if ROOT else {"uid", "gid", "mode"})
    assert make.trees.differences({k: v for k, v in truth.items() if k not in not_read}, got, ignored) == []
    assert done.copied.links == 1
    holes = {path: got[path]["data"] for path in ("holes", "only a hole", "allocated")}
    assert all(data <= truth[path]["data"] for path, data in holes.items())
    assert holes["only a hole"] == 0


@pytest.mark.parametrize("kind", ["ext2", "ext3"])
def test_a_tree_made_by_mkfs(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make.trees.make_tree(os.fsencode(source), files=100, deep=10, large=0, unix=ROOT, chance=random.Random(kind))
    image = make.ext(tmp_path / "image", "-d", source, kind=kind)
    extracted(image, tmp_path / "out", owner=ROOT)
    truth, got = (make.trees.manifest(os.fsencode(top)) for top in (source, tmp_path / "out"))
    # This mkfs keeps whole seconds only, of 32 bits; and an older one forgets some links' and folders' own.
    assert make.trees.differences(truth, got, {"data", "mtime", *(() if ROOT else ("uid", "gid"))}) == []


@pytest.mark.fuse
def test_a_tree_on_ntfs(tmp_path: Path) -> None:
    """Hard links, Interix's symbolic links, compressed and sparse files, times in 100 ns."""
    image = make.ntfs(tmp_path / "image", mebibytes=48)
    mount = tmp_path / "mnt"
    with make.trees.mounted(image, mount, "ntfs-3g", "-o", "streams_interface=none") as top:
        make.trees.make_tree(top, files=150, deep=10, large=0, unix=False, chance=random.Random(7))
        os.mkdir(top + b"/packed")
        os.setxattr(top + b"/packed", "system.ntfs_attrib_be", (0x810).to_bytes(4, "big"))
        (Path(os.fsdecode(top)) / "packed" / "file").write_bytes(b"to be compressed " * 30000)
    with make.trees.mounted(image, mount, "ntfs-3g", "-o", "ro,streams_interface=none") as top:
        truth = make.trees.manifest(top)
    extracted(image, tmp_path / "out")
    got = make.trees.manifest(os.fsencode(tmp_path / "out"))
    assert make.trees.differences(truth, got, {"data", "mode", "uid", "gid"}) == []
    assert got["holes"]["data"] <= 64 << 10


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_tree_on_fat(tmp_path: Path, bits: int) -> None:
    source, chance = tmp_path / "source", random.Random(bits)
    names = ["SHORT.TXT", "a long name with blanks.text", "grüße.dat", "dir/inner/deep file.bin", "dir/x"]
    for n, name in enumerate(names):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes((0, 1, 5000, 70_000, 513)[n]))
        os.utime(path, (1_500_000_000 + 2 * n, 1_500_000_000 + 2 * n))
    image = make.fat(tmp_path / "image", bits)
    make.run(
        "mcopy",
        "-s",
        "-m",
        "-i",
        image,
        *sorted(source.iterdir()),
        "::/",
        env=os.environ | {"TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    make.run("mdel", "-i", image, "::/SHORT.TXT")
    extracted(image, tmp_path / "out")
    for n, name in enumerate(names[1:], 1):
        path = tmp_path / "out" / name
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((source / name).read_bytes()).digest()
        assert path.stat().st_mtime == 1_500_000_000 + 2 * n
    assert not (tmp_path / "out" / "SHORT.TXT").exists()
    assert sum(len(files) for _top, _below, files in os.walk(tmp_path / "out")) == len(names) - 1


@pytest.mark.parametrize(("bits", "mebibytes"), [(12, 8), (16, 128), (32, 36), (32, 34)])
def test_fat_near_a_limit_is_read_right_or_refused(tmp_path: Path, bits: int, mebibytes: int) -> None:
    """libfsfat counts clusters otherwise than the specification, and reads a FAT12 of 4081 of them as a FAT16."""
    content = random.Random(bits).randbytes(300_000)
    (tmp_path / "file").write_bytes(content)
    image = make.blank(tmp_path / "image", mebibytes)
    make.run("mkfs.fat", "-F", str(bits), *(("-s", "1") if bits == 32 else ()), image)
    make.run("mcopy", "-i", image, tmp_path / "file", "::/file")
    if bits == 12:
        with pytest.raises(errors.Unsupported, match="libfsfat takes a FAT12 for another") as caught:
            extracted(image, tmp_path / "out")
        assert caught.value.errno == errno.EOPNOTSUPP
        return
    extracted(image, tmp_path / "out")
    assert (tmp_path / "out" / "file").read_bytes() == content


@pytest.mark.parametrize("words", [(), ("-n", "ftype=1"), ("-b", "size=512"), ("-i", "size=2048")])
def test_xfs_of_version_4(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Kernels do not mount it any more; mkfs still makes it, and fills it from a list."""
    source, chance = tmp_path / "source", random.Random(4)
    source.mkdir()
    names = [f"file-with-a-rather-long-name-{n}" for n in range(200)]
    for name in names:
        (source / name).write_bytes(chance.randbytes(chance.choice((0, 10, 5000))))
    lines = ["x", "0 0", "d--755 0 0", f"link l--777 0 0 {'t' * 400}", "folder d--750 3 4"]
    lines += [*(f"{name} ---640 0 0 {source / name}" for name in names), "$", "few d--755 0 0"]
    (tmp_path / "list").write_text("\n".join([*lines, f"one ---644 0 0 {source / names[5]}", "$", "$", ""]))
    image = make.xfs(tmp_path / "image", "-m", "crc=0", *words, "-p", tmp_path / "list")
    done = extracted(image, tmp_path / "out")
    assert done.copied.failures == []
    assert os.readlink(tmp_path / "out" / "link") == "t" * 400
    assert sorted(os.listdir(tmp_path / "out" / "folder")) == sorted(names)
    for name in names:
        assert (tmp_path / "out" / "folder" / name).read_bytes() == (source / name).read_bytes()
    assert (tmp_path / "out" / "few" / "one").read_bytes() == (source / names[5]).read_bytes()
    assert (tmp_path / "out" / "folder").stat().st_mode & 0o7777 == 0o750
