# SPDX-License-Identifier: Apache-2.0
"""What `demo` does without writing: log in, look, read. On its own it is the tour of a user's own unit."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import swd
from swd.cli.call import Call
from swd.cli.progress import size_text
from swd.cli.story import Story
from swd.cli.verbs.info import connect
from swd.driver import Driver
from swd.errors import NetworkNotInitialized, SwdError
from swd.proto.url import IscsiDev, parse_dev
from swd.values import Negotiated, Phase

if TYPE_CHECKING:
    from swd.disk import Disk

CHUNK: Final = 8 << 20
AMOUNT: Final = 64 << 20  # bytes that are read in order
RANDOM_READS: Final = 4000
RANDOM_SIZE: Final = 4096  # bytes
QUEUE_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table at the end; None was not measured. MB are 10^6 bytes; `verified` is read and compared."""

    unit: str
    write_mb_s: int | None
    read_mb_s: int
    verified_mb_s: int
    random_read_iops: int | None


CAPTION: Final = f"Random reads are of {size_text(RANDOM_SIZE)}, {QUEUE_DEPTH} at once."


def mb_s(count: int, seconds: float) -> int:
    """Megabytes (10^6 bytes) a second."""
    return round(count / seconds / 1e6)


def negotiated(agreed: Negotiated) -> str:
    """Authentication and digests, in the words of a sentence."""
    auth = {"none": "no authentication", "chap": "CHAP", "chap-mutual": "mutual CHAP"}.get(agreed.auth, agreed.auth)
    algorithm = f" ({agreed.chap_algorithm})" if agreed.chap_algorithm else ""
    digests = [name for name, on in (("header", agreed.header_digest), ("data", agreed.data_digest)) if on]
    return f"{auth}{algorithm}, " + (f"CRC32C on {' and '.join(digests)}" if digests else "no digests")


def read_all(disk: Disk, length: int) -> tuple[bytearray, float]:
    """The first `length` bytes in big reads, and the seconds that took."""
    data = bytearray(length)
    view, start = memoryview(data), time.perf_counter()
    for at in range(0, length, CHUNK):
        disk.pread_into(view[at : at + CHUNK], at)
    return data, time.perf_counter() - start


def reads_at_random(disk: Disk, length: int) -> int | None:
    """Small reads at random places of the first `length` bytes, many under way at once: how many a second."""
    if length < RANDOM_SIZE:
        return None
    places = random.Random(0)
    offsets = [places.randrange(length // RANDOM_SIZE) * RANDOM_SIZE for _ in range(RANDOM_READS)]
    start = time.perf_counter()
    disk.read_many(offsets, RANDOM_SIZE, queue_depth=QUEUE_DEPTH)
    return round(RANDOM_READS / (time.perf_counter() - start))


def tour(call: Call, story: Story, dev: str) -> list[Figure]:
    """The read-only part on a unit of the user's own. Raises what opening and reading it raise."""
    parsed = parse_dev(dev)
    story.say(f"swd {swd.__version__} on {parsed}: nothing is written.\n")
    with story.step("phase") as told, Driver(phase=Phase.PRE_NETWORK) as driver:
        told.result = _before_the_network(driver, dev)
    if isinstance(parsed, IscsiDev):
        _discover(call, story, parsed)
        with story.step("login") as told, connect(call, parsed) as session:
            told.result = negotiated(session.parameters)
    with swd.open(dev, "rb", **call.options) as disk:
        with story.step("look") as told:
            told.result = (
                f"{size_text(disk.size)} in blocks of {disk.block_size} bytes, identity {disk.identity or 'none'}"
            )
        return _read_twice(story, disk)


def _before_the_network(driver: Driver, dev: str) -> str:
    """Opening on a driver that is told that the network was not tried: at once, and without a look at the network."""
    start = time.perf_counter()
    try:
        driver.close(driver.open(dev, os.O_RDONLY))
    except NetworkNotInitialized:
        milliseconds = (time.perf_counter() - start) * 1000
        return f"as before the network: open is ENETUNREACH in {milliseconds:.1f} ms, no socket made"
    return "a local device: it opens in every phase"


def _discover(call: Call, story: Story, parsed: IscsiDev) -> None:
    with story.step("discover") as told:
        settings: dict[str, Any] = {**parsed.settings, **call.options}
        try:
            found = swd.discover(str(parsed.portal), **settings)
        except SwdError as error:  # many targets let an initiator in, but do not let him ask
            told.result = f"not allowed here ({error.reason.splitlines()[0]})"
        else:
            told.result = f"SendTargets at {parsed.portal} names {', '.join(target.name for target in found)}"


def _read_twice(story: Story, disk: Disk) -> list[Figure]:
    """Read a part in order, twice, and compare: a disk in use may differ, a sick path surely does."""
    length = min(AMOUNT, disk.size)
    with story.step("read") as told:
        first, seconds = read_all(disk, length)
        told.result = f"{size_text(length)} in order, CRC32C {swd.crc32c(first):08x}"
    with story.step("again") as told:
        start = time.perf_counter()
        second, _ = read_all(disk, length)
        same = first == second
        verified = time.perf_counter() - start
        told.result = "the same bytes" if same else "other bytes: somebody writes here, or the path damages data"
    story.say(f"\n{CAPTION}")
    return [Figure("yours", None, mb_s(length, seconds), mb_s(length, verified), reads_at_random(disk, length))]
