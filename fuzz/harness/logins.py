# SPDX-License-Identifier: Apache-2.0
"""Both sides of a login before a peer that says anything at any time.

The peer here does not know a secret, so that no login which needs one may ever succeed.
"""

from __future__ import annotations

from dataclasses import replace

from harness.choices import Choices
from swd.errors import AuthenticationFailed, LoginRefused, ProtocolViolation
from swd.proto import chap, keys, pdu, text
from swd.proto.login import MAX_EXCHANGES, LoginConfig, LoginMachine, Redirect
from swd.proto.options import Options
from swd.target.config import TargetConfig
from swd.target.login import TargetLogin
from swd.values import Chap, Negotiated

ISID = b"\x80\x12\x34\x56\0\1"
INITIATOR, TARGET = "iqn.2026-01.org.example:host", "iqn.2026-01.org.example:disk"
CHALLENGE = bytes(range(32))
MUTUAL = Chap("me", b"s" * 16, target_user="you", target_secret=b"t" * 16)
ONE_WAY = Chap("me", b"s" * 16)

CONFIGS = tuple(
    LoginConfig(INITIATOR, target, ISID, Options(**options), credentials)  # type: ignore[arg-type]
    for target, options, credentials in (
        (TARGET, {}, None),
        (None, {}, None),
        (TARGET, {"auth": "chap"}, ONE_WAY),
        (TARGET, {"auth": "require"}, MUTUAL),
        (None, {"auth": "chap"}, MUTUAL),
        (TARGET, {"header_digest": ("crc32c",), "data_digest": ("crc32c", "none"), "max_burst_length": 65536}, None),
    )
)
WORDS = (
    *("Yes", "No", "None", "CRC32C", "CHAP", "CHAP,None", "Reject", "Irrelevant", "NotUnderstood", "0", "1", "5", "7"),
    *("512", "8192", "65536", "16777215", "16777216", "0x200", "Discovery", "Normal", INITIATOR, TARGET, "All", ""),
    *("192.0.2.9:3260,1", "[2001:db8::1]:3261", "0x" + "ab" * 16, "0x" + "ab" * 20, "0b" + "QUJD", "None,CRC32C"),
    chap.encode(CHALLENGE),
    chap.encode(chap.response("md5", 1, b"s" * 16, CHALLENGE)),
)


def some_text(choices: Choices) -> bytes:
    """Pairs of known keys and likely values, or whatever the input says."""
    if choices.byte() < 32:
        return choices.some(choices.byte())
    made = b""
    for _ in range(choices.byte() % 8):
        key = choices.pick(keys.TABLE).name.encode()
        value = choices.pick(WORDS).encode() if choices.byte() < 200 else choices.some(choices.byte() % 24)
        made += key + b"=" + value + b"\0"
    return made


def bent(header: bytes, choices: Choices) -> bytes:
    """The header with up to three of its bytes changed."""
    made = bytearray(header)
    for _ in range(max(0, choices.byte() - 200) % 4):
        made[choices.byte() % 48] ^= choices.byte()
    return bytes(made)


def initiator(data: bytes) -> None:
    """The initiator's machine: it ends, and never in a session that it must not have."""
    choices = Choices(data)
    config = choices.pick(CONFIGS)
    machine = LoginMachine(config, chap_id=7, challenge=CHALLENGE)
    sent = machine.start()
    for stat_sn in range(MAX_EXCHANGES + 2):
        request = pdu.LoginRequest.unpack(sent[:48])
        assert request.data_segment_length == len(sent[48:].rstrip(b"\0")) + (sent[48:][-1:] == b"\0") or sent[48:]
        body = some_text(choices)
        answer = pdu.LoginResponse(
            transit=request.transit and choices.byte() < 240,
            csg=request.csg,
            nsg=request.nsg,
            isid=request.isid,
            tsih=9 if request.nsg == 3 else 0,
            itt=request.itt,
            stat_sn=stat_sn,
            exp_cmd_sn=1,
            max_cmd_sn=32,
            status_class=max(0, choices.byte() - 240),
            status_detail=choices.byte() % 12,
            data_segment_length=len(body),
        )
        try:
            step = machine.receive(bent(answer.pack(), choices), body)
        except (LoginRefused, AuthenticationFailed, ProtocolViolation):
            dead(machine)
            return
        if not isinstance(step, bytes):
            judge(config, step)
            dead(machine)
            return
        assert len(step) >= 48
        assert len(step) % 4 == 0
        sent = step
    raise AssertionError("a login without end")


