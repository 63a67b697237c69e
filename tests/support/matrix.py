# SPDX-License-Identifier: Apache-2.0
"""The table of interoperability: {tgtd, embedded} x {no digest, header, data, both} x {512, 4096} x {no CHAP, one way,
mutual}.

48 rows, as data. In every row swd asks for the same (both digests if they can be had), and the target decides: what
comes out has to be what the target was set to, by the account of `Session.parameters`, by the target's own account,
and by that of a tap on the wire. Both faces write and read: `swd.open` what `swd.connect` wrote, and the other way.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import swd
from support import tgt
from support.process import run
from support.tap import Tap, tapped
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.values import Chap, Negotiated, Portal

TARGETS = ("tgtd", "embedded")
DIGESTS = {"none": (False, False), "header": (True, False), "data": (False, True), "both": (True, True)}
AUTH = ("none", "chap", "chap-mutual")
LUNS = {512: 1, 4096: 2}  # block size -> LUN

USER, SECRET, TARGET_USER, TARGET_SECRET = "initiator", "secret-of-initiator", "target", "secret-of-target"
CHAP = {
    "none": None,
    "chap": Chap(USER, SECRET),
    "chap-mutual": Chap(USER, SECRET, target_user=TARGET_USER, target_secret=TARGET_SECRET),
}
OFFER = {"header_digest": "crc32c,none", "data_digest": "crc32c,none"}  # the same in every row
ALGORITHMS = {"": None, "5": "md5", "6": "sha1", "7": "sha256", "8": "sha3-256"}  # by CHAP_A
_PIECE = 1 << 20


@dataclass(frozen=True)
class Row:
    """One combination. `libiscsi`: whether libiscsi can log in as well (it has no data digest)."""

    target: str
    digests: str
    block_size: int
    auth: str

    @property
    def name(self) -> str:
        """Of the iSCSI target that this row logs in to."""
        return f"iqn.2026-01.org.example:{self.digests}.{self.auth}"

    @property
    def lun(self) -> int:
        return LUNS[self.block_size]

    @property
    def libiscsi(self) -> bool:
        return not DIGESTS[self.digests][1]

    def __str__(self) -> str:
        return f"{self.target}-{self.digests}-{self.block_size}-{self.auth}"


ROWS = tuple(
    Row(target, digests, block_size, auth)
    for target in TARGETS
    for digests in DIGESTS
    for block_size in LUNS
    for auth in AUTH
)


class Witness(Protocol):
    """A target of the table: where it is, and what it says about a live session."""

    portal: Portal

    def begin(self) -> None:
        """Before the first login of a row."""

    def check(self, row: Row, session: Negotiated, moved: int) -> None:
        """AssertionError unless the target's own account agrees with the row; `moved` bytes went each way."""


class TgtdWitness:
    """tgtd tells what a target negotiates with, who is connected, its accounts, and each unit's traffic."""

    def __init__(self, tgtd: tgt.Tgtd) -> None:
        self.tgtd = tgtd
        self.portal = tgtd.portal

    def begin(self) -> None:
        """Its counters belong to the sessions that are alive: there is nothing to remember."""

    def check(self, row: Row, session: Negotiated, moved: int) -> None:
        header, data = DIGESTS[row.digests]
        told = self.tgtd.parameters(row.name)
        assert (told["HeaderDigest"], told["DataDigest"]) == (_word(header), _word(data))
        assert session.max_burst_length == int(told["MaxBurstLength"])
        assert session.first_burst_length == int(told["FirstBurstLength"])
        assert session.initial_r2t is (told["InitialR2T"] == "Yes")
        assert session.target_max_recv_data_segment_length == int(told["MaxRecvDataSegmentLength"])
        assert session.initiator_name in self.tgtd.initiators(row.name)
        described = self.tgtd.described(row.name)
        assert (USER in described) is (row.auth != "none")
        assert (f"{TARGET_USER} (outgoing)" in described) is (row.auth == "chap-mutual")
        assert f"Block size: {row.block_size}\n" in described
        read, written = self.tgtd.traffic(row.name, row.lun)
        assert min(read, written) >= moved


class EmbeddedWitness:
    """The embedded target tells what each live session agreed on, and counts the digests that it checked."""

    def __init__(self, server: TargetServer) -> None:
        self.server = server
        self.portal = server.portal
        self._before = server.statistics

    def begin(self) -> None:
        self._before = self.server.statistics

    def check(self, row: Row, session: Negotiated, moved: int) -> None:
        header, data = DIGESTS[row.digests]
        agreed = [live for live in self.server.sessions if live.target_name == row.name]
        assert session.isid in {live.isid for live in agreed}
        assert {(live.auth, live.header_digest, live.data_digest) for live in agreed} == {(row.auth, header, data)}
        assert {live.max_burst_length for live in agreed} == {session.max_burst_length}
        before, now = self._before, self.server.statistics
        assert now["logins"] - before["logins"] == 2
        assert (now["header_digests_checked"] > before["header_digests_checked"]) is header
        assert (now["data_digests_checked"] > before["data_digests_checked"]) is data
        assert now["digest_errors"] == now["protocol_errors"] == 0
        assert min(now["bytes_in"] - before["bytes_in"], now["bytes_out"] - before["bytes_out"]) > moved


def _word(digest: bool) -> str:
    return "CRC32C" if digest else "None"


@contextlib.contextmanager
def tgtd_witness(folder: Path, size: int) -> Iterator[Witness]:
    """tgtd with the twelve targets of the table, two disks each; all targets share the two image files."""
    images = {block_size: folder / f"disk{block_size}.img" for block_size in LUNS}
    for image in images.values():
        image.touch()
        os.truncate(image, size)
    with tgt.serving(folder) as tgtd:
        for row in (row for row in ROWS if row.target == "tgtd"):
            if row.name not in tgtd.targets:
                header, data = DIGESTS[row.digests]
                digests = {"HeaderDigest": _word(header), "DataDigest": _word(data)}
                tgtd.add_target(row.name, chap=CHAP[row.auth], **digests)
            tgtd.add_lun(row.name, row.lun, images[row.block_size], row.block_size)
        yield TgtdWitness(tgtd)


