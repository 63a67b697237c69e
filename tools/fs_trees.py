# SPDX-License-Identifier: Apache-2.0
"""File trees in images that the kernel's own file systems wrote, and what `swdctl fs get -r` makes of them. As root.

    tools/fs_trees.py golden            write tests/golden/*.img.xz with their manifests anew
    tools/fs_trees.py full FOLDER [KIND...]     10,000 files, deep paths, links, holes, 5 GiB: every kind, compared by
                                                checksums and metadata; the log goes to standard output

The truth is what the kernel (FUSE for NTFS, mtools for FAT) says of the mounted tree, taken by `manifest`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import lzma
import os
import platform
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
NS = 10**9


def run(*command: str | Path, **settings: Any) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace", **settings)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-800:]}")
    return done.stdout


# The tree


def make_tree(top: bytes, *, files: int, deep: int, large: int, unix: bool, chance: random.Random) -> None:
    """`unix`: with what only Unix's file systems have (odd bytes in names, devices, owners)."""
    put(top + b"/empty", b"")
    put(top + b"/small", b"hello\n")
    put(top + b"/megabyte", chance.randbytes(1 << 20))
    many(top, files, chance)
    deeper(top, deep)
    holes(top)
    fragments(top, chance)
    put(top + "/dir 1/grüße".encode(), b"umlaut")
    os.link(top + b"/megabyte", top + b"/dir 1/second name")
    os.symlink(b"../megabyte", top + b"/dir 1/short link")
    os.symlink(b"y" * 200, top + b"/long link")
    if unix:
        odd(top)
    if large:
        with open(top + b"/large", "wb") as file:
            file.truncate(large)
            for at in range(0, large, large // 7):
                file.seek(at)
                file.write(chance.randbytes(1 << 20)[: large - at])
    dates = [0, 1, 1_600_000_000 * NS + 123_456_789, 4_000_000_000 * NS + 999_999_900, -5 * NS]
    for name, moment in zip((b"empty", b"small", b"megabyte", b"dir 1", b"holes"), dates, strict=True):
        os.utime(top + b"/" + name, ns=(moment // 100 * 100, moment // 100 * 100))


def put(path: bytes, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def many(top: bytes, files: int, chance: random.Random, name: bytes = b"/file number %06d") -> None:
    """Half of them in one directory, the rest in many."""
    for n in range(files):
        folder = b"/many" if n % 2 else b"/dir %d" % (n % 20 + 1)
        put(top + folder + name % n, chance.randbytes(chance.choice((0, 1, 40, 100, 5000, 20000))))


def deeper(top: bytes, levels: int) -> None:
    """Directories in directories, by descriptor, since the path is longer than a path may be."""
    fd = os.open(top, os.O_RDONLY)
    for n in range(levels):
        name = b"level %03d" % n
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open(b"bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"the bottom")
    os.close(fd)


def holes(top: bytes) -> None:
    with open(top + b"/holes", "wb") as file:
        for at in (1 << 20, (5 << 20) + 4096):
            file.seek(at)
            file.write(b"data" * 1024)
        file.truncate(9 << 20)
    with open(top + b"/only a hole", "wb") as file:
        file.truncate(12345)
    with open(top + b"/allocated", "wb") as file, contextlib.suppress(OSError):
        file.write(b"start")
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 1 << 20)


def fragments(top: bytes, chance: random.Random) -> None:
    """Every other block: hundreds of extents, so that they need a tree."""
    with open(top + b"/fragments", "wb") as file:
        for n in range(1200):
            file.seek(n * 8192)
            file.write(chance.randbytes(4096))


def odd(top: bytes) -> None:
    put(top + b"/odd/\xff\xfe no UTF-8 \x80", b"bytes")
    put(top + b"/odd/line\nfeed and \x1b escape", b"x")
    put(top + b"/odd/" + b"n" * 255, b"as long as a name may be")
    os.symlink(b"to \xff nowhere", top + b"/odd/link")
    os.symlink(b"z" * 1000, top + b"/odd/longest link")
    os.mkfifo(top + b"/odd/fifo")
    put(top + b"/odd/owned", b"by somebody")
    os.chown(top + b"/odd/owned", 70001, 123456)
    os.chmod(top + b"/odd/owned", 0o6751)
    os.mkdir(top + b"/odd/sticky")
    os.chmod(top + b"/odd/sticky", 0o1777)
    os.chmod(top + b"/small", 0o400)


# What a tree is


def manifest(top: bytes) -> dict[str, dict[str, Any]]:
    """Everything that `fs get -r` keeps, by path. Relative descriptors, since paths may be too long to be opened."""
    found: dict[str, dict[str, Any]] = {}
    fd = os.open(top, os.O_RDONLY)
    try:
        _manifest(fd, b"", found)
    finally:
        os.close(fd)
    return found


def _manifest(fd: int, path: bytes, found: dict[str, dict[str, Any]]) -> None:
    for name in sorted(map(os.fsencode, os.listdir(fd))):
        if not path and name == b"lost+found":
            continue
        about = os.stat(name, dir_fd=fd, follow_symlinks=False)
        key = (path + name).decode("utf-8", "surrogateescape")
        found[key] = {
            "type": stat.S_IFMT(about.st_mode) >> 12,
            "mode": stat.S_IMODE(about.st_mode),
            "uid": about.st_uid,
            "gid": about.st_gid,
            "mtime": about.st_mtime_ns,
        }
        if stat.S_ISDIR(about.st_mode):
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            try:
                _manifest(below, path + name + b"/", found)
            finally:
                os.close(below)
            continue
        found[key]["links"] = about.st_nlink
        if stat.S_ISLNK(about.st_mode):
            found[key]["target"] = os.readlink(name, dir_fd=fd).decode("utf-8", "surrogateescape")
        elif stat.S_ISREG(about.st_mode):
            found[key] |= _content(os.open(name, os.O_RDONLY, dir_fd=fd), about.st_size)


def _content(fd: int, size: int) -> dict[str, Any]:
    """Checksum, size, and how many bytes lie in data rather than in holes."""
    digest, at, data = hashlib.sha256(), 0, 0
    with os.fdopen(fd, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            data += at - start
    return {"size": size, "sha256": digest.hexdigest(), "data": data}


# Images


@contextlib.contextmanager
def mounted(image: Path, folder: Path, *how: str) -> Iterator[bytes]:
    folder.mkdir(exist_ok=True)
    run(*(how or ("mount", "-o", "loop")), image, folder)
    try:
        yield os.fsencode(folder)
    finally:
        run("umount", folder)


EXT = ("mkfs.ext4", "-q", "-F")
XFS = ("mkfs.xfs", "-q", "-f")
IMAGES: dict[str, tuple[tuple[str, ...], int]] = {  # name -> mkfs, MiB
    "ext4": (EXT, 48),
    "ext4-1k": ((*EXT, "-b", "1024", "-I", "256", "-O", "^64bit,^metadata_csum"), 48),
    "ext4-bigalloc": ((*EXT, "-O", "bigalloc", "-C", "16384"), 64),
    "ext4-old": ((*EXT, "-b", "1024", "-O", "^extent,^64bit,^flex_bg,^metadata_csum"), 48),
    "xfs": (XFS, 300),
    "xfs-1k": ((*XFS, "-b", "size=1024", "-n", "size=8192", "-i", "nrext64=1"), 300),
}


# Extents in a tree of three levels, which libfsxfs does not follow, and says so.
REFUSED = {"xfs-1k": {"fragments"}}


def make_image(
    name: str, image: Path, mount: Path, fill: Callable[[bytes], None], mebibytes: int | None = None
) -> dict[str, Any]:
    """An image that the kernel filled, and its manifest as the kernel has it after a new mount."""
    command, small = IMAGES[name]
    with image.open("wb") as file:
        file.truncate((mebibytes or small) << 20)
    run(*command, image)
    with mounted(image, mount) as top:
        fill(top)
    with mounted(image, mount, "mount", "-o", "loop,ro,noatime") as top:
        return manifest(top)


def golden(work: Path) -> None:
    for name in IMAGES:
        image = work / f"{name}.img"
        told = make_image(
            name,
            image,
            work / "mnt",
            lambda top: make_tree(top, files=300, deep=30, large=0, unix=True, chance=Zeros(1)),
        )
        packed = GOLDEN / f"fs-{name}.img.xz"
        packed.write_bytes(lzma.compress(image.read_bytes(), preset=9))
        (GOLDEN / f"fs-{name}.json.xz").write_bytes(lzma.compress(json.dumps(told, indent=0).encode()))
        print(packed.name, packed.stat().st_size, len(told))
        image.unlink()


class Zeros(random.Random):
    """Content that packs well, and is still another for each file."""

    def randbytes(self, n: int) -> bytes:
        word = b"%08x" % self.getrandbits(32)
        return (word * (n // 8 + 1))[:n]


# Comparison


def differences(truth: dict[str, dict[str, Any]], got: dict[str, dict[str, Any]], ignored: set[str]) -> list[str]:
    lines = [f"{path!a}: is not there" for path in truth.keys() - got.keys()]
    lines += [f"{path!a}: should not be there" for path in got.keys() - truth.keys()]
    for path in truth.keys() & got.keys():
        for key, value in truth[path].items():
            if key not in ignored and got[path].get(key) != value:
                lines.append(f"{path!a}: {key} is {got[path].get(key)}, should be {value}")
    return sorted(lines)


def get(image: Path, to: Path, refused: set[str] | None = None) -> float:
    """`refused`: files that shall not come out, with EOPNOTSUPP; all others shall."""
    shutil.rmtree(to, ignore_errors=True)
    began = time.monotonic()
    command = [ROOT / ".venv/bin/swdctl", "fs", "get", "-r", "--owner", "--verbose", image, "/", "-o", to]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    if done.returncode != (errno.EOPNOTSUPP if refused else 0):
        sys.exit(f"status {done.returncode}: {done.stderr[-800:]}")
    for name in refused or ():
        print(f"    refused: {next(line for line in done.stderr.splitlines() if f': {name}: ' in line)}")
    return time.monotonic() - began


def report(name: str, truth: dict[str, Any], out: Path, seconds: float, ignored: set[str]) -> int:
    wrong = differences(truth, manifest(os.fsencode(out)), ignored)
    size = sum(entry.get("size", 0) for entry in truth.values())
    verdict = f"{len(wrong)} DIFFERENCES" if wrong else "the same"
    print(f"{name}: {len(truth)} entries, {size} bytes, {seconds:.1f} s: {verdict}", flush=True)
    print("".join(f"    {line}\n" for line in wrong[:20]), end="")
    return len(wrong)


def full(work: Path, kinds: list[str]) -> int:
    commit = run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    print(f"commit {commit}, Linux {platform.release()}, Python {platform.python_version()}", flush=True)
    wrong = 0
    for kind in kinds or [*IMAGES, "ntfs", "fat"]:
        wrong += full_kernel(work, kind) if kind in IMAGES else {"ntfs": full_ntfs, "fat": full_fat}[kind](work)
    print(f"{wrong} differences" if wrong else "all the same")
    return wrong


def full_kernel(work: Path, name: str) -> int:
    """ext4 and XFS with everything, their other layouts with fewer files."""
    image, small = work / f"{name}.img", name not in ("ext4", "xfs")
    files, large = (1000, 0) if small else (10_000, 5 << 30)

    def fill(top: bytes) -> None:
        make_tree(top, files=files, deep=300, large=large, unix=True, chance=random.Random(name))

    truth = make_image(name, image, work / "mnt", fill, None if small else 2048)
    refused = REFUSED.get(name, set())
    seconds = get(image, work / "out", refused)
    truth = {path: entry for path, entry in truth.items() if path not in refused}
    # What was allocated and never written is a hole to whoever reads it: `data` is judged apart.
    wrong = report(name, truth, work / "out", seconds, {"data"}) + kept_holes(truth, work / "out")
    image.unlink()
    return wrong


def kept_holes(truth: dict[str, Any], out: Path) -> int:
    """No file takes more data here than there, but for the rounding to blocks of this host's file system."""
    got = manifest(os.fsencode(out))
    more = [
        path for path, entry in truth.items() if got.get(path, {}).get("data", 0) > entry.get("data", 0) + 64 * 1024
    ]
    print(f"    holes: {len(more)} files have fewer than they had" if more else "    holes: kept", flush=True)
    return len(more)


def full_ntfs(work: Path) -> int:
    image, out = work / "ntfs.img", work / "out"
    with image.open("wb") as file:
        file.truncate(8192 << 20)
    run("mkntfs", "-q", "-Q", "-F", image)
    with mounted(image, work / "mnt", "ntfs-3g", "-o", "streams_interface=none") as top:
        make_tree(top, files=10_000, deep=60, large=5 << 30, unix=False, chance=random.Random("ntfs"))
    with mounted(image, work / "mnt", "ntfs-3g", "-o", "ro,streams_interface=none") as top:
        truth = manifest(top)
    seconds = get(image, out)
    wrong = report("ntfs", truth, out, seconds, {"data", "mode", "uid", "gid"})  # it has access lists instead
    image.unlink()
    return wrong


def full_fat(work: Path) -> int:
    wrong, source, out = 0, work / "source", work / "out"
    for bits, mebibytes in ((12, 4), (16, 128), (32, 512)):
        image = work / "fat.img"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        # Short names that differ: mcopy is slow at finding ones for names that begin alike.
        many(os.fsencode(source), {12: 100, 16: 2000, 32: 10_000}[bits], random.Random(bits), b"/%06d is a file")
        put(os.fsencode(source) + "/a folder/Grüße mit Umlaut und langem Namen.txt".encode(), b"umlaut" * 3000)
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        run("mkfs.fat", "-F", str(bits), image)
        for top in sorted(source.iterdir()):
            run("mcopy", "-s", "-m", "-i", image, top, "::/")
        seconds = get(image, out)
        wrong += report(
            f"fat{bits}", manifest(os.fsencode(source)), out, seconds, {"data", "mode", "uid", "gid", "mtime"}
        )
        image.unlink()
    return wrong


def main() -> None:
    if os.geteuid() != 0 or len(sys.argv) < 2:
        sys.exit(__doc__)
    work = Path(sys.argv[2] if len(sys.argv) > 2 else "/tmp/swd-fs-trees").resolve()
    work.mkdir(exist_ok=True)
    if sys.argv[1] == "golden":
        golden(work)
    else:
        sys.exit(1 if full(work, sys.argv[3:]) else 0)


if __name__ == "__main__":
    main()
