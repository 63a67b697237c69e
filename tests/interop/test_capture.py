# SPDX-License-Identifier: Apache-2.0
"""tshark reads what swd and the embedded target say to each other: whole, well formed, every digest right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import capture

import swd
from swd.proto.pdu import Opcode
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.values import RESERVED_TAG, Chap

pytestmark = pytest.mark.tshark

SIZE = 4 << 20
BLOCK = 512
PING = b"a ping with one byte of padding"
CHAP = Chap("initiator", "secret-of-initiator", target_user="target", target_secret="secret-of-target")
CRC = ("crc32c",)
REQUIRED = {"header_digest": "crc32c!", "data_digest": "crc32c!"}

SOLICITED = TargetConfig(  # data comes only when it is asked for, in small bursts
    "iqn.2026-01.org.example:solicited",
    {0: Lun(RamMedium(SIZE))},
    chap=CHAP,
    header_digest=CRC,
    data_digest=CRC,
    limits=Limits(
        max_recv_data_segment_length=4096,
        max_burst_length=16384,
        first_burst_length=8192,
        initial_r2t=True,
        immediate_data=False,
        max_outstanding_r2t=2,
    ),
)
UNSOLICITED = TargetConfig(  # immediate data, and Data-Out that nobody asked for
    "iqn.2026-01.org.example:unsolicited",
    {0: Lun(RamMedium(SIZE))},
    chap=CHAP,
    header_digest=CRC,
    data_digest=CRC,
    limits=Limits(max_recv_data_segment_length=4096, max_burst_length=65536, first_burst_length=32768),
)
EVERYTHING = {
    *(Opcode.NOP_OUT, Opcode.SCSI_COMMAND, Opcode.TASK_MANAGEMENT_REQUEST, Opcode.LOGIN_REQUEST),
    *(Opcode.TEXT_REQUEST, Opcode.DATA_OUT, Opcode.LOGOUT_REQUEST, Opcode.NOP_IN, Opcode.SCSI_RESPONSE),
    *(Opcode.TASK_MANAGEMENT_RESPONSE, Opcode.LOGIN_RESPONSE, Opcode.TEXT_RESPONSE, Opcode.DATA_IN),
    *(Opcode.LOGOUT_RESPONSE, Opcode.R2T),
}


def write_10(lba: int, blocks: int) -> bytes:
    return b"\x2a\0" + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def converse(portal: str, config: TargetConfig) -> dict[str, int]:
    """All that a session can say; returns its counters."""
    with swd.connect(portal, config.name, chap=CHAP, **REQUIRED) as session:
        with session.unit(0) as disk:
            data = os.urandom(256 << 10)
            disk.pwrite(data, 4096)
            disk.pwrite(data[:777], 1)  # odd lengths: blocks are read, changed, written
            assert disk.pread(len(data) - 4096, 8192) == data[4096:]
            disk.flush()
        assert session.ping(PING) == PING
        assert session.ping() == b""
        assert session.text({"SendTargets": ""})[0] == ("TargetName", config.name)
        task = session.submit(write_10(0, 256), lun=0, data_out=bytes(256 * BLOCK))
        session.abort(task)
        assert session.execute(b"\0" * 6, lun=0).status == 0
        return session.statistics


def test_a_capture_is_well_formed_and_every_digest_is_good(tmp_path: Path) -> None:
    file = tmp_path / "lo.pcap"
    with TargetServer([SOLICITED, UNSOLICITED], discovery_chap=CHAP) as server:
        portal = str(server.portal)
        with capture.capturing(file, server.portal.port) as live:
            assert len(swd.discover(portal, chap=CHAP)) == 2
            sessions = [converse(portal, config) for config in (SOLICITED, UNSOLICITED)]
            live.wait_for_ends(3)
            live.stop()
        counts = server.statistics
    seen = capture.decode(file, server.portal.port)
    assert seen.malformed == 0
    assert seen.digests("Bad") == (0, 0)
    assert {pdu.opcode for pdu in seen.pdus} >= EVERYTHING
    assert {"HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=Yes", "AuthMethod=CHAP"} <= seen.keys

    # Every PDU of the two sessions, and of their logouts, has a header digest, and every data segment has one.
    pdus = sum(session["pdus_out"] + session["pdus_in"] for session in sessions) + 4
    digested = [pdu for pdu in seen.pdus if pdu.header_digest]
    assert seen.digests("Good") == (pdus, sum(pdu.length > 0 for pdu in digested))
    assert min(seen.digests("Good")) > 100

    data_out = [pdu for pdu in seen.pdus if pdu.opcode == Opcode.DATA_OUT]
    assert len(data_out) == counts["pdus_in"]["DATA_OUT"]
    assert any(pdu.ttt == RESERVED_TAG for pdu in data_out)  # unsolicited
    assert any(pdu.ttt != RESERVED_TAG for pdu in data_out)  # in answer to an R2T
    assert any(pdu.opcode == Opcode.SCSI_COMMAND and pdu.length for pdu in seen.pdus)  # immediate

    # Were a byte another one, tshark would say so: of both sessions' ping and its answer.
    file.write_bytes(file.read_bytes().replace(PING, PING.swapcase()))
    spoilt = capture.decode(file, server.portal.port)
    assert spoilt.digests("Bad") == (0, 4)
    assert spoilt.digests("Good") == (pdus, seen.digests("Good")[1] - 4)
