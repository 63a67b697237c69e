# SPDX-License-Identifier: Apache-2.0
"""From a portal to a session: redirects, refusals by their errno, and peers that are gone, silent or no target at all.

Whatever happens before login is complete is a device that is not there (ENXIO), within `login_timeout`.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.peer import FULL_FEATURE, NAME, OPERATIONAL, Script, Talk, playing

import swd
from swd.errors import AuthenticationFailed, LoginRefused, NoSuchDevice, ProtocolViolation, SwdError
from swd.iscsi.connection import MAX_REDIRECTS
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.values import Portal

PATIENCE = 0.3  # seconds of login_timeout where a peer is silent
SLACK = 2.0  # seconds that a busy machine may add


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def no_descriptor_is_left(places: None) -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def redirecting(where: Callable[[], Portal], detail: int = 1, extra: tuple[tuple[str, str], ...] = ()) -> Script:
    """A script that sends everybody elsewhere; returns the target name that was asked for."""

    def script(talk: Talk) -> str:
        request, asked = talk.login_request()
        address = ("TargetAddress", f"{where()},1")
        talk.login_response(request, [address, *extra], status_class=1, status_detail=detail)
        assert talk.until_closed() == []
        return asked["TargetName"]

    return script


@pytest.mark.parametrize("detail", [1, 2])
def test_a_redirect_is_followed_under_the_same_name(detail: int) -> None:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))})]) as server:
        other_name = ("TargetName", "iqn.2026-01.org.example:another")
        script = redirecting(lambda: server.portal, detail, (other_name,))
        with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
            assert session.portal == server.portal
            assert session.parameters.target_name == NAME
            assert session.ping(b"here") == b"here"
            assert [agreed.target_name for agreed in server.sessions] == [NAME]
        assert peer.results == [NAME]


def test_redirects_in_a_circle_end() -> None:
    with playing(redirecting(lambda: peer.portal)) as peer:
        with pytest.raises(LoginRefused, match="redirects in a circle") as caught:
            swd.connect(str(peer.portal), NAME)
        assert caught.value.errno == errno.ENXIO
    assert peer.results == [NAME] * (MAX_REDIRECTS + 1)


def test_a_redirect_to_nowhere_is_no_such_device() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with (
            playing(redirecting(lambda: Portal(*taken.getsockname()))) as peer,
            pytest.raises(NoSuchDevice, match="refused"),
        ):
            swd.connect(str(peer.portal), NAME)


@pytest.mark.parametrize("address", ["", "no-port:x", "a b", "192.0.2.1:0"])
def test_a_redirect_to_what_is_no_address_breaks_the_protocol(address: str) -> None:
    def script(talk: Talk) -> None:
        request, _ = talk.login_request()
        talk.login_response(request, [("TargetAddress", address)], status_class=1, status_detail=1)
        assert talk.until_closed() == []

    with playing(script) as peer, pytest.raises(ProtocolViolation):
        swd.connect(str(peer.portal), NAME)


REFUSALS = [
    (0x0200, errno.EPROTO, LoginRefused),
    (0x0201, errno.EACCES, AuthenticationFailed),
    (0x0202, errno.EACCES, AuthenticationFailed),
    (0x0203, errno.ENXIO, LoginRefused),
    (0x0204, errno.ENODEV, LoginRefused),
    (0x0205, errno.EOPNOTSUPP, LoginRefused),
    (0x0206, errno.EBUSY, LoginRefused),
    (0x0207, errno.EPROTO, LoginRefused),
    (0x0208, errno.EOPNOTSUPP, LoginRefused),
    (0x0209, errno.EOPNOTSUPP, LoginRefused),
    (0x020A, errno.ENXIO, LoginRefused),
    (0x020B, errno.EPROTO, LoginRefused),
    (0x02EE, errno.ENXIO, LoginRefused),
    (0x0300, errno.EBUSY, LoginRefused),
    (0x0301, errno.EBUSY, LoginRefused),
    (0x0302, errno.EBUSY, LoginRefused),
    (0x03EE, errno.EBUSY, LoginRefused),
    (0x01EE, errno.ENXIO, LoginRefused),
    (0x7700, errno.ENXIO, LoginRefused),
]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in the operational stage"])
@pytest.mark.parametrize(("status", "number", "error"), REFUSALS, ids=[f"{status:04x}" for status, _, _ in REFUSALS])
def test_every_refusal_has_its_errno(status: int, number: int, error: type[LoginRefused], late: bool) -> None:
    def script(talk: Talk) -> None:
        request, _ = talk.login_request()
        if late:
            talk.login_response(request, [("AuthMethod", "None")], transit=True, nsg=OPERATIONAL)
            request, _ = talk.login_request()
        talk.login_response(request, status_class=status >> 8, status_detail=status & 0xFF)
        assert talk.until_closed() == []

    with playing(script) as peer:
        with pytest.raises(LoginRefused) as caught:
            swd.connect(str(peer.portal), NAME)
        assert type(caught.value) is error
        assert caught.value.errno == number
        assert (caught.value.status_class, caught.value.status_detail) == (status >> 8, status & 0xFF)
        assert f"0x{status:04x}" in str(caught.value)


def test_a_name_that_the_target_lacks() -> None:
    with TargetServer([TargetConfig(NAME)]) as server:
        with pytest.raises(LoginRefused) as caught:
            swd.connect(str(server.portal), "iqn.2026-01.org.example:unknown")
        assert caught.value.errno == errno.ENXIO
        assert server.statistics["login_failures"] == 1


def nothing(talk: Talk) -> None:
    """Not a word."""


def request_only(talk: Talk) -> None:
    talk.login_request()


def security_only(talk: Talk) -> None:
    request, _ = talk.login_request()
    talk.login_response(request, [("AuthMethod", "None")], transit=True, nsg=OPERATIONAL)
    talk.login_request()


def half_a_header(talk: Talk) -> None:
    talk.login_request()
    talk.sock.sendall(b"\x23\x87" + bytes(20))


def half_a_text(talk: Talk) -> None:
    talk.login_request()
    header = bytearray(48)
    header[0], header[1], header[7] = Opcode.LOGIN_RESPONSE, 0x81, 200
    talk.sock.sendall(bytes(header) + b"AuthMethod=No")


MOMENTS = [nothing, request_only, security_only, half_a_header, half_a_text]


@pytest.mark.parametrize("so_far", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_target_that_closes_in_mid_login(so_far: Callable[[Talk], None]) -> None:
    with playing(so_far) as peer:
        started = time.monotonic()
        with pytest.raises(NoSuchDevice) as caught:
            swd.connect(str(peer.portal), NAME)
        assert time.monotonic() - started < SLACK
        assert caught.value.errno == errno.ENXIO
        assert str(peer.portal) in str(caught.value)


@pytest.mark.parametrize("so_far", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_target_that_falls_silent_in_mid_login(so_far: Callable[[Talk], None]) -> None:
    def script(talk: Talk) -> None:
        so_far(talk)
        talk.until_closed()

    with playing(script) as peer:
        started = time.monotonic()
        with pytest.raises(NoSuchDevice, match=r"silent for 0\.3 s") as caught:
            swd.connect(str(peer.portal), NAME, login_timeout=PATIENCE)
        assert PATIENCE <= time.monotonic() - started < PATIENCE + SLACK
        assert caught.value.errno == errno.ENXIO


def test_a_target_that_drips_is_given_up_at_the_same_time() -> None:
    """Each byte is progress, and none of it counts."""

    def script(talk: Talk) -> None:
        talk.login_request()
        talk.sock.settimeout(0.05)
        while True:
            talk.sock.sendall(b"\x23")
            try:
                if not talk.sock.recv(1):
                    return
            except TimeoutError:
                continue

    with playing(script) as peer:
        started = time.monotonic()
        with pytest.raises(SwdError) as caught:
            swd.connect(str(peer.portal), NAME, login_timeout=PATIENCE)
        assert time.monotonic() - started < PATIENCE + SLACK
        assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64), b"SSH-2.0-OpenSSH_9.2p1\r\n" + bytes(64), b"\xff" * 256],
    ids=["HTTP", "SSH", "noise"],
)
def test_what_is_no_target(greeting: bytes) -> None:
    def script(talk: Talk) -> None:
        talk.login_request()
        talk.sock.sendall(greeting)
        talk.until_closed()

    with playing(script) as peer, pytest.raises(ProtocolViolation) as caught:
        swd.connect(str(peer.portal), NAME)
    assert caught.value.errno == errno.EPROTO


def test_a_login_that_never_ends_is_given_up() -> None:
    def script(talk: Talk) -> int:
        rounds = 0
        try:
            while True:
                request, _ = talk.login_request()
                talk.login_response(request)
                rounds += 1
        finally:
            assert rounds < 40

    with playing(script) as peer, pytest.raises(ProtocolViolation, match="rounds"):
        swd.connect(str(peer.portal), NAME)


@pytest.mark.parametrize(
    ("method", "fields", "error"),
    [
        ("None", {}, AuthenticationFailed),
        ("Reject", {}, AuthenticationFailed),
        ("CHAP", {"transit": True, "nsg": OPERATIONAL}, ProtocolViolation),
        ("None", {"transit": True, "nsg": FULL_FEATURE}, ProtocolViolation),
    ],
)
def test_no_login_goes_on_without_the_authentication_that_was_asked_for(
    method: str, fields: dict[str, int], error: type[SwdError]
) -> None:
    def script(talk: Talk) -> None:
        request, asked = talk.login_request()
        assert asked["AuthMethod"] == "CHAP"
        talk.login_response(request, [("AuthMethod", method)], **fields)
        assert talk.until_closed() == []

    with playing(script) as peer, pytest.raises(error):
        swd.connect(str(peer.portal), NAME, chap=swd.Chap("user", "a-secret-of-16by"))


def test_a_host_that_does_not_resolve() -> None:
    with pytest.raises(NoSuchDevice, match="does not resolve") as caught:
        swd.connect("no-such-host.invalid", NAME)
    assert caught.value.errno == errno.ENXIO


def test_a_port_that_refuses() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NoSuchDevice, match="refused") as caught:
            swd.connect(f"127.0.0.1:{taken.getsockname()[1]}", NAME)
    assert caught.value.errno == errno.ENXIO
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_port_that_never_answers() -> None:
    """A full backlog drops connection requests, as a firewall does."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(deaf.getsockname())
        started = time.monotonic()
        with pytest.raises(NoSuchDevice, match="cannot be reached") as caught:
            swd.connect(f"127.0.0.1:{deaf.getsockname()[1]}", NAME, login_timeout=PATIENCE)
        assert time.monotonic() - started < PATIENCE + SLACK
        assert caught.value.errno == errno.ENXIO