def dead(machine: LoginMachine) -> None:
    """After its end a machine takes nothing more."""
    try:
        machine.receive(bytes(48), b"")
    except ProtocolViolation:
        return
    raise AssertionError("a machine that is dead went on")


def judge(config: LoginConfig, step: Redirect | Negotiated) -> None:
    if isinstance(step, Redirect):
        assert 1 <= step.portal.port <= 65535
        return
    assert step.auth != "chap-mutual", "a target without the secret has proved itself"
    assert step.auth == "chap" or config.auth != "require", "the login was to be authenticated"
    options = config.options
    assert 512 <= step.max_burst_length <= options.max_burst_length
    assert 512 <= step.first_burst_length <= step.max_burst_length
    assert 512 <= step.target_max_recv_data_segment_length < 1 << 24
    assert 1 <= step.max_outstanding_r2t <= options.max_outstanding_r2t
    assert step.header_digest or "none" in options.header_digest
    assert step.error_recovery_level == 0
    assert step.max_connections == 1
    assert step.tsih


class Catalogue:
    """What the target's side asks the server."""

    def __init__(self, config: TargetConfig) -> None:
        self.config = config

    def find(self, target_name: str | None) -> TargetConfig | None:
        return self.config if target_name in (None, TARGET) else None

    def session_exists(self, _identity: object, tsih: int) -> bool:
        return tsih == 9

    def new_tsih(self) -> int:
        return 1


TARGETS = (
    TargetConfig(TARGET),
    TargetConfig(TARGET, chap=MUTUAL, alias="x"),
    TargetConfig(TARGET, header_digest=("crc32c",), data_digest=("none",)),
)


def target(data: bytes) -> None:
    """The target's machine: it answers each request, and lets nobody in who does not know the secret."""
    choices = Choices(data)
    config = choices.pick(TARGETS)
    machine = TargetLogin(Catalogue(config), chap_id=7, challenge=CHALLENGE)
    stage = choices.byte() % 2
    request = pdu.LoginRequest(isid=ISID, itt=1, csg=stage, cmd_sn=1)
    for _ in range(40):
        body = some_text(choices)
        if choices.bit():
            body += f"InitiatorName={INITIATOR}\0TargetName={TARGET}\0SessionType=Normal\0".encode()
        onward = choices.byte() < 160
        asked = replace(request, transit=onward, nsg=3 if stage or choices.bit() else 1, csg=stage)
        header = bent(replace(asked, data_segment_length=len(body)).pack(), choices)
        try:
            header_read = pdu.LoginRequest.unpack(header)
        except ProtocolViolation:
            return
        step = machine.receive(header_read, body)
        pdu.LoginResponse.unpack(step.response.pack())
        assert not (step.agreed and step.refusal)
        if step.agreed is not None:
            assert config.chap is None, "let in without the secret"
            assert step.agreed.header_digest or "none" in config.header_digest
            assert 512 <= step.agreed.max_recv_data_segment_length < 1 << 24
            assert step.agreed.first_burst_length <= step.agreed.max_burst_length <= config.limits.max_burst_length
        if step.agreed is not None or step.refusal is not None:
            return
        stage = step.response.nsg if step.response.transit else stage
        text.decode(step.data, repeats=True)
