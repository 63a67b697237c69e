# SPDX-License-Identifier: Apache-2.0
"""What went over the loopback, as tshark saw it: a live capture, and the decoding of the file."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.process import Watched, run

_BUFFER = "64"  # MiB in the kernel: nothing may be lost while tshark decodes


class Seen(NamedTuple):
    """One PDU as tshark decoded it; the digests' verdicts are "Good", "Bad", or "" where it has none."""

    opcode: int
    ttt: int | None
    length: int  # of its data segment
    header_digest: str
    data_digest: str


class Decoded(NamedTuple):
    """A capture. `keys`: the text keys that were exchanged, "Key=value"."""

    pdus: list[Seen]
    malformed: int
    keys: set[str]

    def digests(self, verdict: str) -> tuple[int, int]:
        """How many header and data digests have that verdict."""
        headers = sum(pdu.header_digest == verdict for pdu in self.pdus)
        return headers, sum(pdu.data_digest == verdict for pdu in self.pdus)


class Capture:
    """A running capture of one port. Each packet is a line, so that the end of a connection can be waited for."""

    def __init__(self, process: Watched) -> None:
        self._process = process

    def wait_for_ends(self, connections: int) -> None:
        """Until so many connections have been closed from both ends; what they sent is in the file then."""
        self._process.wait_for(r"\[FIN", count=2 * connections)

    def stop(self) -> None:
        """As Ctrl-C would."""
        self._process.signal(signal.SIGINT)
        assert self._process.finish() == 0, "\n".join(self._process.lines[-20:])
        assert not [line for line in self._process.lines if re.search(r"\b[1-9]\d* packets? dropped", line)]


def decode(file: Path, port: int) -> Decoded:
    """What tshark makes of a capture of that port, in a second run, with all segments at hand."""
    text = run("tshark", "-n", "-r", str(file), "-d", f"tcp.port=={port},iscsi", "-V", timeout=60)
    return Decoded(
        pdus=[_seen(part) for part in re.split(r"^iSCSI \(", text, flags=re.MULTILINE)[1:]],
        malformed=len(re.findall(r"Malformed", text)),
        keys=set(re.findall(r"KeyValue: (\S+)", text)),
    )


def _seen(text: str) -> Seen:
    """One PDU's part of `tshark -V`."""

    def first(pattern: str) -> str:
        found = re.search(pattern, text)
        return found[1] if found else ""

    ttt = first(r"TargetTransferTag: (0x\w+)")
    return Seen(
        opcode=int(first(r"Opcode: .*\((0x\w+)\)"), 0),
        ttt=int(ttt, 0) if ttt else None,
        length=int(first(r"DataSegmentLength: (\d+)") or 0),
        header_digest=first(r"HeaderDigest: 0x\w+ \((\w+) CRC32"),
        data_digest=first(r"DataDigest: 0x\w+ \((\w+) CRC32"),
    )


@contextlib.contextmanager
def capturing(file: Path, port: int) -> Iterator[Capture]:
    """tshark on the loopback, for one TCP port; it is ready when this returns. Needs root."""
    words = ("-n", "-i", "lo", "-f", f"tcp port {port}", "-B", _BUFFER, "-P", "-l", "-w", str(file))
    process = Watched("tshark", *words)
    try:
        process.wait_for(r"Capture started")
        process.wait_for(r"File: ")
        yield Capture(process)
    finally:
        if process.running:
            process.signal(signal.SIGKILL)
        process.finish()
