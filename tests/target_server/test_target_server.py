# SPDX-License-Identifier: Apache-2.0
"""Connections and sessions of the whole target: how they begin and end, what is counted, where it listens."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest
from conftest import NAME, Serve, connected, until
from raw_initiator import CRC, INITIATOR, OPERATIONAL, RawInitiator, open_write, pairs_of, send_text, text, write_10

from swd.errors import InvalidArgument, NoSuchDevice
from swd.proto import pdu
from swd.target import TargetConfig, TargetServer
from swd.target.portals import listening_portal
from swd.values import Chap, Portal

DATA = random.Random(7).randbytes(1 << 20)
DIGESTS = (("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), *OPERATIONAL[2:])


@pytest.mark.parametrize("spoil", ["header", "data"])
def test_a_wrong_digest_closes_the_connection(server: TargetServer, spoil: str) -> None:
    with connected(server, operational=DIGESTS) as raw:
        raw.send(pdu.NopOut(itt=1, immediate=True, cmd_sn=raw.cmd_sn), b"data", spoil=spoil)
        assert raw.closed()
        until(lambda: server.statistics["digest_errors"] == 1)


def test_reinstatement_ends_the_old_session(server: TargetServer) -> None:
    with connected(server) as old:
        open_write(old)
        with RawInitiator(server.portal) as new:
            assert new.login(NAME).status_class == 0
            assert old.closed()
            assert new.run(bytes(6)).sense == (6, 0x29, 7)
            until(lambda: len(server.sessions) == 1)
            assert server.statistics["reinstatements"] == 1


def test_two_isids_are_two_sessions(server: TargetServer) -> None:
    with connected(server) as one, RawInitiator(server.portal, isid=b"\x80\0\0\0\0\2") as two:
        two.login(NAME)
        assert len({agreed.tsih for agreed in server.sessions}) == 2
        assert one.run(bytes(6)).status == 0


def test_chap_over_a_socket(serve: Serve) -> None:
    chap = Chap("user", "a-secret-of-16by")
    server = serve(chap=chap)
    with connected(server, chap=chap):
        assert server.sessions[0].auth == "chap"
    with RawInitiator(server.portal) as raw:
        response = raw.login(NAME, chap=Chap("user", "the-wrong-secret"))
        assert (response.status_class, response.status_detail) == (2, 1)
        assert raw.closed()
    until(lambda: server.statistics["sessions_open"] == 0)
    assert (server.statistics["logins"], server.statistics["login_failures"]) == (1, 1)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n" * 10, bytes(48), b"\xff" * 200])
def test_rubbish_ends_its_own_connection_only(server: TargetServer, rubbish: bytes) -> None:
    with connected(server) as raw, socket.create_connection((server.portal.host, server.portal.port), 10) as stranger:
        stranger.sendall(rubbish)
        assert stranger.recv(4096) == b""
        assert raw.run(bytes(6)).status == 0


def test_a_silent_peer_does_not_stay(serve: Serve) -> None:
    with TargetServer([TargetConfig(NAME)], login_timeout=0.05) as server:
        with socket.create_connection((server.portal.host, server.portal.port), 10) as stranger:
            assert stranger.recv(1) == b""
        assert server.statistics["accepts"] == 1


def test_more_connections_than_allowed(serve: Serve) -> None:
    with TargetServer([TargetConfig(NAME)], max_connections=1) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        with RawInitiator(server.portal) as late:
            assert late.closed()


def test_counts_name_what_went_over_the_wire(server: TargetServer) -> None:
    with connected(server) as raw:
        raw.run(write_10(0, 1), data=DATA[:512])
        counts = server.statistics
        assert counts["pdus_in"] == {"LOGIN_REQUEST": 2, "SCSI_COMMAND": 2, "DATA_OUT": 1}
        assert counts["pdus_out"] == {"LOGIN_RESPONSE": 2, "SCSI_RESPONSE": 2, "R2T": 1}
        assert counts["accepts"] == counts["logins"] == counts["sessions_open"] == 1


def test_a_digest_is_counted_once_whoever_checks_it(server: TargetServer) -> None:
    """With the last of the login the header of a ping has come, and not its data: there the path takes over."""
    with RawInitiator(server.portal) as raw:
        who = [("InitiatorName", INITIATOR), ("SessionType", "Normal"), ("TargetName", NAME), ("AuthMethod", "None")]
        raw.request(who, csg=0, nsg=1)
        words = text(DIGESTS)
        login = bytearray(pdu.LoginRequest(isid=raw.isid, csg=1, nsg=3, transit=True, cmd_sn=1, itt=1).pack())
        login[5:8] = len(words).to_bytes(3, "big")
        ping = bytearray(pdu.NopOut(itt=2, cmd_sn=1).pack())
        ping[5:8] = (4).to_bytes(3, "big")
        head = bytes(ping) + CRC(ping).to_bytes(4, "little")
        raw.sock.sendall(bytes(login) + words + bytes(-len(words) & 3) + head)
        assert isinstance(raw.receive().header, pdu.LoginResponse)
        raw.header_digest = raw.data_digest = True
        raw.sock.sendall(b"ping" + CRC(b"ping").to_bytes(4, "little"))
        answer = raw.receive()
        assert (type(answer.header), answer.data) == (pdu.NopIn, b"ping")
        counted = server.statistics
        assert (counted["header_digests_checked"], counted["data_digests_checked"]) == (1, 1)


def test_stop_is_quick_and_joins_everything() -> None:
    before = set(threading.enumerate())
    server = TargetServer([TargetConfig(NAME)])
    server.start()
    peers = [RawInitiator(server.portal, isid=bytes([0x80, 0, 0, 0, 0, n])) for n in range(8)]
    for peer in peers[:6]:
        peer.login(NAME)
    until(lambda: server.statistics["accepts"] == 8)
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 1
    assert set(threading.enumerate()) == before
    for peer in peers:
        assert peer.closed()
        peer.sock.close()
    server.stop()
    assert server.statistics["logins"] == 6


def test_ipv6(serve: Serve) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    server = serve("[::1]:0")
    with RawInitiator(server.portal) as raw:
        raw.login(None)
        send_text(raw, [("SendTargets", "All")])
        assert pairs_of(raw.receive().data)[1] == ("TargetAddress", f"[::1]:{server.portal.port},1")


def test_loopback_only_unless_told() -> None:
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME)], "0.0.0.0:0").start()
    with TargetServer([TargetConfig(NAME)], "0.0.0.0:0", public=True) as server:
        assert server.portal.port


def test_a_port_that_is_taken(server: TargetServer) -> None:
    with pytest.raises(NoSuchDevice):
        TargetServer([TargetConfig(NAME)], server.portal).start()


def test_bad_configurations() -> None:
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME), TargetConfig(NAME.upper())])
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig("not a name")])
    with pytest.raises(InvalidArgument):
        TargetServer([TargetConfig(NAME, chap=Chap("user", "short"))])


@pytest.mark.parametrize(
    ("written", "portal"),
    [("127.0.0.1:0", Portal("127.0.0.1", 0)), ("[::1]:0", Portal("::1", 0)), ("localhost:5", Portal("localhost", 5))],
)
def test_listening_portals(written: str, portal: Portal) -> None:
    assert listening_portal(written) == portal
