# SPDX-License-Identifier: Apache-2.0
"""Login: every field of every response is held against what was asked (RFC 7143 11.13), every value against its range
(chapter 13), on the first login and on those that follow a loss."""

from __future__ import annotations

import errno

import pytest
from hostile_rig import bounded, connect, refused
from target.script import SECURITY, TARGET, Connection, Peer
from target.wire import Op

from swd.errors import LoginRefused, NoSuchDevice, ProtocolViolation, SwdError

# Fields of the response of a stage -> words of the refusal.
SECURITY_STAGE: dict[str, tuple[dict[str, object], str]] = {
    "another-isid": ({"isid": 0x8000DEADBEEF}, "another ISID"),
    "another-tag": ({"itt": 7}, "another task tag"),
    "another-version": ({"version": 1}, "version that was not offered"),
    "of-the-operational-stage": ({"csg": 1}, "another stage"),
    "of-the-full-feature-stage": ({"csg": 3}, "another stage"),
    "of-the-reserved-stage": ({"csg": 2}, ""),
    "on-to-full-feature": ({"nsg": 3}, "goes to another stage"),
    "on-to-the-same-stage": ({"nsg": 0}, "goes to another stage"),
    "on-to-the-reserved-stage": ({"nsg": 2}, ""),
    "transit-and-continued": ({"continued": True}, "both T and C"),
    "another-tsih-later": ({"tsih": 9}, "another TSIH"),
    "additional-header": ({"ahs": 1}, "additional header"),
    "not-a-login-response": ({"opcode": Op.NOP_IN}, ""),
    "a-text-response": ({"opcode": Op.TEXT_RESPONSE}, ""),
    "a-scsi-response": ({"opcode": Op.RESPONSE}, ""),
    "an-initiator-opcode": ({"opcode": Op.LOGIN}, ""),
    "longer-than-login-allows": ({"length": 70000}, "70000 bytes"),
    "of-16-MiB": ({"length": 0xFFFFFF}, "16777215 bytes"),
}
OPERATIONAL_STAGE: dict[str, tuple[dict[str, object], str]] = {
    "statsn-repeated": ({"stat_sn": 0x7FFFFFFE}, "StatSN out of order"),
    "statsn-skipped": ({"stat_sn": 0x80000003}, "StatSN out of order"),
    "back-in-the-security-stage": ({"csg": 0}, "another stage"),
    "on-to-the-same-stage": ({"nsg": 1}, "goes to another stage"),
    "no-tsih": ({"tsih": 0}, "without a TSIH"),
    "window-that-ends-before-it-begins": ({"window": (10, 5)}, "ends before it begins"),
    "another-isid": ({"isid": 1}, "another ISID"),
    "another-version": ({"version": 0xFF}, "version that was not offered"),
}


@pytest.mark.parametrize("mistake", SECURITY_STAGE)
def test_a_wrong_field_in_the_security_stage(mistake: str) -> None:
    fields, words = SECURITY_STAGE[mistake]

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"AuthMethod": "None"}, **fields))  # type: ignore[arg-type]  # by name
        target.operational()

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, words):
        connect(peer)
    assert peer.connections == 1


@pytest.mark.parametrize("mistake", OPERATIONAL_STAGE)
def test_a_wrong_field_in_the_operational_stage(mistake: str) -> None:
    fields, words = OPERATIONAL_STAGE[mistake]

    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, target.answers(request), **{"tsih": 1, **fields}))  # type: ignore[arg-type]

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, words):
        connect(peer)


