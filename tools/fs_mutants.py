# SPDX-License-Identifier: Apache-2.0
"""Mutated file systems, read whole by swd: superblocks, and blocks of metadata. As a user or root.

    tools/fs_mutants.py COUNT [KIND...]     COUNT mutants of each kind (ext2 ext4 xfs ntfs fat12 fat16 fat32)

A mutant may be refused (SwdError), or read with errors. What may not be: another exception, a read outside of the
disk, a call that takes longer than its deadline, a child that goes on, memory without bound.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from swd import crc32c, errors
from swd.volumes.filesystems.volume import Entry, Volume, open_volume

DEADLINE = 5.0
ENOUGH = 200  # entries of one mutant that are looked at
SIZES = {"ext2": 4, "ext4": 8, "xfs": 300, "ntfs": 8, "fat12": 2, "fat16": 16, "fat32": 40}


@dataclass
class Tally:
    """What came of a run. `wrong` has a line for each mutant that did what none may."""

    ended: int = 0
    refused: int = 0
    deaths: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Mutant:
    """A sparse image with other bytes in some places; notes a read outside of it."""

    def __init__(self, path: Path, changes: dict[int, bytes]) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size, self._changes = os.fstat(self._fd).st_size, changes
        self.outside = 0

    def pread(self, length: int, offset: int) -> bytes:
        if offset < 0 or length < 0 or length > 8 << 20 or offset + length > self.size:
            self.outside += 1
            return b""
        data = bytearray(os.pread(self._fd, length, offset))
        for at, new in self._changes.items():
            for n, byte in enumerate(new):
                if offset <= at + n < offset + length:
                    data[at + n - offset] = byte
        return bytes(data)

    def close(self) -> None:
        os.close(self._fd)


def made(kind: str, folder: Path) -> Path:
    """A small image with a little of everything, by the kind's own tools."""
    path, source = folder / kind, folder / f"{kind}.source"
    (source / "folder" / "inner").mkdir(parents=True)
    for n in range(60):
        (source / "folder" / f"file-{n}-with-a-name-of-some-length").write_bytes(b"%d" % n * (n * 50))
    (source / "large").write_bytes(bytes(range(256)) * 2000)
    with path.open("wb") as file:
        file.truncate(SIZES[kind] << 20)
    if kind.startswith("ext"):
        (source / "link").symlink_to("large")
        command(f"mkfs.{kind}", "-q", "-F", "-d", source, path)
    elif kind == "xfs":
        proto = folder / "proto"
        lines = [
            "/",
            "0 0",
            "d--755 0 0",
            f"large ---644 0 0 {source}/large",
            "link l--777 0 0 large",
            "folder d--755 0 0",
        ]
        lines += [f"{file.name} ---644 0 0 {file}" for file in sorted((source / "folder").glob("file*"))]
        proto.write_text("\n".join([*lines, "$", "$", ""]))
        command("mkfs.xfs", "-q", "-p", proto, path)
    elif kind == "ntfs":
        command("mkntfs", "-q", "-Q", "-F", "-s", "512", "-p", "0", "-H", "1", "-S", "1", path)
        for file in [source / "large", *sorted((source / "folder").glob("file*"))[:20]]:
            command("ntfscp", "-f", path, file, f"/{file.name}")
    else:
        command("mkfs.fat", "-F", kind[3:], path)
        command("mcopy", "-s", "-i", path, source / "large", source / "folder", "::/")
    return path


