# SPDX-License-Identifier: Apache-2.0
"""The child's main loop: limits first, then the library, then one answer a call. Ends when the socket is closed.

Rights go before the first byte of the disk is seen, and after the last import: a process without rights may not be
able to read its own library.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import socket
from collections import OrderedDict
from dataclasses import asdict
from typing import Any, Final

from swd.volumes.filesystems import channel
from swd.volumes.filesystems.channel import Broken, Channel
from swd.volumes.filesystems.child.base import Damaged, DiskFile, Name, NotRead, Reader

HOMES: Final = {"ext": "ext", "xfs": "xfs", "ntf": "ntfs", "fat": "fat"}  # by the first letters of the kind
PAGE: Final = 500  # entries of one answer
DIRECTORIES: Final = 4  # whose names are held
NOBODY: Final = 65534


def serve(fd: int, kind: str, memory: int, cpu: int) -> None:
    module = importlib.import_module(f"swd.volumes.filesystems.child.{HOMES[kind[:3]]}")
    sock = socket.socket(fileno=fd)
    give_up_rights(memory, cpu)
    to = Channel(sock)
    with contextlib.suppress(Broken):
        kind_of_frame, payload = to.receive()
        size = int(channel.words(payload)["size"])
        answers = Answers(module.open, DiskFile(to, size))
        to.say(channel.REPLY, True)
        while True:
            kind_of_frame, payload = to.receive()
            if kind_of_frame != channel.CALL:
                break
            answers.answer(to, channel.words(payload))


def give_up_rights(memory: int, cpu: int) -> None:
    """No more memory and CPU than that, no file written, no process made, no core dumped, no user's rights."""
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (limit, limit))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


class Answers:
    """One method an operation; the reader is made by the first call, so that its failure is that call's answer."""

    def __init__(self, opener: Any, disk: DiskFile) -> None:
        self._opener, self._disk = opener, disk
        self._made: Reader | None = None
        self._names: OrderedDict[int, list[Name]] = OrderedDict()

    def answer(self, to: Channel, call: dict[str, Any]) -> None:
        operation = getattr(self, f"do_{call.pop('op')}")
        try:
            found = operation(**call)
        except NotRead as error:
            to.say(channel.ERROR, {"unsupported": True, "text": str(error)})
        except MemoryError:
            self._names.clear()
            to.say(channel.ERROR, {"text": "its reader ran out of memory"})
        except Broken:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a library thinks of next, its caller gets an answer
            text = explained(error)
            to.say(channel.ERROR, {"text": text, "unsupported": isinstance(error, OSError) and "unsupported" in text})
        else:
            if isinstance(found, bytes):
                to.send(channel.DATA, found)
            else:
                to.say(channel.REPLY, found)

    @property
    def reader(self) -> Reader:
        if self._made is None:
            self._made = self._opener(self._disk)
        return self._made

    def do_root(self) -> int:
        return self.reader.root

    def do_about(self, number: int) -> dict[str, Any]:
        return asdict(self.reader.about(number))

    def do_list(self, number: int, start: int) -> list[list[Any]]:
        """A page of (name, number, what is known of it or why nothing is)."""
        return [[name.decode("utf-8", "surrogateescape"), of, self._told(of)] for name, of in self._page(number, start)]

    def do_find(self, number: int, name: str) -> int | None:
        """The number of the file of this name in a directory."""
        wanted = name.encode("utf-8", "surrogateescape")
        return next((of for held, of in self._directory(number) if held == wanted), None)

    def do_read(self, number: int, offset: int, length: int) -> bytes:
        return self.reader.read(number, offset, min(length, channel.LARGEST))

    def do_target(self, number: int) -> bytes:
        return self.reader.target(number)

    def do_extents(self, number: int, start: int) -> list[tuple[int, bool]] | None:
        return self.reader.extents(number, start, 4 * PAGE)

    def do_free(self) -> int | None:
        return self.reader.free_bytes()

    def do_asleep(self) -> bool:
        return self.reader.asleep()

    def _told(self, number: int) -> dict[str, Any] | str:
        try:
            return asdict(self.reader.about(number))
        except (Broken, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # one bad entry does not spoil a directory
            return explained(error)

    def _page(self, number: int, start: int) -> list[Name]:
        return self._directory(number)[start : start + PAGE]

    def _directory(self, number: int) -> list[Name]:
        held = self._names.get(number)
        if held is None:
            held = self._names[number] = self.reader.names(number)
            if len(self._names) > DIRECTORIES:
                self._names.popitem(last=False)
        self._names.move_to_end(number)
        return held


def explained(error: Exception) -> str:
    """A library's words without the chain of its functions: the first and the innermost of them."""
    parts = [part.strip() for part in str(error).split(". ") if part.strip()][:2]
    words = ": ".join(part.partition(": ")[2] or part for part in parts)
    return words if words and isinstance(error, (OSError, Damaged, NotRead)) else f"{type(error).__name__}: {words}"
