# SPDX-License-Identifier: Apache-2.0
"""`fs`: file systems on a device, read without the kernel: what is there, its names, its files."""

from __future__ import annotations

import contextlib
import errno
import json
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from swd.cli.call import Call, UsageProblem
from swd.driver import filesystems
from swd.errors import DeviceBusy, FileSystemError

if TYPE_CHECKING:
    from swd.volumes.filesystems.volume import Entry, Volume

LETTERS: Final = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Detected:
    """What `fs detect` tells. `clean` is None where there is no file system that could be."""

    device: str
    file_system: str | None
    label: str = ""
    uuid: str = ""
    size_bytes: int = 0
    block_size: int = 0
    clean: bool | None = None
    not_clean_because: str = ""
    readable: bool = False
    not_readable_because: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """`not_clean` says why what is shown may not fit together; "" for a clean file system."""

    device: str
    file_system: str
    not_clean: str
    entries: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True)
class Tree:
    device: str
    file_system: str
    not_clean: str
    directories: int
    files: int
    tree: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Space:
    device: str
    file_system: str
    not_clean: str
    size_bytes: int
    used_bytes: int | None
    free_bytes: int | None
    used_percent: float | None


def detect(call: Call, *, dev: str, partition: int | None) -> Detected:
    """No file system is an answer, not an error."""
    found = filesystems.check(dev, partition=partition, **call.options)
    if found is None:
        return Detected(dev, None)
    return Detected(
        dev,
        found.kind,
        found.label,
        found.uuid,
        found.size_bytes,
        found.block_size,
        None if found.unsupported else not found.dirty,
        found.dirty,
        not found.unsupported,
        found.unsupported,
    )


def ls(call: Call, *, dev: str, path: str, partition: int | None, dirty: bool) -> Listing:
    """A directory's files, by name; or the one file that `path` is."""
    with opened(call, dev, partition, dirty) as volume:
        here = volume.entry(encode(path))
        found = sorted(volume.list(here), key=lambda entry: entry.name) if here.kind == "directory" else [here]
        return Listing(dev, volume.system.kind, volume.system.dirty, tuple(_listed(volume, entry) for entry in found))


def tree(call: Call, *, dev: str, path: str, partition: int | None, dirty: bool) -> Tree:
    """All names below a directory, each level two blanks further in."""
    with opened(call, dev, partition, dirty) as volume:
        lines, directories, files = [], 0, 0
        for depth, entry in _walk(volume, volume.entry(encode(path))):
            folder = entry.kind == "directory"
            directories, files = directories + folder, files + (not folder)
            lines.append("  " * depth + decode(entry.name) + ("/" if folder else "") + _note(volume, entry))
        return Tree(dev, volume.system.kind, volume.system.dirty, directories, files, tuple(lines))


def cat(call: Call, *, dev: str, path: str, partition: int | None, dirty: bool) -> None:
    """A file's bytes to standard output."""
    from swd.cli import stream

    if sys.stdout is not None and sys.stdout.isatty():
        raise UsageProblem("standard output is a terminal: pipe the bytes somewhere, or use `fs get`")
    with opened(call, dev, partition, dirty) as volume:
        file = _file(volume, path)
        with call.progress("cat", file.size) as progress:
            sink = stream.file_sink("-")
            stream.transfer(_Source(volume, file), sink, progress)
            sink.finish()
        _unchanged(call, volume)


def df(call: Call, *, dev: str, partition: int | None, dirty: bool) -> Space:
    """Size and free space; FAT and NTFS count their whole table for it."""
    with opened(call, dev, partition, dirty) as volume:
        system, free = volume.system, volume.free_bytes()
        used = None if free is None else max(system.size_bytes - free, 0)
        share = None if used is None or not system.size_bytes else round(100 * used / system.size_bytes, 1)
        return Space(dev, system.kind, system.dirty, system.size_bytes, used, free, share)


class _Source:
    """A file as `stream.transfer` reads it."""

    def __init__(self, volume: Volume, file: Entry) -> None:
        self._volume, self._file, self._at = volume, file, 0
        self.size: int | None = file.size

    def fill(self, buffer: memoryview) -> int:
        data = self._volume.read(self._file, self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextlib.contextmanager
def opened(call: Call, dev: str, partition: int | None, dirty: bool) -> Iterator[Volume]:
    with filesystems.opened(dev, partition=partition, dirty=dirty, **call.options) as volume:
        if volume.system.dirty:
            _warn(call, f"{dev} is not clean: {volume.system.dirty}: what is read may not fit together")
        yield volume


def _warn(call: Call, text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(json.dumps({"warning": text}) + "\n" if call.json else f"swdctl: warning: {text}\n")


def _unchanged(call: Call, volume: Volume) -> None:
    """Look at the superblock again: an error, or a warning where that was not clean to begin with."""
    if volume.changed():
        if not volume.system.dirty:
            raise changed_error(volume)
        _warn(call, f"{volume.name} was written to meanwhile")


def changed_error(volume: Volume) -> DeviceBusy:
    return DeviceBusy(
        f"{volume.name} was mounted or written to by somebody while it was read: what came out may not fit together.\n"
        "Unmount it there, and read it again."
    )


def _file(volume: Volume, path: str) -> Entry:
    entry = volume.entry(encode(path))
    if entry.kind != "file":
        number = errno.EISDIR if entry.kind == "directory" else errno.EINVAL
        raise FileSystemError(f"{path} is no file but a {entry.kind}", errno=number)
    return entry


def _walk(volume: Volume, top: Entry) -> Iterator[tuple[int, Entry]]:
    """Every entry below `top` with its depth, in order of names. A directory that comes twice is an error."""
    seen = {top.number}
    stack = [iter(_sorted(volume, top))]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        yield len(stack) - 1, entry
        if entry.kind == "directory":
            if entry.number in seen:
                raise FileSystemError(f"{volume.shown(entry.name)}: met before: the tree is no tree, it is damaged")
            seen.add(entry.number)
            stack.append(iter(_sorted(volume, entry)))


def _sorted(volume: Volume, folder: Entry) -> list[Entry]:
    return sorted(volume.list(folder), key=lambda entry: entry.name)


def _listed(volume: Volume, entry: Entry) -> dict[str, object]:
    """A file, as `ls -l` has it. Bytes of a name that are no UTF-8 are lone surrogates in JSON (PEP 383)."""
    told: dict[str, object] = {
        "mode": stat.filemode(LETTERS[entry.kind] | entry.mode) if entry.kind in LETTERS else "??????????",
        "links": entry.links,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "modified": _time(entry.mtime_ns),
        "name": decode(entry.name),
    }
    if entry.kind == "link" and not entry.unreadable:
        told["target"] = decode(volume.target(entry))
    if entry.unreadable:
        told["unreadable"] = entry.unreadable
    return told


def _note(volume: Volume, entry: Entry) -> str:
    if entry.unreadable:
        return f"  ({entry.unreadable})"
    return f" -> {decode(volume.target(entry))}" if entry.kind == "link" else ""


def _time(ns: int) -> str:
    """UTC to the second; what no calendar has is told as seconds."""
    try:
        return (EPOCH + timedelta(seconds=ns // 10**9)).strftime("%Y-%m-%d %H:%M:%SZ")
    except OverflowError:
        return f"@{ns // 10**9}"


def encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
