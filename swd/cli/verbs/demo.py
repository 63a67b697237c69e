# SPDX-License-Identifier: Apache-2.0
"""`demo`: what swd is for, told by doing it.

An embedded target serves two sparse files, in 512- and in 4096-byte blocks, behind mutual CHAP with random secrets and
both digests. The initiator meets the network phase first, then discovers, logs in, writes, reads back, and compares.
All that it makes lies in one temporary folder, which is also its run-time, state and configuration place: nothing stays
behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import swd
from swd.cli.call import Call
from swd.cli.progress import size_text
from swd.cli.story import Step, Story
from swd.cli.verbs import tour
from swd.cli.verbs.tour import CAPTION, CHUNK, Figure, mb_s, negotiated, read_all, reads_at_random
from swd.driver import Driver, phase
from swd.errors import AuthenticationFailed, MediumError, NetworkNotInitialized
from swd.target.config import Lun, TargetConfig
from swd.target.media import FileMedium
from swd.target.server import TargetServer
from swd.values import Chap, Portal

if TYPE_CHECKING:
    from swd.disk import Disk

TARGET: Final = "iqn.2026-01.org.example:demo"
BLOCK_SIZES: Final = {0: 512, 1: 4096}  # LUN -> bytes
SIZE: Final = 128 << 20
AMOUNT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Demo:
    """The record: every step, and the figures."""

    steps: list[Step]
    figures: list[Figure]


def demo(call: Call, *, dev: str | None) -> Demo | list[Figure]:
    """Text: the steps are printed as they happen, and the figures are the answer. JSON: all of it at the end."""
    story = Story(silent=call.json)
    figures = tour.tour(call, story, dev) if dev is not None else _own_target(story)
    return Demo(story.steps, figures) if call.json else figures


def _own_target(story: Story) -> list[Figure]:
    story.say(
        f"swd {swd.__version__}: an iSCSI target and an initiator in one process, on the loopback, without root.\n"
    )
    with (
        tempfile.TemporaryDirectory(prefix="swd-demo-") as name,
        _places(Path(name)),
        _target(story, Path(name)) as stage,
    ):
        _phase(story, stage)
        _discover(story, stage)
        figures = []
        for lun in BLOCK_SIZES:
            _login(story, stage, lun)
            figures.append(_write_and_compare(story, stage, lun))
        _wrong_secret(story, stage)
    with story.step("leave") as told:
        told.result = f"logged out, target stopped, {name} removed"
        if os.path.exists(name):
            raise MediumError(f"{name} is still there")
    story.say(f"\nFigures with both ends in this one process, digests on. {CAPTION}")
    return figures


@contextlib.contextmanager
def _places(folder: Path) -> Iterator[None]:
    """The demo's own run-time, state and configuration places; what the environment said before is put back."""
    (folder / "run").mkdir(mode=0o700)
    (folder / "swd.toml").touch()
    ours = {
        "SWD_RUNTIME_DIR": str(folder / "run"),
        "SWD_STATE_DIR": str(folder / "state"),
        "SWD_CONFIG": str(folder / "swd.toml"),
    }
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key)
            os.environ.update({} if value is None else {key: value})


@dataclass(frozen=True, slots=True)
class Stage:
    """The target, and how to reach it."""

    server: TargetServer
    portal: Portal
    chap: Chap
    options: dict[str, Any]

    def dev(self, lun: int) -> str:
        return f"iscsi://{self.portal}/{TARGET}/{lun}"


@contextlib.contextmanager
def _target(story: Story, folder: Path) -> Iterator[Stage]:
    chap = Chap("initiator", secrets.token_hex(16), target_user="target", target_secret=secrets.token_hex(16))
    options = {
        "user": chap.user,
        "secret_file": _secret(folder / "secret", chap.secret),
        "target_user": chap.target_user,
        "target_secret_file": _secret(folder / "target-secret", chap.target_secret or b""),
        "header_digest": "crc32c!",
        "data_digest": "crc32c!",
    }
    with contextlib.ExitStack() as stack:
        with story.step("serve") as told:
            luns = {}
            for lun, block_size in BLOCK_SIZES.items():
                medium = FileMedium(folder / f"lun{lun}.img", size=SIZE, create=True)
                stack.callback(medium.close)
                luns[lun] = Lun(medium, block_size)
            required = ("crc32c",)
            config = TargetConfig(TARGET, luns, chap=chap, header_digest=required, data_digest=required)
            server = stack.enter_context(TargetServer([config], discovery_chap=chap))
            sizes = " and ".join(str(size) for size in BLOCK_SIZES.values())
            told.result = f"{TARGET} at {server.portal}: sparse files of {size_text(SIZE)} in blocks of {sizes} bytes"
        yield Stage(server, server.portal, chap, options)


