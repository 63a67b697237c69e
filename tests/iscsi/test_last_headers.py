# SPDX-License-Identifier: Apache-2.0
"""The ring of the last headers, and where it goes when a target breaks the protocol."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

import swd
from swd.errors import ProtocolViolation
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.values import Event

NAME = "iqn.2026-01.org.example:headers"


def test_the_last_headers_in_their_order() -> None:
    with (
        TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))})]) as server,
        swd.connect(str(server.portal), NAME) as session,
    ):
        for _ in range(100):
            session.ping(b"")
        found = session.last_headers()
    assert len(found) == 64
    assert [(direction, bhs[0] & 0x3F) for direction, _, bhs in found] == [("out", 0x00), ("in", 0x20)] * 32
    times = [at for _, at, _ in found]
    assert times == sorted(times)
    tags = [bhs[16:20] for _, _, bhs in found]
    assert tags[0::2] == tags[1::2]


def test_a_protocol_error_leaves_the_headers_in_a_file(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))})]) as server:
        session = swd.connect(str(server.portal), NAME)
        session.ping(b"")
        with caplog.at_level(logging.DEBUG, "swd"):
            session._on_event(Event(0x3F, bytes([0x3F, 0x80, 0x09]) + bytes(45), b""))  # as the pump hands it out
        assert not session.alive
        with pytest.raises(ProtocolViolation, match="invalid PDU field"):
            session.ping(b"")
        session.close()
    said = {record.symbol: record for record in caplog.records if hasattr(record, "symbol")}
    assert {"SWD_LOG_REJECT", "SWD_LOG_PROTOCOL_ERROR", "SWD_LOG_LAST_HEADERS"} <= said.keys()
    place = Path(said["SWD_LOG_LAST_HEADERS"].getMessage().rpartition(" ")[2])
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    lines = place.read_text().splitlines()
    assert lines[-1].split()[1] == "in"
    assert lines[-1].split()[2].startswith("20")
    assert (session.statistics["protocol_error"], session.statistics["reject_09"]) == (1, 1)