# What the target answers in the operational stage that must not be taken.
ANSWERS: dict[str, tuple[dict[str, str], str]] = {
    "mrdsl-below-512": ({"MaxRecvDataSegmentLength": "511"}, "not in 512"),
    "mrdsl-zero": ({"MaxRecvDataSegmentLength": "0"}, "not in 512"),
    "mrdsl-2^24": ({"MaxRecvDataSegmentLength": "16777216"}, "not in 512"),
    "mrdsl-2^32": ({"MaxRecvDataSegmentLength": "4294967808"}, "not in 512"),
    "mrdsl-negative": ({"MaxRecvDataSegmentLength": "-1"}, "not in 512"),
    "mrdsl-of-a-thousand-digits": ({"MaxRecvDataSegmentLength": "9" * 1000}, "not in 512"),
    "mrdsl-empty": ({"MaxRecvDataSegmentLength": ""}, "not in 512"),
    "mrdsl-a-list": ({"MaxRecvDataSegmentLength": "8192,4096"}, "not in 512"),
    "max-burst-zero": ({"MaxBurstLength": "0"}, "MaxBurstLength=0"),
    "max-burst-2^24": ({"MaxBurstLength": "16777216"}, "MaxBurstLength=16777216"),
    "first-burst-zero": ({"FirstBurstLength": "0"}, "FirstBurstLength=0"),
    "no-outstanding-r2t": ({"MaxOutstandingR2T": "0"}, "MaxOutstandingR2T=0"),
    "65536-outstanding-r2ts": ({"MaxOutstandingR2T": "65536"}, "MaxOutstandingR2T=65536"),
    "time2wait-of-two-hours": ({"DefaultTime2Wait": "7200"}, "DefaultTime2Wait=7200"),
    "time2retain-of-two-hours": ({"DefaultTime2Retain": "7200"}, "DefaultTime2Retain=7200"),
    "recovery-level-3": ({"ErrorRecoveryLevel": "3"}, "ErrorRecoveryLevel=3"),
    "no-connections": ({"MaxConnections": "0"}, "MaxConnections=0"),
    "a-boolean-that-is-maybe": ({"InitialR2T": "Maybe"}, "neither Yes nor No"),
    "a-boolean-in-small-letters": ({"ImmediateData": "yes"}, "neither Yes nor No"),
    "a-digest-that-was-not-offered": ({"HeaderDigest": "MD5"}, "not offered"),
    "both-digests-at-once": ({"DataDigest": "None,CRC32C"}, "not offered"),
    "portal-group-beyond-16-bits": ({"TargetPortalGroupTag": "65536"}, "not in 0"),
    "a-security-key": ({"AuthMethod": "None"}, "AuthMethod twice"),
    "a-key-of-chap": ({"CHAP_N": "target"}, "operational stage"),
    "sendtargets-in-login": ({"SendTargets": "All"}, "operational stage"),
}


@pytest.mark.parametrize("mistake", ANSWERS)
def test_a_value_that_cannot_be(mistake: str) -> None:
    answers, words = ANSWERS[mistake]

    def script(target: Connection) -> None:
        target.login(**answers)

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, words):
        connect(peer)


@pytest.mark.parametrize("answer", ["None", "Reject", "Irrelevant", "NotUnderstood", None])
@pytest.mark.parametrize("digest", ["HeaderDigest", "DataDigest"])
def test_a_required_digest_that_is_not_granted(digest: str, answer: str | None) -> None:
    option = {"HeaderDigest": "header_digest", "DataDigest": "data_digest"}[digest]

    def script(target: Connection) -> None:
        target.login(**{digest: answer})

    with Peer(script) as peer, refused(LoginRefused, errno.EOPNOTSUPP, f"denies {digest}=CRC32C"):
        connect(peer, **{option: "crc32c!"})


def test_no_answer_to_a_digest_offer_means_none() -> None:
    def script(target: Connection) -> None:
        target.login(HeaderDigest=None, DataDigest=None)

    with bounded(), Peer(script) as peer, connect(peer) as session:
        assert not session.parameters.header_digest
        assert not session.parameters.data_digest


def test_a_target_cannot_widen_what_was_offered() -> None:
    wide = {"MaxBurstLength": "16777215", "FirstBurstLength": "16777215", "MaxOutstandingR2T": "65535"}

    def script(target: Connection) -> None:
        target.login(**wide, InitialR2T="No", ImmediateData="Yes", ErrorRecoveryLevel="2", MaxConnections="8")

    options = {"max_burst_length": 65536, "first_burst_length": 4096, "max_outstanding_r2t": 2, "initial_r2t": True}
    with bounded(), Peer(script) as peer, connect(peer, **options, immediate_data=False) as session:
        agreed = session.parameters
    assert (agreed.max_burst_length, agreed.first_burst_length, agreed.max_outstanding_r2t) == (65536, 4096, 2)
    assert agreed.initial_r2t
    assert not agreed.immediate_data
    assert (agreed.error_recovery_level, agreed.max_connections) == (0, 1)