def command(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def used(path: Path) -> list[int]:
    """Every 512-byte sector that holds something: there lie superblocks, inodes, directories."""
    found, fd = [], os.open(path, os.O_RDONLY)
    try:
        at = 0
        while True:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                return found
            end = os.lseek(fd, at, os.SEEK_HOLE)
            while at < end:
                piece = os.pread(fd, 65536, at)
                found += [at + n for n in range(0, len(piece), 512) if piece[n : n + 512].strip(b"\0\xff")]
                at += 65536
    finally:
        os.close(fd)


def mutation(kind: str, path: Path, sectors: list[int], chance: random.Random) -> dict[int, bytes]:
    """Half of them in the superblock, whose checksum is made right; half anywhere in what is used."""
    changes: dict[int, bytes] = {}
    head = 1024 if kind.startswith("ext") else 0
    fields = chance.random() < 0.5
    for _ in range(chance.randint(1, 6)):
        at = head + chance.randrange(300) if fields else chance.choice(sectors) + chance.randrange(512)
        width = chance.choice((1, 1, 2, 4, 8))
        changes[at] = chance.choice(
            (bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), chance.randbytes(width))
        )
    if fields and kind in ("ext4", "xfs"):
        with path.open("rb") as file:
            raw = bytearray(file.read(4096))
        for at, new in changes.items():
            raw[at : at + len(new)] = new
        if kind == "ext4":
            changes[2044] = (crc32c(bytes(raw[1024:2044])) ^ 0xFFFFFFFF).to_bytes(4, "little")
        else:
            changes[224] = crc32c(bytes(raw[:224]) + bytes(4) + bytes(raw[228:512])).to_bytes(4, "little")
    return changes


def read_all(volume: Volume) -> None:
    """Names, attributes, targets, contents, until enough was seen. Errors of single files are what is expected."""
    left, todo, seen = ENOUGH, [volume.root()], set()
    while todo and left:
        folder = todo.pop()
        if folder.number in seen:
            continue
        seen.add(folder.number)
        with contextlib.suppress(errors.SwdError):
            for entry in volume.list(folder):
                left -= 1
                if entry.kind == "directory":
                    todo.append(entry)
                with contextlib.suppress(errors.SwdError):
                    look_at(volume, entry)
                if not left:
                    break
    with contextlib.suppress(errors.SwdError):
        volume.free_bytes()


def look_at(volume: Volume, entry: Entry) -> None:
    if entry.kind == "link":
        volume.target(entry)
    elif entry.kind == "file":
        for start, length in list(volume.spans(entry))[:4]:
            volume.read(entry, start, min(length, 1 << 20))


def run(kind: str, count: int, folder: Path, *, seed: int = 0) -> Tally:
    """`count` mutants of a kind."""
    path, tally = made(kind, folder), Tally()
    sectors, chance = used(path), random.Random(f"{kind} {seed}")
    for n in range(count):
        mutant, began = Mutant(path, mutation(kind, path, sectors, chance)), time.monotonic()
        try:
            volume = open_volume(mutant, kind, dirty=True, deadline=DEADLINE)
            try:
                read_all(volume)
                tally.deaths += volume.helper.started - 1
            finally:
                pid = volume.helper.pid
                volume.close()
                if pid is not None and Path(f"/proc/{pid}").exists():
                    tally.wrong.append(f"{kind} {n}: its child goes on")
        except errors.SwdError:
            tally.refused += 1
        except Exception as error:  # noqa: BLE001  # what a run is for
            tally.wrong.append(f"{kind} {n}: {type(error).__name__}: {error}")
        if mutant.outside:
            tally.wrong.append(f"{kind} {n}: {mutant.outside} reads outside of the disk")
        mutant.close()
        tally.ended += 1
        tally.slowest = max(tally.slowest, time.monotonic() - began)
    return tally


def main() -> None:
    count, kinds = int(sys.argv[1]), sys.argv[2:] or list(SIZES)
    top = Path(__file__).parent
    commit = subprocess.run(["git", "-C", top, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"commit {commit}, Linux {platform.release()}, Python {platform.python_version()}", flush=True)
    wrong = 0
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            tally = run(kind, count, Path(folder))
        wrong += len(tally.wrong)
        print(
            f"{kind}: {tally.ended} mutants, {tally.refused} refused, {tally.deaths} children died, "
            f"slowest {tally.slowest:.1f} s, {len(tally.wrong)} wrong",
            flush=True,
        )
        print("".join(f"    {line}\n" for line in tally.wrong[:20]), end="")
    ours, theirs = (resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"largest memory: {ours} MiB here, {theirs} MiB in a child")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
