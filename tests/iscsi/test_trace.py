# SPDX-License-Identifier: Apache-2.0
"""Traces: every byte of the connection in a capture, secrets masked, and tshark reads it without a fault."""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import swd
from swd.driver import Driver
from swd.errors import DeviceBusy, SwdError
from swd.iscsi.pcap import HEADER, Conversation, Ends
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:traced"
SIZE = 1 << 18  # one command each way: the order of the bytes is that of the disk
CHAP = swd.Chap("me", "a-secret-of-the-target", target_user="it", target_secret="a-secret-of-its-own")


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))}, chap=CHAP)]) as found:
        yield found


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(source port, TCP segment) of each packet, addresses and lengths checked."""
    assert data.startswith(HEADER)
    at = len(HEADER)
    while at < len(data):
        _, _, length, whole = struct.unpack_from("=IIII", data, at)
        packet, at = data[at + 16 : at + 16 + length], at + 16 + length
        assert length == whole == len(packet)
        start = 40 if packet[0] >> 4 == 6 else 20
        assert _sum(packet[:20]) == 0xFFFF or start == 40
        pseudo = packet[start - (32 if start == 40 else 8) : start] + struct.pack(">II", length - start, 6)
        assert _sum(pseudo + packet[start:]) == 0xFFFF
        yield int.from_bytes(packet[start : start + 2], "big"), packet[start:]


def _sum(data: bytes) -> int:
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def streams(path: Path) -> dict[int, bytes]:
    """What each port sent, put together by the sequence numbers; a gap fails."""
    found: dict[int, bytes] = {}
    for port, segment in packets(path.read_bytes()):
        seq, payload = int.from_bytes(segment[4:8], "big"), segment[20:]
        have = found.setdefault(port, b"")
        if payload:
            assert seq == 1 + len(have), (port, seq, len(have))
            found[port] = have + payload
    return found


def pdus(stream: bytes, digests: int) -> Iterator[tuple[int, bytes]]:
    """(opcode, data segment); `digests`: bytes of each digest in the full-feature phase."""
    at = 0
    while at < len(stream):
        opcode, length = stream[at] & 0x3F, int.from_bytes(stream[at + 5 : at + 8], "big")
        extra = 0 if opcode in (0x03, 0x23) else digests
        start = at + 48 + extra
        yield opcode, stream[start : start + length]
        at = start + length + (-length & 3) + (extra if length else 0)
    assert at == len(stream)


@pytest.mark.parametrize("digest", ["none", "crc32c"])
def test_all_that_passed_is_in_the_file(server: TargetServer, tmp_path: Path, digest: str) -> None:
    path = tmp_path / "all.pcap"
    data = os.urandom(SIZE)
    keys = {"header_digest": digest, "data_digest": digest}
    with Driver() as drv, drv.trace(str(path)), swd.connect(str(server.portal), NAME, chap=CHAP, **keys) as session:
        with session.unit(0) as disk:
            disk.pwrite(data, 0)
            assert disk.pread(SIZE, 0) == data
        session.ping(b"are you there")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sent = streams(path)
    digests = 4 if digest == "crc32c" else 0
    theirs = list(pdus(sent.pop(server.portal.port), digests))
    ours = next(stream for stream in sent.values() if stream[:1] == b"\x43")  # others: sessions of other tests
    said = list(pdus(ours, digests))
    assert b"".join(part for opcode, part in said if opcode in (0x01, 0x05)) == data
    assert b"".join(part for opcode, part in theirs if opcode == 0x25).endswith(data)
    assert (0x20, b"are you there") in theirs
    assert (said[0][0], said[-1][0], theirs[-1][0]) == (0x03, 0x06, 0x26)


@pytest.mark.parametrize("with_chap", [False, True])
def test_chap_is_masked_unless_asked_for(server: TargetServer, tmp_path: Path, with_chap: bool) -> None:
    path = tmp_path / "chap.pcap"
    with Driver() as drv, drv.trace(str(path), with_chap=with_chap):
        swd.connect(str(server.portal), NAME, chap=CHAP).close()
    values = re.findall(rb"CHAP_[RC]=0x([^\0]*)\0", path.read_bytes())
    assert len(values) == 4  # both challenges, both responses
    assert all(len(value) >= 32 for value in values)
    assert [set(value) == {ord("*")} for value in values] == [not with_chap] * 4


def test_a_session_that_is_older_than_the_trace_is_seen_from_its_next_pdu_on(
    server: TargetServer, tmp_path: Path
) -> None:
    path = tmp_path / "late.pcap"
    with Driver() as drv, swd.connect(str(server.portal), NAME, chap=CHAP) as session:
        session.ping(b"before")
        with drv.trace(str(path)):
            session.ping(b"during")
        session.ping(b"after")
    sent = streams(path)
    assert list(pdus(sent[server.portal.port], 0)) == [(0x20, b"during")]
    assert sum(len(stream) for stream in sent.values()) == 2 * (48 + 8)


def test_one_trace_at_a_time_and_a_place_that_is_none(tmp_path: Path) -> None:
    with Driver() as drv:
        with drv.trace(str(tmp_path / "one")), pytest.raises(DeviceBusy), drv.trace(str(tmp_path / "two")):
            pass
        with pytest.raises(SwdError), drv.trace(str(tmp_path / "no" / "folder")):
            pass
        with drv.trace(str(tmp_path / "three")):
            pass


def test_ipv6_and_odd_lengths_have_right_checksums(tmp_path: Path) -> None:
    talk = Conversation(Ends("fe80::1%eth0", 5000, "fe80::2", 3260))
    path = tmp_path / "six.pcap"
    said = [bytes([i]) * i for i in range(1, 70)]
    made = [*talk.begin(1.5), *(p for each in said for p in talk.data(2.0, True, each)), *talk.end(3.0)]
    path.write_bytes(HEADER + b"".join(made))
    assert streams(path)[5000] == b"".join(said)


@pytest.mark.tshark
def test_tshark_finds_no_fault(server: TargetServer, tmp_path: Path) -> None:
    path = tmp_path / "shark.pcap"
    keys = {"header_digest": "crc32c!", "data_digest": "crc32c!", "immediate_data": False, "initial_r2t": True}
    with (
        Driver() as drv,
        drv.trace(str(path)),
        swd.connect(str(server.portal), NAME, chap=CHAP, **keys) as session,
        session.unit(0) as disk,
    ):
        disk.pwrite(os.urandom(1 << 18), 0)
        disk.pread(1 << 18, 0)
    words = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-d",
        f"tcp.port=={server.portal.port},iscsi",
        "-o",
        "tcp.check_checksum:TRUE",
    ]
    words += ["-o", "ip.check_checksum:TRUE", "-V"]
    text = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Malformed" not in text
    assert "Bad CRC32" not in text
    assert "not captured" not in text
    assert "[Checksum Status: Bad]" not in text
    assert "Good CRC32" in text
    assert "Opcode: Login Command (0x03)" in text
    assert re.search(r"Opcode: .*\(0x05\)", text)
    assert re.search(r"Opcode: .*\(0x25\)", text)
