# SPDX-License-Identifier: Apache-2.0
"""How the server's settings reach the compiled data path: spinning, congestion control, huge pages."""

from __future__ import annotations

import logging
import socket

import pytest
from target_server.raw_initiator import RawInitiator, read_10, write_10

from swd.errors import InvalidArgument
from swd.target import FileMedium, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.media import Medium

NAME = "iqn.2026-01.org.example:settings"


def serving(medium: Medium, **settings: object) -> TargetServer:
    return TargetServer([TargetConfig(NAME, {0: Lun(medium)})], **settings)  # type: ignore[arg-type]


def exercise(server: TargetServer, times: int = 1) -> None:
    """Write and read back."""
    with RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        for turn in range(times):
            data = bytes([turn % 251]) * 4096
            raw.finish(raw.command(write_10(turn, 8), expect=4096, immediate_data=data))
            assert raw.run(read_10(turn, 8), expect=4096).data == data


def test_spinning_changes_no_answer() -> None:
    with serving(RamMedium(1 << 20), spin_us=50) as server:
        exercise(server, 200)


@pytest.mark.parametrize("microseconds", [-1, 1001])
def test_nobody_spins_for_long(microseconds: int) -> None:
    with pytest.raises(InvalidArgument, match="spin"):
        serving(RamMedium(1 << 20), spin_us=microseconds)


def test_congestion_control_is_that_of_accepted_connections() -> None:
    with serving(RamMedium(1 << 20), congestion="reno") as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        (connection,) = server._connections
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"


def test_congestion_control_that_is_not_to_be_had_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "swd"), serving(RamMedium(1 << 20), congestion="nosuch") as server:
        exercise(server)
    (record,) = caplog.records
    assert record.getMessage().startswith("SWD_LOG_CONGESTION congestion=nosuch")


def test_huge_pages_are_memory_like_any_other() -> None:
    medium = RamMedium(8 << 20, huge_pages=True)
    assert medium.extent(0) == (False, 8 << 20)
    with serving(medium) as server:
        exercise(server)
    assert medium.extent(0) == (True, 4096)


def test_files_and_media_of_other_classes_are_python_s(tmp_path: object) -> None:
    """A subclass may want to see each access; a file that is truncated must not end the process."""

    class Counting(RamMedium):
        reads = 0

        def read(self, offset: int, length: int) -> memoryview:
            Counting.reads += 1
            return super().read(offset, length)

    with serving(Counting(1 << 20)) as server:
        exercise(server, 3)
    assert Counting.reads == 3
    medium = FileMedium(f"{tmp_path}/disk", size=1 << 20, create=True)
    with serving(medium) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        assert raw.run(read_10(0, 8), expect=4096).data == bytes(4096)
        with open(medium.path, "wb"):
            pass  # truncated
        assert raw.run(read_10(0, 8), expect=4096).sense == (3, 0, 0)
    medium.close()


def test_out_of_memory_for_a_connection_is_the_connection_s_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the server's."""
    from swd.target import compiled

    def without(*_: object) -> None:
        raise MemoryError

    with serving(RamMedium(1 << 20)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "TargetPath", without)
            with RawInitiator(server.portal) as raw:
                raw.login(NAME)
                assert raw.closed()
        exercise(server)
