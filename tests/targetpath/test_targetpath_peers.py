# SPDX-License-Identifier: Apache-2.0
"""Peers that do not read, that close half, that go away, that spoil digests; and memory that nobody may touch."""

from __future__ import annotations

import gc
import random
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from streams import Stream
from target_server.raw_initiator import OPERATIONAL, RawInitiator, read_10, write_10

from swd._targetpath import Flat, Gate, TargetPath
from swd.errors import DigestMismatch, InvalidArgument, ProtocolViolation
from swd.proto import pdu
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.framing import HIGH_WATER
from swd.values import Negotiated

NAME = "iqn.2026-01.org.example:peers"
SIZE = 64 << 20


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as server:
        yield server


@pytest.fixture
def raw(server: TargetServer) -> Iterator[RawInitiator]:
    yield from _logged_in(server)


@pytest.fixture
def digested(server: TargetServer) -> Iterator[RawInitiator]:
    yield from _logged_in(server, HeaderDigest="CRC32C", DataDigest="CRC32C")


def _logged_in(server: TargetServer, **keys: str) -> Iterator[RawInitiator]:
    with RawInitiator(server.portal) as raw:
        raw.login(NAME, operational=tuple({**dict(OPERATIONAL), **keys}.items()))
        raw.ready()
        yield raw


def flood(raw: RawInitiator) -> int:
    """Ask for 16 MiB at a time until the target takes no more; how often."""
    raw.sock.setblocking(False)
    asked = 0
    while True:
        _, ready, _ = select.select([], [raw.sock], [], 0.3)
        try:
            if ready:
                raw.command(read_10(0, 32768), expect=32768 * 512)
        except BlockingIOError:
            ready = []
        if not ready:
            return asked
        asked += 1


def test_who_does_not_read_is_not_answered_without_end(server: TargetServer, raw: RawInitiator) -> None:
    flood(raw)
    (connection,) = server._connections
    assert connection._path is not None
    assert connection._path._path.unsent < HIGH_WATER + (16 << 20)
    before = server.statistics["pdus_in"]["SCSI_COMMAND"]
    assert before < 10  # a few of 16 MiB each, whatever came


def test_who_does_not_read_costs_no_time(server: TargetServer, raw: RawInitiator) -> None:
    import resource

    flood(raw)
    before = resource.getrusage(resource.RUSAGE_SELF)
    select.select([], [], [], 0.3)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15
    assert len(server._connections) == 1


def test_stop_ends_who_does_not_read(server: TargetServer, digested: RawInitiator) -> None:
    flood(digested)
    server.stop()
    assert not server._connections


def test_a_half_closed_connection_gets_its_answers(raw: RawInitiator) -> None:
    tags = [raw.command(read_10(lba, 8), expect=4096) for lba in range(4)]
    raw.sock.shutdown(socket.SHUT_WR)
    for tag in tags:
        assert raw.finish(tag).data == bytes(4096)
    assert raw.closed()


def test_logout_is_answered_behind_all_reads(raw: RawInitiator) -> None:
    tags = [raw.command(read_10(0, 8192), expect=8192 * 512) for _ in range(4)]
    raw.send(pdu.LogoutRequest(itt=9, cmd_sn=raw.cmd_sn))
    for tag in tags:
        assert len(raw.finish(tag).data) == 8192 * 512
    assert isinstance(raw.receive().header, pdu.LogoutResponse)
    assert raw.closed()


@pytest.mark.parametrize("spoil", ["header", "data"])
def test_a_wrong_digest_ends_the_connection(server: TargetServer, digested: RawInitiator, spoil: str) -> None:
    header = pdu.ScsiCommand(
        itt=1, cdb=write_10(0, 8).ljust(16, b"\0"), cmd_sn=digested.cmd_sn, write=True,
        expected_data_transfer_length=4096,
    )  # fmt: skip
    digested.send(header, bytes(4096), spoil=spoil)
    assert digested.closed()
    server.stop()
    assert server.statistics["digest_errors"] == 1


def test_two_sessions_on_one_disk(server: TargetServer) -> None:
    """Each writes blocks of its own and reads the other's, all of which say who wrote them and where."""
    errors: list[str] = []

    def work(me: int) -> None:
        with RawInitiator(server.portal, isid=bytes([0x80, 0, 0, 0, 0, me])) as raw:
            raw.login(NAME)
            raw.ready()
            for turn in range(300):
                lba = 8 * (2 * (turn % 50) + me)
                data = bytes([me]) * 8 + lba.to_bytes(8, "big") + bytes(4080)
                raw.finish(raw.command(write_10(lba, 8), expect=4096, immediate_data=data))
                found = raw.run(read_10(lba ^ 8, 8), expect=4096).data
                if found[:16] not in (bytes(16), bytes([1 - me]) * 8 + (lba ^ 8).to_bytes(8, "big")):
                    errors.append(f"{lba ^ 8}: {found[:16].hex()}")

    threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# ---- without a server ------------------------------------------------------------------------------------------------

