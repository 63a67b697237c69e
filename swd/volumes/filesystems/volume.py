# SPDX-License-Identifier: Apache-2.0
"""An opened file system: paths to files, directories to entries, files to bytes. Only reads.

Paths are bytes here. What the child says is foreign twice over, the image's and the child's: each answer is checked
before it becomes a value, and a name that could lead anywhere else is an error.
"""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from swd.errors import FileSystemError, NoSuchFile, Unsupported
from swd.volumes.filesystems import fat, probe
from swd.volumes.filesystems.cache import BlockCache
from swd.volumes.filesystems.helper import DEADLINE, Helper
from swd.volumes.filesystems.record import FileSystem, Readable

MODULES: Final = {
    "ext": "pyfsext",
    "xfs": "pyfsxfs",
    "ntf": "pyfsntfs",
    "fat": "pyfsfat",
}  # by the kind's first letters
PIECE: Final = 1 << 20  # bytes of one read
LONGEST_NAME: Final = 1024  # bytes: 255 of Unix, 255 UTF-16 units of Windows
DEEPEST: Final = 1000  # directories of a path
LINKS: Final = 40  # symbolic links on one way, as in Linux
LARGEST: Final = (1 << 63) - 1
KINDS: Final = frozenset({"file", "directory", "link", "char", "block", "fifo", "socket", "unknown"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, by the `name` under which it was found. Times in nanoseconds since 1970, `size` in bytes.

    `number` is the inode, or what stands for it; `device` the major and minor number of a device file. `unreadable`
    says why the content (or, with the kind "unknown", anything) cannot be had.
    """

    name: bytes
    number: int
    kind: str
    mode: int = 0
    links: int = 1
    size: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    device: tuple[int, int] | None = None
    unreadable: str = ""


class Volume:
    """Use `open_volume`. Many threads may use one. The disk stays the caller's."""

    def __init__(self, disk: Readable, name: str, system: FileSystem, *, deadline: float = DEADLINE) -> None:
        self.name = name
        self.system = system
        self._disk = disk
        self._cache = BlockCache(disk)
        self.helper = Helper(system.kind, self._cache, deadline=deadline)

    def root(self) -> Entry:
        return self._about(b"", self._number(self.helper.call("root")))

    def entry(self, path: bytes, *, follow: bool = True) -> Entry:
        """The file at `path`, from the root. Symbolic links on the way are followed inside the file system; the last
        one with `follow` only. Raises NoSuchFile, and FileSystemError with ENOTDIR, ELOOP.
        """
        return _Walk(self, follow).run(path)

    def list(self, folder: Entry) -> Iterator[Entry]:
        """What is in a directory, in no order. What cannot be told of an entry is in its `unreadable`."""
        start = 0
        while True:
            page = self.helper.call("list", number=folder.number, start=start)
            if not isinstance(page, list):
                raise _nonsense("a list of names")
            for item in page:
                if not (isinstance(item, list) and len(item) == 3):
                    raise _nonsense("an entry")
                yield self._listed(*item)
            if not page:
                return
            start += len(page)

    def find(self, folder: Entry, name: bytes) -> Entry | None:
        """The entry of this name in a directory."""
        number = self.helper.call("find", number=folder.number, name=name.decode("utf-8", "surrogateescape"))
        return None if number is None else self._about(name, self._number(number))

    def read(self, file: Entry, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a file, fewer at its end only."""
        if file.unreadable:
            raise Unsupported(f"{self.shown(file.name)}: {file.unreadable}")
        length = max(0, min(length, file.size - offset))
        parts = []
        while length:
            part = self.helper.call("read", number=file.number, offset=offset, length=min(length, PIECE))
            if not isinstance(part, bytes) or not 0 < len(part) <= min(length, PIECE):
                raise FileSystemError(
                    f"{self.shown(file.name)} ends at {offset}, and should have {file.size} bytes: it is damaged"
                )
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def spans(self, file: Entry) -> Iterator[tuple[int, int]]:
        """Where a file has data: offset and length of each run, holes left out. All of it where nobody can tell."""
        at, start, began = 0, 0, -1  # began: where the run that goes on has begun
        while at < file.size:
            page = self.helper.call("extents", number=file.number, start=start)
            if page is None:
                at, began = file.size, 0
                break
            if not isinstance(page, list):
                raise _nonsense("extents")
            if not page:
                began = at if began < 0 else began  # what no extent covers is read, to be on the safe side
                at = file.size
                break
            for length, hole in map(_extent, page):
                if hole and began >= 0:
                    yield began, min(at, file.size) - began
                    began = -1
                elif not hole and began < 0:
                    began = at
                at += length
                if at >= file.size:
                    break
            start += len(page)
        if 0 <= began < file.size:
            yield began, min(at, file.size) - began

    def target(self, link: Entry) -> bytes:
        """Where a symbolic link points to: any bytes but NUL."""
        found = self.helper.call("target", number=link.number)
        if not isinstance(found, bytes) or not found or b"\0" in found or len(found) > 4 * LONGEST_NAME:
            raise FileSystemError(f"{self.shown(link.name)}: a symbolic link without a target that makes sense")
        return found

    def free_bytes(self) -> int | None:
        """Free space. Reads the whole table of clusters of FAT and NTFS."""
        if self.system.free_bytes is not None:
            return self.system.free_bytes
        if self.system.kind.startswith("fat"):
            return fat.free_bytes(self._disk)
        found = self.helper.call("free")
        return None if found is None else self._number(found)

    def is_asleep(self) -> bool:
        """Whether Windows lies hibernated in it."""
        return self.helper.call("asleep") is True

    def changed(self) -> bool:
        """Whether superblock or journal are others than when it was opened: somebody has it mounted."""
        try:
            now = probe.probe(self._disk)
        except FileSystemError:
            return True
        return now is None or now.mark != self.system.mark

    def close(self) -> None:
        self.helper.close()

    def shown(self, name: bytes) -> str:
        """A name for messages."""
        return f"{self.name}: {name.decode('utf-8', 'backslashreplace')}"

    def _listed(self, text: Any, number: Any, told: Any) -> Entry:
        name = _name(text)
        if not is_plain(name):
            return Entry(name, 0, "unknown", unreadable="its name is not one that a file can have")
        if isinstance(told, str):
            return Entry(name, self._number(number), "unknown", unreadable=told[:300])
        return _entry(name, told)

    def _about(self, name: bytes, number: int) -> Entry:
        return _entry(name, self.helper.call("about", number=number))

    def _number(self, value: Any) -> int:
        return _integer(value)


class _Walk:
    """A path, followed from the root."""

    def __init__(self, volume: Volume, follow: bool) -> None:
        self._volume, self._follow, self._links = volume, follow, 0
        self._way = [volume.root()]

    def run(self, path: bytes) -> Entry:
        todo = _parts(path)
        while todo:
            part, todo = todo[0], todo[1:]
            if part == b"..":
                self._way = self._way[:-1] or self._way
                continue
            here = self._step(part)
            if here.kind == "link" and (todo or self._follow):
                todo = self._redirect(here) + todo
                continue
            self._way.append(here)
            if len(self._way) > DEEPEST:
                raise FileSystemError(f"{self._volume.shown(path)}: too deep", errno=errno.ENAMETOOLONG)
        return self._way[-1]

    def _step(self, part: bytes) -> Entry:
        folder = self._way[-1]
        if folder.kind != "directory":
            raise FileSystemError(f"{self._volume.shown(folder.name)} is no directory", errno=errno.ENOTDIR)
        found = self._volume.find(folder, part)
        if found is None:
            raise NoSuchFile(
                f"{self._volume.shown(part)}: there is no such file in /{folder.name.decode(errors='replace')}"
            )
        return found

    def _redirect(self, link: Entry) -> list[bytes]:
        self._links += 1
        if self._links > LINKS:
            raise FileSystemError(f"{self._volume.shown(link.name)}: too many symbolic links", errno=errno.ELOOP)
        target = self._volume.target(link)
        if target.startswith(b"/"):
            self._way = self._way[:1]
        return _parts(target)


def open_volume(disk: Readable, name: str, *, dirty: bool = False, deadline: float = DEADLINE) -> Volume:
    """The file system on `disk`, ready to be read; `name` is for messages. `dirty`: even one that is not clean.

    Raises what `probe.demand` raises, and Unsupported where the extra `fs` is not installed.
    """
    system = probe.demand(disk, name, dirty=dirty)
    module = MODULES[system.kind[:3]]
    if importlib.util.find_spec(module) is None:
        raise Unsupported(
            f"to read {system.kind}, swd needs the module {module}, which is not installed.\n"
            "It comes with the extra: pip install 'iscsi-swd[fs]'"
        )
    volume = Volume(disk, name, system, deadline=deadline)
    try:
        if system.kind == "ntfs" and not dirty and volume.is_asleep():
            raise probe.unclean(name, replace(system, dirty="Windows lies hibernated in it (hiberfil.sys)"))
    except BaseException:
        volume.close()
        raise
    return volume


def is_plain(name: bytes) -> bool:
    """Whether a foreign name is one component of a path, and nothing else."""
    return 0 < len(name) <= LONGEST_NAME and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _name(text: Any) -> bytes:
    try:
        return str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _nonsense("a name") from None


def _entry(name: bytes, told: Any) -> Entry:
    """The child's About as an Entry, each value of the right type and in its range."""
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str) or told["kind"] not in KINDS:
        raise _nonsense("what is known of a file")
    number = {key: _integer(told.get(key)) for key in ("number", "mode", "links", "size", "uid", "gid")}
    times = {f"{key}_ns": _integer(told.get(key), signed=True) for key in ("mtime", "atime")}
    device = told.get("device")
    pair = None if device is None else (_integer(device[0]), _integer(device[1])) if _is_pair(device) else None
    number["mode"] &= 0o7777
    return Entry(
        name, kind=told["kind"], **number, **times, device=pair, unreadable=str(told.get("unreadable", ""))[:300]
    )


def _extent(item: Any) -> tuple[int, bool]:
    if not _is_pair(item) or _integer(item[0]) < 1:
        raise _nonsense("an extent")
    return item[0], item[1] is True


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _integer(value: Any, *, signed: bool = False) -> int:
    if type(value) is not int or not (-LARGEST if signed else 0) <= value <= LARGEST:
        raise _nonsense("a number")
    return value


def _nonsense(what: str) -> FileSystemError:
    return FileSystemError(
        f"the reader's answer makes no sense: {what}.\nThe file system is damaged, or made to do harm."
    )
