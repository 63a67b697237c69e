# SPDX-License-Identifier: Apache-2.0
"""The login machine against a target written out by hand: raw text in, raw text out, one mistake at a time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import AuthenticationFailed, InvalidArgument, LoginRefused, ProtocolViolation, SwdError
from swd.proto import chap, pdu
from swd.proto.login import MAX_EXCHANGES, LoginConfig, LoginMachine, Redirect
from swd.proto.options import Options, read
from swd.values import Chap, Negotiated, Portal

ME, DISK = "iqn.2026-01.org.example:me", "iqn.2026-01.org.example:disk"
ISID = b"\x80\1\2\3\4\5"
ONE_WAY = Chap("me", "initiator-secret")
MUTUAL = Chap("me", "initiator-secret", target_user="disk", target_secret="the-target-secret")
CHALLENGE = b"0123456789abcdef"
SECURITY, OPERATIONAL, FULL = 0, 1, 3

ANSWERS = (
    b"HeaderDigest=CRC32C\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=262144\0"
    b"FirstBurstLength=65536\0MaxOutstandingR2T=4\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0"
    b"DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0MaxRecvDataSegmentLength=65536\0"
)


def config(**changes: object) -> LoginConfig:
    return replace(LoginConfig(ME, DISK, ISID), **changes)  # type: ignore[arg-type]


class Script:
    """Drives a machine: `says` hands it one response and keeps the request that it sends next."""

    def __init__(self, settings: LoginConfig | None = None) -> None:
        self.machine = LoginMachine(settings or config(), chap_id=9, challenge=CHALLENGE)
        self.stat_sn = 0xFFFFFFFF  # so that every login here runs over the wrap
        self.read(self.machine.start())

    def read(self, sent: bytes) -> None:
        self.asked = pdu.LoginRequest.unpack(sent[:48])
        self.text = sent[48 : 48 + self.asked.data_segment_length]
        assert len(sent) == 48 + (len(self.text) + 3) // 4 * 4

    @property
    def keys(self) -> dict[str, str]:
        return dict(item.split("=", 1) for item in self.text.decode().split("\0")[:-1])

    def response(self, data: bytes = b"", transit: bool | None = None, **fields: object) -> pdu.LoginResponse:
        leaving = self.asked.transit if transit is None else transit
        last = leaving and self.asked.nsg == FULL
        sound = pdu.LoginResponse(
            transit=leaving,
            csg=self.asked.csg,
            nsg=self.asked.nsg if leaving else 0,
            isid=ISID,
            tsih=77 if last else 0,
            itt=self.asked.itt,
            stat_sn=self.stat_sn,
            exp_cmd_sn=1,
            max_cmd_sn=32,
            data_segment_length=len(data),
        )
        return replace(sound, **fields)  # type: ignore[arg-type]

    def says(self, data: bytes = b"", transit: bool | None = None, **fields: object) -> object:
        step = self.machine.receive(self.response(data, transit, **fields).pack(), data)
        self.stat_sn = (self.stat_sn + 1) % 2**32
        if isinstance(step, bytes):
            self.read(step)
        return step


def operational(settings: LoginConfig | None = None) -> Script:
    """A login that has just come to the operational stage."""
    script = Script(settings)
    script.says(b"TargetPortalGroupTag=1\0AuthMethod=None\0")
    assert script.asked.csg == OPERATIONAL
    return script


def test_a_plain_login_takes_two_round_trips() -> None:
    script = Script()
    assert (script.asked.csg, script.asked.nsg, script.asked.transit) == (SECURITY, OPERATIONAL, True)
    assert (script.asked.isid, script.asked.tsih, script.asked.immediate) == (ISID, 0, True)
    assert script.text == f"InitiatorName={ME}\0TargetName={DISK}\0SessionType=Normal\0AuthMethod=None\0".encode()
    script.says(b"TargetPortalGroupTag=1\0TargetAlias=a disk\0AuthMethod=None\0")
    assert (script.asked.csg, script.asked.nsg, script.asked.transit) == (OPERATIONAL, FULL, True)
    assert script.asked.exp_stat_sn == 0  # after 0xFFFFFFFF
    assert script.keys["MaxRecvDataSegmentLength"] == "1048576"
    assert script.says(ANSWERS) == Negotiated(
        initiator_name=ME,
        target_name=DISK,
        isid=ISID,
        tsih=77,
        exp_stat_sn=1,
        max_cmd_sn=32,
        target_portal_group_tag=1,
        target_alias="a disk",
        header_digest=True,
        max_recv_data_segment_length=1048576,
        target_max_recv_data_segment_length=65536,
        initial_r2t=False,
        max_outstanding_r2t=4,
        default_time2retain=0,
    )


def test_a_discovery_session_names_no_target() -> None:
    script = Script(config(target_name=None))
    assert script.text == f"InitiatorName={ME}\0SessionType=Discovery\0AuthMethod=None\0".encode()
    script.says(b"AuthMethod=None\0")
    done = script.says(b"HeaderDigest=None\0DataDigest=None\0")
    assert isinstance(done, Negotiated)
    assert (done.session_type, done.target_name, done.target_portal_group_tag) == ("Discovery", "", None)


def test_a_target_may_take_its_time_in_each_stage() -> None:
    script = Script()
    script.says(b"AuthMethod=None\0", transit=False)
    assert (script.asked.csg, script.asked.transit, script.text) == (SECURITY, True, b"")
    script.says()
    script.says(b"X-odd=1\0HeaderDigest=None\0", transit=False)
    assert (script.asked.csg, script.asked.transit, script.text) == (OPERATIONAL, True, b"X-odd=NotUnderstood\0")
    script.says(b"InitialR2T=No\0", transit=False)
    done = script.says()
    assert isinstance(done, Negotiated)
    assert done.initial_r2t is False


def test_a_question_in_the_last_security_answer_is_answered_in_the_next_stage() -> None:
    script = Script()
    script.says(b"AuthMethod=None\0X-odd=1\0")
    assert script.keys["X-odd"] == "NotUnderstood"


def test_a_target_that_stays_silent_about_authentication_is_let_in_where_none_is_wanted() -> None:
    script = Script()
    script.says()
    done = script.says(ANSWERS)
    assert isinstance(done, Negotiated)
    assert done.auth == "none"


# --- split text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [17, 40, 100, len(ANSWERS) - 1])
def test_a_text_of_the_target_may_come_in_pieces(size: int) -> None:
    script = operational()
    *pieces, last = [ANSWERS[start : start + size] for start in range(0, len(ANSWERS), size)]
    for piece in pieces:
        script.says(piece, transit=False, continued=True)
        assert (script.text, script.asked.transit, script.asked.continued) == (b"", False, False)
    script.says(last, transit=False)
    done = script.says()
    assert isinstance(done, Negotiated)
    assert done.header_digest
    assert done.max_outstanding_r2t == 4


def split_offers() -> Script:
    """The target takes 512 bytes at most, and a question of its own makes our next text longer than that."""
    script = Script()
    script.says(b"AuthMethod=None\0MaxRecvDataSegmentLength=512\0" + b"".join(b"X-%d=1\0" % n for n in range(20)))
    assert (len(script.text), script.asked.continued, script.asked.transit) == (512, True, False)
    return script


def test_our_text_goes_out_in_pieces_that_the_target_can_take() -> None:
    script = split_offers()
    whole = script.text
    while script.asked.continued:
        assert script.asked.csg == OPERATIONAL
        script.says()
        assert 0 < len(script.text) <= 512
        whole += script.text
    assert script.asked.transit
    assert whole.endswith(b"ErrorRecoveryLevel=0\0")
    assert whole.count(b"=NotUnderstood\0") == 20
    assert isinstance(script.says(ANSWERS[: -len(b"MaxRecvDataSegmentLength=65536\0")]), Negotiated)


@pytest.mark.parametrize("answer", [{"data": b"X-a=1\0"}, {"transit": True}, {"continued": True}])
def test_nothing_cuts_into_our_text(answer: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation):
        split_offers().says(**answer)  # type: ignore[arg-type]


def test_a_text_that_never_ends_is_cut_off() -> None:
    script = operational()
    with pytest.raises(ProtocolViolation, match="draws the login out"):
        for _ in range(MAX_EXCHANGES + 1):
            script.says(b"X", transit=False, continued=True)
    script = operational()
    with pytest.raises(ProtocolViolation, match="longer than 65536"):
        for _ in range(MAX_EXCHANGES + 1):
            script.says(b"X" * 8192, transit=False, continued=True)


def test_a_login_that_never_ends_is_cut_off() -> None:
    script = Script()
    with pytest.raises(ProtocolViolation, match=f"{MAX_EXCHANGES} rounds"):
        for _ in range(MAX_EXCHANGES + 1):
            script.says(transit=False)
    assert script.stat_sn < MAX_EXCHANGES


# --- CHAP ----------------------------------------------------------------------------------------------------------

PUZZLE = b"fedcba9876543210"


def challenged(settings: LoginConfig) -> Script:
    script = Script(settings)
    assert script.keys["AuthMethod"] == ("CHAP,None" if settings.auth == "chap" else "CHAP")
    assert not script.asked.transit
    script.says(b"AuthMethod=CHAP\0TargetPortalGroupTag=1\0")
    assert script.text == b"CHAP_A=8,6,5,7\0"
    script.says(b"CHAP_A=7\0CHAP_I=17\0CHAP_C=0x" + PUZZLE.hex().encode() + b"\0")
    assert script.asked.transit
    return script


def proof(script: Script, secret: bytes = b"the-target-secret", name: str = "disk") -> bytes:
    theirs = chap.decode(script.keys["CHAP_C"])
    answer = chap.response("sha256", int(script.keys["CHAP_I"]), secret, theirs)
    return f"CHAP_N={name}\0CHAP_R=0x{answer.hex()}\0".encode()


def test_one_way_chap() -> None:
    script = challenged(config(chap=ONE_WAY))
    assert script.keys == {"CHAP_N": "me", "CHAP_R": chap.encode(chap.response("sha256", 17, ONE_WAY.secret, PUZZLE))}
    script.says()
    done = script.says(ANSWERS)
    assert isinstance(done, Negotiated)
    assert (done.auth, done.chap_algorithm, done.target_portal_group_tag) == ("chap", "sha256", 1)


def test_mutual_chap() -> None:
    script = challenged(config(chap=MUTUAL))
    assert script.keys["CHAP_C"] == chap.encode(CHALLENGE)
    script.says(proof(script))
    done = script.says(ANSWERS)
    assert isinstance(done, Negotiated)
    assert done.auth == "chap-mutual"


def test_the_proof_may_come_a_round_before_the_stage_ends() -> None:
    script = challenged(config(chap=MUTUAL))
    script.says(proof(script), transit=False)
    assert (script.asked.csg, script.asked.transit, script.text) == (SECURITY, True, b"")
    script.says()
    assert script.asked.csg == OPERATIONAL


@pytest.mark.parametrize(
    "answer",
    [
        lambda script: b"",
        lambda script: proof(script, b"another-secret-x"),
        lambda script: proof(script, name="other"),
        lambda script: proof(script).split(b"\0")[0] + b"\0",
        lambda script: b"CHAP_N=disk\0CHAP_R=" + script.keys["CHAP_R"].encode() + b"\0",
    ],
    ids=["silence", "secret", "name", "half", "reflected"],
)
@pytest.mark.parametrize("transit", [True, False])
def test_a_target_that_does_not_prove_itself_gets_no_further(answer: Callable[[Script], bytes], transit: bool) -> None:
    script = challenged(config(chap=MUTUAL))
    with pytest.raises(AuthenticationFailed) as caught:
        script.says(answer(script), transit=transit)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("answer", [b"AuthMethod=None\0", b"AuthMethod=Reject\0", b"AuthMethod=SRP\0", b""])
@pytest.mark.parametrize("credentials", [ONE_WAY, MUTUAL])
def test_with_credentials_nothing_but_chap_will_do(credentials: Chap, answer: bytes) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        Script(config(chap=credentials)).says(answer)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("credentials", [ONE_WAY, MUTUAL])
@pytest.mark.parametrize("fields", [{"transit": True, "nsg": OPERATIONAL}, {"transit": True, "nsg": FULL, "tsih": 77}])
@pytest.mark.parametrize("answer", [b"AuthMethod=CHAP\0", b"AuthMethod=None\0", b""])
def test_the_target_cannot_jump_over_chap(credentials: Chap, fields: dict[str, object], answer: bytes) -> None:
    script = Script(config(chap=credentials))
    with pytest.raises(SwdError):
        script.says(answer, **fields)  # type: ignore[arg-type]
    script = Script(config(chap=credentials))
    script.says(b"AuthMethod=CHAP\0")
    with pytest.raises(SwdError):
        script.says(b"", **fields)  # type: ignore[arg-type]


def test_chap_where_the_target_wants_it() -> None:
    settings = config(chap=ONE_WAY, options=read({"auth": "chap"}))
    assert challenged(settings).keys["CHAP_N"] == "me"
    script = Script(settings)
    script.says(b"AuthMethod=None\0")
    script.says()
    done = script.says(ANSWERS)
    assert isinstance(done, Negotiated)
    assert done.auth == "none"


def test_a_target_that_insists_without_credentials() -> None:
    with pytest.raises(AuthenticationFailed, match="give a user and a secret"):
        Script().says(b"AuthMethod=CHAP\0", transit=False)


def test_credentials_are_left_alone_where_none_is_configured() -> None:
    script = Script(config(chap=ONE_WAY, options=read({"auth": "none"})))
    assert script.keys["AuthMethod"] == "None"
    with pytest.raises(AuthenticationFailed):
        script.says(b"AuthMethod=CHAP\0", transit=False)


# --- every field of a response -------------------------------------------------------------------------------------

WRONG: list[dict[str, object]] = [
    {"version_active": 1},
    {"isid": b"\x80\1\2\3\4\6"},
    {"csg": 1},
    {"csg": 3},
    {"nsg": 0},
    {"nsg": 2},
    {"nsg": 3},
    {"continued": True},
    {"itt": 1},
    {"itt": 0xFFFFFFFF},
    {"total_ahs_length": 1},
    {"data_segment_length": 1},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_a_field_that_is_wrong_in_the_first_response(fields: dict[str, object]) -> None:
    script = Script()
    with pytest.raises(ProtocolViolation) as caught:
        script.says(b"AuthMethod=None\0", **fields)  # type: ignore[arg-type]
    assert caught.value.clause
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize(
    "fields",
    [
        {"stat_sn": 0xFFFFFFFF},
        {"stat_sn": 1},
        {"isid": bytes(6)},
        {"csg": 0},
        {"nsg": 1},
        {"nsg": 0},
        {"tsih": 0},
        {"version_active": 2},
        {"exp_cmd_sn": 5, "max_cmd_sn": 3},
    ],
    ids=str,
)
def test_a_field_that_is_wrong_in_the_last_response(fields: dict[str, object]) -> None:
    script = operational()
    with pytest.raises(ProtocolViolation):
        script.says(ANSWERS, **fields)  # type: ignore[arg-type]


def test_a_tsih_that_comes_early_must_stay() -> None:
    script = Script()
    script.says(b"AuthMethod=None\0", tsih=77)
    assert isinstance(script.says(ANSWERS), Negotiated)
    script = Script()
    script.says(b"AuthMethod=None\0", tsih=78)
    with pytest.raises(ProtocolViolation, match="TSIH"):
        script.says(ANSWERS)
    with pytest.raises(ProtocolViolation, match="TSIH"):
        Script(config(tsih=5)).says(b"AuthMethod=None\0", tsih=6)


def test_a_stage_is_not_left_unasked() -> None:
    script = Script(config(chap=ONE_WAY))
    with pytest.raises(ProtocolViolation, match="unasked"):
        script.says(b"AuthMethod=CHAP\0", transit=True, nsg=OPERATIONAL)


def test_a_target_that_counts_login_requests_is_met_where_it_is() -> None:
    done = operational().says(ANSWERS, exp_cmd_sn=3, max_cmd_sn=40)
    assert isinstance(done, Negotiated)
    assert (done.cmd_sn, done.max_cmd_sn) == (3, 40)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HeaderDigest", ProtocolViolation),
        (b"HeaderDigest=None\0HeaderDigest=None\0", ProtocolViolation),
        (b"MaxBurstLength=1\0", ProtocolViolation),
        (b"AuthMethod=None\0", ProtocolViolation),
        (b"DataDigest=SHA\0", ProtocolViolation),
    ],
)
def test_bad_text_in_the_operational_stage(data: bytes, error: type[SwdError]) -> None:
    with pytest.raises(error):
        operational().says(data)


def test_a_required_digest_that_is_denied() -> None:
    script = operational(config(options=read({"data_digest": "crc32c!"})))
    assert script.keys["DataDigest"] == "CRC32C"
    with pytest.raises(LoginRefused, match="DataDigest=CRC32C, which is required"):
        script.says(ANSWERS)


# --- refusals and redirects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "number", "error"),
    [
        ((2, 0), errno.EPROTO, LoginRefused),
        ((2, 1), errno.EACCES, AuthenticationFailed),
        ((2, 2), errno.EACCES, AuthenticationFailed),
        ((2, 3), errno.ENXIO, LoginRefused),
        ((2, 4), errno.ENODEV, LoginRefused),
        ((2, 6), errno.EBUSY, LoginRefused),
        ((2, 0x7F), errno.ENXIO, LoginRefused),
        ((3, 0), errno.EBUSY, LoginRefused),
        ((3, 1), errno.EBUSY, LoginRefused),
        ((3, 2), errno.EBUSY, LoginRefused),
        ((3, 9), errno.EBUSY, LoginRefused),
        ((1, 9), errno.ENXIO, LoginRefused),
        ((9, 9), errno.ENXIO, LoginRefused),
    ],
)
def test_a_status_becomes_an_errno_and_words(status: tuple[int, int], number: int, error: type[LoginRefused]) -> None:
    with pytest.raises(LoginRefused, match="login refused: ") as caught:
        Script().says(b"", transit=False, status_class=status[0], status_detail=status[1])
    assert type(caught.value) is error
    assert caught.value.errno == number
    assert (caught.value.status_class, caught.value.status_detail) == status


def test_a_rejected_login_pdu() -> None:
    script = Script()
    with pytest.raises(LoginRefused, match="reason 0x04"):
        script.machine.receive(pdu.Reject(reason=4).pack(), b"")


@pytest.mark.parametrize(("detail", "permanent"), [(1, False), (2, True)])
def test_a_redirect_gives_the_address(detail: int, permanent: bool) -> None:
    data = b"TargetName=iqn.2026-01.org.example:evil\0TargetAddress=[2001:db8::1]:3261,7\0"
    step = Script().says(data, transit=False, status_class=1, status_detail=detail)
    assert step == Redirect(Portal("2001:db8::1", 3261), permanent)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"X=1\0",
        b"TargetAddress=\0",
        b"TargetAddress=a b\0",
        b"TargetAddress=../x\0",
        b"TargetAddress=me:pw@host\0",
    ],
)
def test_a_redirect_to_nowhere(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Script().says(data, transit=False, status_class=1, status_detail=1)


# --- the machine itself --------------------------------------------------------------------------------------------


def test_after_an_error_or_the_end_the_machine_is_dead() -> None:
    script = Script()
    with pytest.raises(ProtocolViolation):
        script.says(b"AuthMethod=None\0", csg=1)
    with pytest.raises(ProtocolViolation, match="expects none"):
        script.says(b"AuthMethod=None\0")
    script = operational()
    script.says(ANSWERS)
    with pytest.raises(ProtocolViolation, match="expects none"):
        script.says(ANSWERS)


def test_the_verbs_come_in_their_order() -> None:
    machine = LoginMachine(config(), chap_id=0, challenge=CHALLENGE)
    with pytest.raises(ProtocolViolation):
        machine.receive(bytes(48), b"")
    machine.start()
    with pytest.raises(ValueError, match="once"):
        machine.start()


@pytest.mark.parametrize(("chap_id", "challenge"), [(256, CHALLENGE), (-1, CHALLENGE), (0, b"short"), (0, bytes(1025))])
def test_randomness_has_the_right_size(chap_id: int, challenge: bytes) -> None:
    with pytest.raises(ValueError, match="challenge"):
        LoginMachine(config(), chap_id=chap_id, challenge=challenge)


@pytest.mark.parametrize(
    "changes",
    [
        {"initiator_name": "me"},
        {"target_name": "disk"},
        {"target_name": ""},
        {"isid": b"12345"},
        {"chap": Chap("me", "short")},
        {"chap": Chap("me", "x" * 12, target_secret="x" * 12)},
        {"options": Options(auth="require")},
        {"options": Options(auth="chap")},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_work_is_refused_before_any_connection(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        config(**changes)


def test_short_secrets_have_to_be_asked_for() -> None:
    assert config(chap=Chap("me", "short"), options=read({"chap_short_secret": "yes"})).auth == "require"


HEADERS = st.binary(min_size=48, max_size=48) | st.builds(
    lambda flags, status, rest: bytes([0x23, flags, 0, 0]) + bytes(4) + ISID + rest[:22] + status + rest[22:32],
    st.integers(0, 255),
    st.sampled_from([b"\0\0", b"\1\1", b"\2\1", b"\3\2"]),
    st.binary(min_size=32, max_size=32),
)


@given(
    st.sampled_from([None, ONE_WAY, MUTUAL]),
    st.lists(st.tuples(HEADERS | st.binary(max_size=60), st.binary(max_size=40))),
)
def test_any_bytes_are_a_step_or_an_error_of_ours(
    credentials: Chap | None, received: list[tuple[bytes, bytes]]
) -> None:
    machine = LoginMachine(config(chap=credentials), chap_id=1, challenge=CHALLENGE)
    machine.start()
    for bhs, data in received:
        try:
            machine.receive(bhs, data)
        except SwdError:
            pass


TEXTS = st.lists(
    st.sampled_from(
        [b"AuthMethod=CHAP\0", b"AuthMethod=None\0", b"CHAP_A=5\0", b"CHAP_I=1\0", b"CHAP_C=0x0011\0", b"CHAP_N=disk\0",
         b"CHAP_R=0x" + b"00" * 16 + b"\0", b"HeaderDigest=None\0", b"X-a=1\0", b"MaxRecvDataSegmentLength=512\0", b"x"]
    ),
    max_size=5,
).map(b"".join)  # fmt: skip
ANSWER = st.tuples(TEXTS, st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 3), st.booleans())


@given(st.sampled_from([ONE_WAY, MUTUAL]), st.lists(ANSWER, min_size=1, max_size=8))
def test_no_sequence_of_answers_gets_in_without_the_proof(
    credentials: Chap, answers: list[tuple[bytes, bool, bool, int, int, bool]]
) -> None:
    script = Script(config(chap=credentials))
    for data, transit, continued, csg, nsg, sound in answers:
        fields = {} if sound else {"csg": csg, "nsg": nsg, "continued": continued}
        try:
            step = script.says(data, transit=transit and script.asked.transit, **fields)
        except SwdError:
            return
        # One-way CHAP proves us to the target: what must not happen is a session without our response having been sent.
        assert not isinstance(step, Negotiated) or step.auth == "chap"
        assert credentials is ONE_WAY or not isinstance(step, Negotiated)


# --- secrets -------------------------------------------------------------------------------------------------------


def test_no_secret_is_shown() -> None:
    loud = Chap("me", "SENTINEL-initiator", target_user="disk", target_secret="SENTINEL-the-target")
    settings = config(chap=loud)
    script = challenged(settings)
    shown = [repr(settings), str(settings), repr(settings.options), repr(script.machine), str(script.machine)]
    shown += [repr(script.asked), repr(script.machine.__dict__)]
    for answer in (b"", proof(script, b"wrong-secret-123"), proof(script, b"SENTINEL-the-target", "other")):
        failing = challenged(settings)
        with pytest.raises(SwdError) as caught:
            failing.says(answer)
        shown += [repr(caught.value), str(caught.value), str(caught.value.args), str(vars(caught.value))]
        shown += [repr(caught.value.__context__), repr(caught.value.__cause__)]
    for bad in (Chap("me", "SENTINEL"), Chap("me", "SENTINEL-12-bytes", target_secret="SENTINEL-12-bytes")):
        with pytest.raises(InvalidArgument) as refused:
            config(chap=bad)
        shown += [repr(refused.value), str(refused.value.args)]
    assert "SENTINEL" not in "".join(shown)
    assert b"SENTINEL" not in script.text