@contextlib.contextmanager
def embedded_witness(size: int) -> Iterator[Witness]:
    """The embedded target likewise, in this process, for what it says about itself."""
    luns = {lun: Lun(RamMedium(size), block_size) for block_size, lun in LUNS.items()}
    configs = [
        TargetConfig(
            Row("embedded", digests, 512, auth).name,
            luns,
            chap=CHAP[auth],
            header_digest=("crc32c",) if header else ("none",),
            data_digest=("crc32c",) if data else ("none",),
            limits=Limits(max_burst_length=1 << 19, first_burst_length=1 << 16),
        )
        for digests, (header, data) in DIGESTS.items()
        for auth in AUTH
    ]
    with TargetServer(configs) as server:
        yield EmbeddedWitness(server)


@dataclass(frozen=True)
class Outcome:
    """A row that held: what was negotiated, and seconds for writing and reading through `swd.open`."""

    session: Negotiated
    write: float
    read: float
    digests_on_the_wire: tuple[int, int]  # header, data: checked by the tap, both directions


def play(row: Row, witness: Witness, folder: Path, size: int) -> Outcome:
    """One row with `size` bytes of random data. AssertionError where anything is not as the row says."""
    first, second = os.urandom(size), os.urandom(size)
    witness.begin()
    with tapped(witness.portal) as tap:
        with (
            swd.open(url(row, witness.portal), "r+b", **OFFER, **credentials(row, folder)) as disk,
            swd.connect(str(tap.portal), row.name, chap=CHAP[row.auth], **OFFER) as session,
            session.unit(row.lun) as unit,
        ):
            assert (disk.size, disk.block_size) == (unit.size, unit.block_size) == (size, row.block_size)
            write = _write(disk, first)
            assert unit.pread(size, 0) == first
            _write(unit, second)
            started = time.monotonic()
            assert disk.pread(size, 0) == second
            read = time.monotonic() - started
            parameters = session.parameters
            assert (parameters.header_digest, parameters.data_digest) == DIGESTS[row.digests]
            assert parameters.auth == row.auth
            witness.check(row, parameters, size)
        counts = _check_wire(row, parameters, tap)
    return Outcome(parameters, write, read, counts)


def _check_wire(row: Row, session: Negotiated, tap: Tap) -> tuple[int, int]:
    """What a third party saw: the target's own words, and digests that are right where there should be any."""
    initiator, target = tap.talk()
    header, data = DIGESTS[row.digests]
    assert (target.keys["HeaderDigest"], target.keys["DataDigest"]) == (_word(header), _word(data))
    assert ("CHAP_R" in initiator.keys) is (row.auth != "none")
    assert ("CHAP_R" in target.keys) is (row.auth == "chap-mutual")
    assert target.keys.get("CHAP_N", "") == (TARGET_USER if row.auth == "chap-mutual" else "")
    assert session.chap_algorithm == ALGORITHMS[target.keys.get("CHAP_A", "")]
    assert min(len(initiator.pdus), len(target.pdus)) > 8
    headers = initiator.header_digests, target.header_digests
    assert headers == ((len(initiator.pdus), len(target.pdus)) if header else (0, 0))
    carrying = tuple(sum(bool(pdu.data) for pdu in talk.pdus) for talk in (initiator, target))
    assert (initiator.data_digests, target.data_digests) == (carrying if data else (0, 0))
    return sum(headers), initiator.data_digests + target.data_digests


def url(row: Row, portal: Portal) -> str:
    return f"iscsi://{portal}/{row.name}/{row.lun}"


def credentials(row: Row, folder: Path) -> dict[str, Any]:
    """The row's CHAP as options of a DEV; secrets are in files of mode 0600."""
    given: dict[str, Any] = {}
    if row.auth != "none":
        given |= {"user": USER, "secret_file": _secret(folder / "secret", SECRET)}
    if row.auth == "chap-mutual":
        given |= {
            "target_user": TARGET_USER,
            "target_secret_file": _secret(folder / "target-secret", TARGET_SECRET),
        }
    return given


def _secret(path: Path, secret: str) -> str:
    path.touch(0o600)
    path.write_text(secret)
    return str(path)


def _write(disk: swd.Disk, data: bytes) -> float:
    view, started = memoryview(data), time.monotonic()
    for at in range(0, len(data), _PIECE):
        disk.pwrite(view[at : at + _PIECE], at)
    disk.flush()
    return time.monotonic() - started


def play_qemu(row: Row, witness: Witness, folder: Path, size: int) -> None:
    """qemu-img (libiscsi) reads what swd wrote, and writes what swd reads. In mutual rows it authenticates one way."""
    user = "" if row.auth == "none" else f"{USER}%{SECRET}@"
    theirs = f"iscsi://{user}{witness.portal}/{row.name}/{row.lun}"
    mine, got = folder / "mine.raw", folder / "got.raw"
    convert = ("qemu-img", "convert", "-f", "raw", "-O", "raw")
    with swd.open(url(row, witness.portal), "r+b", **OFFER, **credentials(row, folder)) as disk:
        wrote = os.urandom(size)
        _write(disk, wrote)
        run(*convert, theirs, str(got))
        assert got.read_bytes() == wrote
        mine.write_bytes(os.urandom(size))
        run(*convert, "-n", str(mine), theirs)
        assert disk.pread(size, 0) == mine.read_bytes()
