# SPDX-License-Identifier: Apache-2.0
"""swd's public face against a scripted target: in bounded time, with a typed error or with right data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from support.pace import SLOWER
from target.disk import BLOCK, READ, WRITE, Disk, Part
from target.script import TARGET, Connection, Peer

import swd
from swd.errors import SwdError

BOUND = 5.0 * SLOWER  # seconds that any case may take
PATIENCE = {"login_timeout": 2.0, "timeout": 2.0, "replacement_timeout": 0.0}  # a loss is final
CANARY = b"\xc5" * 4096


@contextlib.contextmanager
def bounded(seconds: float = BOUND) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


@contextlib.contextmanager
def refused(kind: type[SwdError], number: int, words: str = "") -> Iterator[pytest.ExceptionInfo[SwdError]]:
    """Ends with exactly this class and errno, in bounded time, and says these words."""
    with bounded(), pytest.raises(kind, match=words or None) as caught:
        yield caught
    assert type(caught.value) is kind
    assert caught.value.errno == number
    assert caught.value.reason.isprintable() or "\n" in caught.value.reason


def connect(peer: Peer, **options: object) -> swd.Session:
    return swd.connect(peer.portal, TARGET, **{**PATIENCE, **options})  # type: ignore[arg-type]  # chap or options


def open_disk(peer: Peer, **options: object) -> swd.Disk:
    return swd.open(f"iscsi://{peer.portal}/{TARGET}/0", "r+b", **{**PATIENCE, **options})


def serving(odd: Mapping[int, Part], disk: Disk | None = None, **answers: str | None) -> Callable[[Connection], None]:
    """A script: a correct login with these answers, then the disk, with parts played by `odd`."""
    disk = disk or Disk()

    def script(target: Connection) -> None:
        target.login(**answers)
        disk.serve(target, odd)

    return script


def once(part: Part) -> Part:
    """Plays the part for the first such command; the disk answers the later ones."""
    played = []

    def play(target: Connection, command: object) -> None:
        if played:
            Disk().answer(target, command)  # type: ignore[arg-type]  # a Pdu
            return
        played.append(command)
        part(target, command)  # type: ignore[arg-type]

    return play


class Canaried:
    """A buffer of `length` bytes between two canaries."""

    def __init__(self, length: int) -> None:
        self._whole = bytearray(CANARY + b"\xee" * length + CANARY)
        self.view = memoryview(self._whole)[len(CANARY) : len(CANARY) + length]

    def check(self) -> None:
        assert self._whole.startswith(CANARY)
        assert self._whole.endswith(CANARY)


def read_against(part: Part, length: int = 8 * BLOCK, **answers: str | None) -> bytes:
    """What a read of `length` bytes at 0 gives where `part` answers READ(10); the canaries hold whatever happens."""
    buffer = Canaried(length)
    try:
        with Peer(serving({READ: part}, **answers)) as peer, open_disk(peer) as disk:
            assert disk.pread_into(buffer.view, 0) == length
    finally:
        buffer.check()
    return bytes(buffer.view)


def write_against(part: Part, length: int = 8 * BLOCK, *, options: Mapping[str, object] = {}, **answers: str) -> Peer:
    """A write of `length` bytes at 0 where `part` answers WRITE(10); returns the peer with what it received."""
    data = payload(length)
    with Peer(serving({WRITE: part}, **answers)) as peer, open_disk(peer, **options) as disk:
        assert disk.pwrite(data, 0) == length
    return peer


def payload(length: int) -> bytes:
    return bytes((7 * at + at // 251) & 0xFF for at in range(length))
