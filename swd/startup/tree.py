# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a host, or of an image of one below some folder, whose symbolic links then stay below it.

What is not there, or may not be read, is empty: the callers collect evidence, and a host need not have every file.
It knows nothing of what the files mean.
"""

from __future__ import annotations

import os
import stat
from typing import Final

LINKS: Final = 40  # as the kernel's limit (path_resolution(7))
LARGEST: Final = 1 << 20  # bytes of a file; none of those that are read here has more that matters


class Tree:
    """The files below `top`. Paths are absolute, and count from `top`."""

    def __init__(self, top: str = "/") -> None:
        self.top = os.path.abspath(top)

    @property
    def is_host(self) -> bool:
        """Whether this is the running host itself, so that device numbers mean something."""
        return self.top == "/"

    def outside(self, path: str) -> str:
        """Where `path` is for this process. Its own links are not followed."""
        return os.path.join(self.top, path.lstrip("/"))

    def resolve(self, path: str) -> str:
        """`path` without symbolic links, `.` and `..`; parts that are not there stay as they are."""
        todo, done, links = [part for part in path.split("/") if part], "/", 0
        todo.reverse()
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = os.path.join(done, part)
            target = self._link(here) if links < LINKS else None
            if target is None:
                done = here
                continue
            links += 1
            done = "/" if target.startswith("/") else done
            todo.extend(part for part in reversed(target.split("/")) if part)
        return done

    def _link(self, path: str) -> str | None:
        try:
            return os.readlink(self.outside(path))
        except (OSError, ValueError):
            return None

    def text(self, path: str) -> str:
        """The content of a regular file. "" where there is none: a device or a pipe is never opened."""
        try:
            fd = os.open(self.outside(self.resolve(path)), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError):
            return ""
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            try:
                return file.read(LARGEST).decode("utf-8", "surrogateescape")
            except OSError:
                return ""

    def names(self, path: str) -> list[str]:
        """What a folder holds, sorted."""
        try:
            return sorted(os.listdir(self.outside(self.resolve(path))))
        except (OSError, ValueError):
            return []

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.outside(self.resolve(path)))

    def is_link(self, path: str) -> bool:
        return self._link(path) is not None

    def device_number(self, path: str) -> str:
        """`8:1` for a block device of the running host, else ""."""
        try:
            found = os.stat(self.outside(self.resolve(path)))
        except (OSError, ValueError):
            return ""
        if not (self.is_host and stat.S_ISBLK(found.st_mode)):
            return ""
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
