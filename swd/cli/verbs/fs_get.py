# SPDX-License-Identifier: Apache-2.0
"""`fs get`: files out of a file system on a device, to this host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swd.cli.call import Call, UsageProblem
from swd.cli.extract import Extractor
from swd.cli.verbs.fs import changed_error, decode, encode, opened
from swd.errors import FileSystemError

if TYPE_CHECKING:
    from swd.volumes.filesystems.volume import Entry


@dataclass(frozen=True, slots=True)
class Got:
    """What `fs get` did. `changed`: somebody wrote to the file system meanwhile."""

    device: str
    path: str
    destination: str
    not_clean: str
    changed: bool
    files: int
    directories: int
    hard_links: int
    length_bytes: int
    seconds: float
    skipped: tuple[str, ...]


def get(
    call: Call,
    *,
    dev: str,
    path: str,
    output: str | None,
    recursive: bool,
    overwrite: bool,
    owner: bool,
    partition: int | None,
    dirty: bool,
) -> Got:
    """A file, or with -r a directory's content, to this host."""
    if owner and os.geteuid() != 0:
        raise UsageProblem("--owner gives files away, which only root may do")
    with opened(call, dev, partition, dirty) as volume, call.progress("get", None) as progress:
        entry = volume.entry(encode(path))
        extractor = Extractor(volume, overwrite=overwrite, owner=owner, add=progress.add)
        if entry.kind == "directory":
            destination = _folder_for(entry, output, recursive)
            extractor.tree(entry, destination)
        else:
            folder, name = _place_for(path, output)
            destination = os.path.join(folder, decode(name))
            extractor.file(entry, folder, name)
        changed = volume.changed()
        copied = extractor.copied
        if copied.failures:
            raise _failed(call, copied.failures)
        if changed and not dirty:
            raise changed_error(volume)
        return Got(
            dev,
            path,
            destination,
            volume.system.dirty,
            changed,
            copied.files,
            copied.directories,
            copied.links,
            copied.length_bytes,
            round(progress.seconds, 3),
            tuple(map(decode, copied.skipped)),
        )


def _failed(call: Call, failures: list[tuple[bytes, OSError]]) -> FileSystemError:
    """The error of a copy that went on: the first file's errno; all of them with --verbose."""
    for path, error in failures:
        call.say(f"{decode(path)}: {' '.join(_words(error).split())}")
    path, first = failures[0]
    more = f", and {len(failures) - 1} more (see --verbose)" if len(failures) > 1 else ""
    return FileSystemError(
        f"{decode(path)}{more}: not copied; all else is there.\n{' '.join(_words(first).split())}", errno=first.errno
    )


def _words(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)


def _folder_for(entry: Entry, output: str | None, recursive: bool) -> str:
    if not recursive:
        raise UsageProblem("that is a directory: -r copies all that is in it")
    if output is None and not entry.name:
        raise UsageProblem("name the folder for all that is in the root: -o FOLDER")
    return decode(entry.name) if output is None else output


def _place_for(path: str, output: str | None) -> tuple[str, bytes]:
    """Folder and name of a single file: into OUTPUT if that is a folder, else as OUTPUT."""
    name = encode(path).rstrip(b"/").rpartition(b"/")[2]
    if output is None or os.path.isdir(output):
        return output or ".", name
    return os.path.dirname(output) or ".", os.fsencode(os.path.basename(output))