def test_an_unknown_key_is_not_understood_and_harmless() -> None:
    replies: list[str] = []

    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        unknown = {"X-org.example.odd": "1", "NoSuchKey": "yes"}
        target.send(target.login_response(request, {**target.answers(request), **unknown}, transit=False))
        request = target.expect(Op.LOGIN)
        replies.extend(f"{key}={value}" for key, value in request.keys.items())
        target.send(target.login_response(request, tsih=1))

    with bounded(), Peer(script) as peer, connect(peer):
        pass
    assert sorted(replies) == ["NoSuchKey=NotUnderstood", "X-org.example.odd=NotUnderstood"]


# Status class and detail -> errno (RFC 7143 11.13.5).
REFUSALS = {
    "initiator-error": (0x0200, errno.EPROTO),
    "authentication-failed": (0x0201, errno.EACCES),
    "not-authorized": (0x0202, errno.EACCES),
    "no-such-target": (0x0203, errno.ENXIO),
    "target-removed": (0x0204, errno.ENODEV),
    "another-version": (0x0205, errno.EOPNOTSUPP),
    "too-many-connections": (0x0206, errno.EBUSY),
    "key-missing": (0x0207, errno.EPROTO),
    "no-such-session": (0x020A, errno.ENXIO),
    "target-error": (0x0300, errno.EBUSY),
    "not-in-service": (0x0301, errno.EBUSY),
    "out-of-resources": (0x0302, errno.EBUSY),
    "unknown-detail": (0x02EE, errno.ENXIO),
    "unknown-class": (0x7700, errno.ENXIO),
    "redirection-of-no-known-kind": (0x0103, errno.ENXIO),
}


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("stage", ["security", "operational"])
def test_a_refusal(status: str, stage: str) -> None:
    code, number = REFUSALS[status]

    def script(target: Connection) -> None:
        if stage == "operational":
            target.security()
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, transit=False, status=code))

    with Peer(script) as peer, bounded(), pytest.raises(LoginRefused) as caught:
        connect(peer)
    assert caught.value.errno == number
    assert caught.value.status_class << 8 | caught.value.status_detail == code


def test_a_login_that_is_rejected() -> None:
    def script(target: Connection) -> None:
        target.expect(Op.LOGIN)
        target.send(target.reject(0x04))

    with Peer(script) as peer, refused(LoginRefused, errno.EPROTO, "rejected the login"):
        connect(peer)


def cut_short(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "None"})[:30])
    target.close()


def cut_in_the_text(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "None"})[:55])
    target.close()


def nothing_but_the_end(target: Connection) -> None:
    target.close()


def not_iscsi(target: Connection) -> None:
    target.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


ENDS = {
    "closed-at-once": (nothing_but_the_end, NoSuchDevice, errno.ENXIO),
    "closed-in-a-header": (cut_short, NoSuchDevice, errno.ENXIO),
    "closed-in-a-text": (cut_in_the_text, NoSuchDevice, errno.ENXIO),
    "a-web-server": (not_iscsi, ProtocolViolation, errno.EPROTO),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_login_that_breaks_off(end: str) -> None:
    script, kind, number = ENDS[end]
    expected: type[SwdError] = kind
    with Peer(script) as peer, refused(expected, number):
        connect(peer)


def test_the_security_stage_always_comes_first() -> None:
    """What the peer sees: our names and stages, and no parameter before the stage for it."""

    def script(target: Connection) -> None:
        target.login()

    with bounded(), Peer(script) as peer, connect(peer):
        pass
    first, second = peer.of(Op.LOGIN)
    assert first.stages[0] == SECURITY
    assert first.keys["TargetName"] == TARGET
    assert set(first.keys) == {"InitiatorName", "TargetName", "SessionType", "AuthMethod"}
    assert "HeaderDigest" in second.keys
    assert first.lun == second.lun  # ISID, and TSIH 0
    assert first.lun & 0xFFFF == 0