def _secret(path: Path, secret: bytes) -> str:
    """A secret in a file of mode 0600, which is how a person would give it."""
    path.touch(0o600)
    path.write_bytes(secret)
    return str(path)


def _phase(story: Story, stage: Stage) -> None:
    """The contract of system start-up: quiet and at once before the network was tried, ordinary afterwards."""
    with Driver() as driver:
        with story.step("phase") as told:
            phase.begin(evidence="swdctl demo")
            before, start = stage.server.statistics["accepts"], time.perf_counter()
            try:
                driver.open(stage.dev(0), os.O_RDONLY, **stage.options)
            except NetworkNotInitialized as error:
                milliseconds = (time.perf_counter() - start) * 1000
                seen = stage.server.statistics["accepts"] - before
                name = errno.errorcode[error.errno or 0]
                told.result = (
                    f"network not tried yet: open is {name} in {milliseconds:.1f} ms, the target saw {seen} connections"
                )
            if not told.result or seen:
                raise MediumError("the phase gate let something through")
        with story.step("phase") as told:
            phase.complete(evidence="swdctl demo")
            fd = driver.open(stage.dev(0), os.O_RDONLY, **stage.options)
            first = driver.pread(fd, 512, 0)
            driver.close(fd)
            seen = stage.server.statistics["accepts"] - before
            told.result = (
                f"first attempt over: the same open works, read {len(first)} bytes, the target saw {seen} connection"
            )


def _discover(story: Story, stage: Stage) -> None:
    with story.step("discover") as told:
        found = swd.discover(str(stage.portal), **stage.options)
        told.result = f"SendTargets at {stage.portal} names {', '.join(target.name for target in found)}"


def _login(story: Story, stage: Stage, lun: int) -> None:
    with (
        story.step("login") as told,
        swd.connect(str(stage.portal), TARGET, chap=stage.chap, **_digests(stage)) as session,
        session.unit(lun) as disk,
    ):
        shape = f"{size_text(disk.size)} in {disk.block_size}-byte blocks"
        told.result = f"LUN {lun}: {negotiated(session.parameters)}; {shape}"


def _write_and_compare(story: Story, stage: Stage, lun: int) -> Figure:
    """64 MiB of random bytes onto a unit, and back."""
    wrote = os.urandom(AMOUNT)
    with swd.open(stage.dev(lun), "r+b", **stage.options) as disk:
        with story.step("write") as told:
            writing = _write(disk, wrote)
            told.result = f"LUN {lun}: {size_text(AMOUNT)} of random bytes, flushed, CRC32C {swd.crc32c(wrote):08x}"
        with story.step("compare") as told:
            start = time.perf_counter()
            got, reading = read_all(disk, AMOUNT)
            if swd.crc32c(got) != swd.crc32c(wrote) or got != wrote:
                raise MediumError("other bytes came back than were written")
            verifying = time.perf_counter() - start
            told.result = f"LUN {lun}: read back, CRC32C {swd.crc32c(got):08x}, every byte equal"
        return Figure(
            f"LUN {lun}, {BLOCK_SIZES[lun]}-byte blocks",
            mb_s(AMOUNT, writing),
            mb_s(AMOUNT, reading),
            mb_s(AMOUNT, verifying),
            reads_at_random(disk, AMOUNT),
        )


def _digests(stage: Stage) -> dict[str, Any]:
    return {key: value for key, value in stage.options.items() if key.endswith("_digest")}


def _write(disk: Disk, data: bytes) -> float:
    view, start = memoryview(data), time.perf_counter()
    for at in range(0, len(data), CHUNK):
        disk.pwrite(view[at : at + CHUNK], at)
    disk.flush()
    return time.perf_counter() - start


def _wrong_secret(story: Story, stage: Stage) -> None:
    """Authentication that lets everybody in would look just the same up to here."""
    with story.step("refuse") as told:
        wrong = Chap(
            stage.chap.user, secrets.token_hex(16), target_user="target", target_secret=stage.chap.target_secret
        )
        try:
            swd.connect(str(stage.portal), TARGET, chap=wrong, **_digests(stage)).close()
        except AuthenticationFailed as error:
            told.result = f"a login with a wrong secret is {errno.errorcode[error.errno or 0]}"
        else:
            raise MediumError("the target let a wrong secret in")
