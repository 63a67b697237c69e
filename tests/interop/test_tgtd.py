# SPDX-License-Identifier: Apache-2.0
"""tgtd under the suite's control: it is what it was told to be, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from support import tgt

import swd
from swd.errors import AuthenticationFailed
from swd.values import Chap

pytestmark = pytest.mark.tgt

NAME = "iqn.2026-01.org.example:alone"


def assert_gone(tgtd: tgt.Tgtd, folder: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(tgtd.process.process.pid, 0)
    assert list(folder.glob("tgt*")) == []
    with socket.socket() as sock:
        assert sock.connect_ex((tgtd.portal.host, tgtd.portal.port)) != 0


def test_it_is_as_told_and_leaves_nothing(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(1 << 20))
    with tgt.serving(tmp_path) as tgtd:
        chap = Chap("user", "a-secret-of-tgtd")
        tgtd.add_target(NAME, chap=chap, HeaderDigest="CRC32C", MaxBurstLength="131072")
        tgtd.add_lun(NAME, 1, image)
        assert swd.discover(str(tgtd.portal))[0].name == NAME
        with pytest.raises(AuthenticationFailed):
            swd.connect(str(tgtd.portal), NAME, chap=Chap("user", "another-secret-it-is"))
        with swd.connect(str(tgtd.portal), NAME, chap=chap) as session, session.unit(1) as disk:
            assert disk.pread(1 << 20, 0) == image.read_bytes()
            assert session.parameters.max_burst_length == 131072
            assert len(tgtd.initiators(NAME)) == 1
    assert_gone(tgtd, tmp_path)


def test_one_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    with tgt.serving(tmp_path) as tgtd:
        tgtd.add_target(NAME)
        tgtd.process.signal(signal.SIGSTOP)
        tgtd.stop(timeout=0.3)
        assert tgtd.process.process.returncode == -signal.SIGKILL
    assert_gone(tgtd, tmp_path)


def test_a_taken_port_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], tgt.free_port()])
        monkeypatch.setattr(tgt, "free_port", lambda: next(ports))
        with tgt.serving(tmp_path) as tgtd:
            assert tgtd.portal.port != taken.getsockname()[1]
            tgtd.add_target(NAME)
            assert [target.name for target in swd.discover(str(tgtd.portal))] == [NAME]
    assert_gone(tgtd, tmp_path)