GUARD = 8192
BLOCKS = 256


class Alone:
    """A path over a socket pair, with a disk that has memory on both sides of it which is nobody's."""

    def __init__(self, agreed: Negotiated) -> None:
        self.memory = bytearray(b"\xa5" * GUARD + bytes(BLOCKS * 512) + b"\xa5" * GUARD)
        self.used = bytearray(b"\xa5" * 16 + bytes(BLOCKS * 512 // 4096) + b"\xa5" * 16)
        self.flat = Flat(memoryview(self.memory)[GUARD:-GUARD], self.used, 4096)
        self.near, self.far = socket.socketpair()
        self.path = TargetPath(
            self.near.fileno(), bytearray(1 << 19), 0, 0, agreed, 32, 65536, Gate(), (b"wrong", b"order")
        )
        self.path.position = (1, 0, 1, 32)

    def serve(self, data: bytes) -> None:
        """Take all of some bytes, and drop what is not for the path."""
        self.far.settimeout(5)
        reader = threading.Thread(target=self._read)
        reader.start()
        writer = threading.Thread(target=self._write, args=(data,))
        writer.start()
        try:
            while True:
                odd = self.path.run()
                if odd is None:
                    self.path.admit(Gate().passed, [(0, self.flat, BLOCKS, 512, 128, True, True)])
                else:
                    self._pass_over(odd[0])
        except (ConnectionResetError, ProtocolViolation, DigestMismatch, BrokenPipeError):
            pass
        finally:
            self.near.shutdown(socket.SHUT_RDWR)
            writer.join()
            reader.join()
            self.near.close()
            self.far.close()

    def _pass_over(self, bhs: bytes) -> None:
        """What the session in Python would do with its number."""
        stat_sn, ttt, exp_cmd_sn, max_cmd_sn = self.path.position
        if bhs[0] in (0, 1, 2, 4) and bhs[24:28] == exp_cmd_sn.to_bytes(4, "big"):
            self.path.position = (stat_sn, ttt, exp_cmd_sn + 1, max_cmd_sn + 1)

    def _read(self) -> None:
        try:
            while self.far.recv(1 << 16):
                pass
        except OSError:
            pass

    def _write(self, data: bytes) -> None:
        try:
            self.far.sendall(data)
            self.far.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @property
    def guards(self) -> tuple[bytes, bytes]:
        return bytes(self.memory[:GUARD]), bytes(self.memory[-GUARD:])


def test_nothing_outside_of_the_disk_is_written() -> None:
    """Damaged requests for a disk that lies amid other memory."""
    agreed = Negotiated(
        initial_r2t=False, first_burst_length=65536, max_burst_length=65536, max_recv_data_segment_length=4096,
        target_max_recv_data_segment_length=65536, max_outstanding_r2t=4,
    )  # fmt: skip
    wrote = 0
    for seed in range(60):
        chance = random.Random(seed)
        alone = Alone(agreed)
        data = bytearray(Stream(seed, agreed, BLOCKS).stage(40)[0])
        for _ in range(seed % 4):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        alone.serve(bytes(data))
        assert alone.guards == (b"\xa5" * GUARD, b"\xa5" * GUARD)
        wrote += any(alone.memory[GUARD:-GUARD])
    assert wrote > 30


def test_garbage_goes_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """Buffers that a path holds are released by it, in whatever order a cycle of garbage is taken apart."""
    for _ in range(3):
        alone = Alone(Negotiated())
        alone.path.admit(0, [(0, alone.flat, BLOCKS, 512, 128, True, True)])
        alone.near.close()
        alone.far.close()
        cycle: list[object] = [alone.path]
        cycle.append(cycle)
        del alone, cycle
        gc.collect()
    assert capfd.readouterr() == ("", "")


def test_what_does_not_fit_is_refused() -> None:
    memory, used = bytearray(8192), bytearray(2)
    agreed = Negotiated()
    with pytest.raises(InvalidArgument):
        Flat(memory, used, 2048)
    with pytest.raises(InvalidArgument):
        TargetPath(0, bytearray(4096), 0, 0, agreed, 8, 65536, Gate(), ())
    for senses in ((b"", b"", b""), (bytes(31),)):
        with pytest.raises(InvalidArgument):
            TargetPath(0, bytearray(1 << 19), 0, 0, agreed, 8, 65536, Gate(), senses)
    path = TargetPath(0, bytearray(1 << 19), 0, 0, agreed, 8, 65536, Gate(), ())
    with pytest.raises(InvalidArgument):
        path.admit(0, [(0, Flat(memory, used, 4096), 17, 512, 128, True, True)])
