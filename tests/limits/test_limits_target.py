# SPDX-License-Identifier: Apache-2.0
"""What an initiator may cost the embedded target: a mebibyte of garbage for a key, a request that is never whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from limits_rig import MIB
from support.served import Served, serving
from target_server.raw_initiator import RawInitiator

import swd
from swd.proto import pdu
from swd.values import RESERVED_TAG

KEYS = ("InitiatorName", "TargetName", "AuthMethod", "CHAP_N", "MaxBurstLength", "SendTargets", "X-org.example.x")
GARBAGE = b"\xa7g" * (MIB // 2)
SEGMENT = 8192


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://1M") as target:
        yield target


def resident(served: Served) -> int:
    """Bytes of the target's process."""
    status = Path(f"/proc/{served.process.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.parametrize("key", KEYS)
def test_garbage_for_one_key_in_login(served: Served, key: str) -> None:
    """Refused as an initiator's error when it is longer than a login may be; other sessions go on."""
    data, before = key.encode() + b"=" + GARBAGE, resident(served)
    with swd.open(served.url()) as disk, RawInitiator(served.portal) as raw:
        response = None
        for at in range(0, len(data), SEGMENT):
            raw.send(pdu.LoginRequest(isid=raw.isid, continued=True, cmd_sn=1, itt=1), data[at : at + SEGMENT])
            response = raw.receive().header
            assert isinstance(response, pdu.LoginResponse)
            if response.status_class:
                break
        assert (response.status_class, response.status_detail) == (2, 0)
        assert at < 2 * 65536
        assert raw.closed()
        assert disk.pread(512, 0) == bytes(512)
    assert resident(served) - before < 4 * MIB


@pytest.mark.parametrize("key", KEYS)
def test_garbage_for_one_key_in_a_text_request(served: Served, key: str) -> None:
    """Rejected, and the session goes on."""
    data, before = key.encode() + b"=" + GARBAGE, resident(served)
    with RawInitiator(served.portal) as raw:
        assert raw.login(None).status_class == 0
        tag, ttt = raw.tag(), RESERVED_TAG
        for at in range(0, len(data), SEGMENT):
            request = pdu.TextRequest(final=False, continued=True, itt=tag, ttt=ttt, cmd_sn=raw.cmd_sn)
            raw.cmd_sn += 1
            raw.send(request, data[at : at + SEGMENT])
            answer = raw.receive().header
            if isinstance(answer, pdu.Reject):
                break
            assert isinstance(answer, pdu.TextResponse)
            ttt = answer.ttt
        assert isinstance(answer, pdu.Reject)
        assert at < 2 * 65536
        raw.send(pdu.NopOut(immediate=True, itt=raw.tag(), cmd_sn=raw.cmd_sn), b"alive")
        assert raw.receive().data == b"alive"
    assert resident(served) - before < 4 * MIB


def test_a_header_and_then_nothing_costs_no_segment(served: Served) -> None:
    """64 connections that promise the longest data segment and send a part of it: a buffer each, and no more."""
    before = resident(served)
    raws = [RawInitiator(served.portal, isid=b"\x80\0\0\0\1" + bytes([number])) for number in range(64)]
    try:
        for raw in raws:
            assert raw.login(served.name).status_class == 0
            promise = bytearray(pdu.NopOut(immediate=True, itt=1, cmd_sn=1).pack())
            promise[5:8] = MIB.to_bytes(3, "big")
            raw.sock.sendall(bytes(promise) + bytes(1000))
        with swd.open(served.url()) as disk:
            assert disk.pread(512, 0) == bytes(512)
        assert resident(served) - before < len(raws) * 2 * MIB  # a segment and a ring of 256 KiB each are 80 MiB
    finally:
        for raw in raws:
            raw.sock.close()
