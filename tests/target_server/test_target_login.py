# SPDX-License-Identifier: Apache-2.0
"""The target's login machine without a socket: what is agreed on, and each way to be refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_initiator import OPERATIONAL, pairs_of, text

from swd.proto.pdu import LoginRequest
from swd.target.config import Limits, TargetConfig
from swd.target.login import Step, TargetLogin
from swd.target.scsi.nexus import NexusId
from swd.values import Chap

NAME = "iqn.2026-01.org.example:login"
CHALLENGE = bytes(range(32))
WHO = [("InitiatorName", "iqn.2026-01.org.example:me"), ("TargetName", NAME), ("SessionType", "Normal")]
SECRETS = Chap("user", "a-secret-of-16by", target_user="disk", target_secret="another-of-16-by")
HASHES = {"5": "md5", "6": "sha1", "7": "sha256", "8": "sha3_256"}


class Server:
    """The catalogue of one target; TSIH 7 is alive."""

    def __init__(self, config: TargetConfig, discovery: TargetConfig) -> None:
        self.config, self.discovery = config, discovery

    def find(self, target_name: str | None) -> TargetConfig | None:
        return self.discovery if target_name is None else self.config if target_name == NAME else None

    def session_exists(self, identity: NexusId, tsih: int) -> bool:
        return tsih == 7

    def new_tsih(self) -> int:
        return 42


class Peer:
    """An initiator that makes requests for the machine; `step` says one thing and returns what came back."""

    def __init__(self, config: TargetConfig | None = None, discovery: TargetConfig | None = None) -> None:
        server = Server(config or TargetConfig(NAME), discovery or TargetConfig(""))
        self.machine = TargetLogin(server, chap_id=9, challenge=CHALLENGE)
        self.request = LoginRequest(isid=b"\x80\0\0\0\0\1", itt=5, cmd_sn=100)

    def step(self, pairs: Sequence[tuple[str, str]], csg: int, nsg: int | None, **fields: object) -> Step:
        request = replace(self.request, csg=csg, nsg=nsg or 0, transit=nsg is not None, **fields)  # type: ignore[arg-type]
        return self.machine.receive(request, text(pairs))

    def status(self, pairs: Sequence[tuple[str, str]], csg: int, nsg: int | None, **fields: object) -> int:
        step = self.step(pairs, csg, nsg, **fields)
        assert (step.refusal is not None) == (step.response.status_class != 0)
        return step.response.status_class << 8 | step.response.status_detail


def answers(step: Step) -> dict[str, str]:
    assert step.refusal is None, step.refusal
    return dict(pairs_of(step.data))


def test_a_whole_login() -> None:
    peer = Peer()
    first = peer.step([*WHO, ("AuthMethod", "CHAP,None")], 0, 1)
    assert answers(first) == {"AuthMethod": "None", "TargetPortalGroupTag": "1"}
    assert (first.response.transit, first.response.nsg, first.response.tsih, first.response.stat_sn) == (True, 1, 0, 0)
    last = peer.step(OPERATIONAL, 1, 3)
    assert answers(last)["MaxRecvDataSegmentLength"] == "1048576"
    assert (last.response.transit, last.response.nsg, last.response.tsih, last.response.stat_sn) == (True, 3, 42, 1)
    assert last.agreed is not None
    assert (last.agreed.cmd_sn, last.agreed.exp_stat_sn, last.agreed.tsih) == (100, 2, 42)
    assert (last.agreed.max_recv_data_segment_length, last.agreed.max_burst_length) == (65536, 262144)
    assert (last.agreed.initial_r2t, last.agreed.immediate_data, last.agreed.auth) == (False, True, "none")


def test_text_split_over_requests() -> None:
    peer = Peer()
    data = text([*WHO, ("AuthMethod", "None")])
    request = replace(peer.request, csg=0, nsg=0, continued=True)
    half = peer.machine.receive(request, data[:30])
    assert (half.data, half.response.transit, half.refusal) == (b"", False, None)
    whole = peer.machine.receive(replace(request, continued=False, transit=True, nsg=1), data[30:])
    assert answers(whole)["AuthMethod"] == "None"


LIMITS = Limits(
    max_recv_data_segment_length=4096,
    max_burst_length=8192,
    first_burst_length=2048,
    initial_r2t=True,
    immediate_data=False,
    max_outstanding_r2t=2,
)


def test_limits_hold_against_a_generous_offer() -> None:
    peer = Peer(TargetConfig(NAME, limits=LIMITS))
    peer.step(WHO, 0, 1)
    offer = [*OPERATIONAL, ("MaxOutstandingR2T", "16"), ("ErrorRecoveryLevel", "2"), ("MaxConnections", "8")]
    step = peer.step(offer, 1, 3)
    found = answers(step)
    assert (found["MaxBurstLength"], found["FirstBurstLength"], found["InitialR2T"]) == ("8192", "2048", "Yes")
    assert (found["ImmediateData"], found["MaxOutstandingR2T"]) == ("No", "2")
    assert (found["ErrorRecoveryLevel"], found["MaxConnections"], found["MaxRecvDataSegmentLength"]) == (
        "0",
        "1",
        "4096",
    )
    assert step.agreed is not None
    assert step.agreed.target_max_recv_data_segment_length == 4096


def test_what_the_initiator_leaves_open_is_asked_for() -> None:
    peer = Peer(TargetConfig(NAME, limits=LIMITS, header_digest=("crc32c",)))
    peer.step(WHO, 0, 1)
    asked = peer.step([], 1, 3)
    assert not asked.response.transit
    wanted = answers(asked)
    assert wanted["HeaderDigest"] == "CRC32C"
    assert (wanted["MaxBurstLength"], wanted["FirstBurstLength"], wanted["ImmediateData"]) == ("8192", "2048", "No")
    given = [(key, value) for key, value in wanted.items() if key != "MaxRecvDataSegmentLength"]
    step = peer.step(given, 1, 3)
    assert answers(step) == {}
    assert step.agreed is not None
    assert (step.agreed.max_burst_length, step.agreed.header_digest) == (8192, True)


def test_unknown_and_bad_keys() -> None:
    peer = Peer()
    peer.step(WHO, 0, 1)
    found = answers(peer.step([("X-com.example", "1"), ("MaxBurstLength", "7"), ("IFMarker", "No")], 1, None))
    assert (found["X-com.example"], found["MaxBurstLength"], found["IFMarker"]) == (
        "NotUnderstood", "Reject", "NotUnderstood",
    )  # fmt: skip


def test_discovery_leaves_out_what_means_nothing_there() -> None:
    peer = Peer()
    who = [("InitiatorName", "iqn.2026-01.org.example:me"), ("SessionType", "Discovery")]
    assert "TargetPortalGroupTag" not in answers(peer.step(who, 0, 1))
    step = peer.step([("ImmediateData", "Yes"), ("HeaderDigest", "CRC32C,None")], 1, 3)
    assert (answers(step)["ImmediateData"], answers(step)["HeaderDigest"]) == ("Irrelevant", "CRC32C")
    assert step.agreed is not None
    assert step.agreed.session_type == "Discovery"


# Digest policy

DIGEST_CASES = [
    (("none", "crc32c"), "CRC32C,None", "CRC32C"),
    (("none", "crc32c"), "None,CRC32C", "None"),
    (("none",), "CRC32C,None", "None"),
    (("crc32c",), "None,CRC32C", "CRC32C"),
    (("crc32c",), "None", None),
    (("none",), "CRC32C", None),
]


@pytest.mark.parametrize(("policy", "offer", "result"), DIGEST_CASES)
@pytest.mark.parametrize("key", ["HeaderDigest", "DataDigest"])
def test_digest_policy(key: str, policy: tuple[str, ...], offer: str, result: str | None) -> None:
    peer = Peer(TargetConfig(NAME, header_digest=policy, data_digest=policy))
    peer.step(WHO, 0, 1)
    both = [("HeaderDigest", offer), ("DataDigest", offer)]
    step = peer.step(both, 1, 3)
    if policy == ("none",) and result is None:  # rejected, and the default (none) holds
        assert answers(step)[key] == "Reject"
        assert step.agreed is not None
        assert not step.agreed.header_digest
    elif result is None:
        assert step.response.status_class == 2
    else:
        assert answers(step)[key] == result
        assert step.agreed is not None
        assert step.agreed.header_digest == step.agreed.data_digest == (result == "CRC32C")


def test_a_required_digest_cannot_be_passed_by() -> None:
    assert Peer(TargetConfig(NAME, data_digest=("crc32c",))).status(WHO, 0, 3) == 0x0200
    plain = Peer().step(WHO, 0, 3)
    assert plain.agreed is not None
    assert answers(plain)["MaxRecvDataSegmentLength"] == "1048576"


# CHAP


def proof(algorithm: str, identifier: int, secret: bytes, challenge: bytes) -> str:
    return "0x" + hashlib.new(HASHES[algorithm], bytes([identifier]) + secret + challenge).hexdigest()


def challenged(peer: Peer, offer: str = "5,6,7,8") -> dict[str, str]:
    assert answers(peer.step([*WHO, ("AuthMethod", "CHAP,None")], 0, None))["AuthMethod"] == "CHAP"
    return answers(peer.step([("CHAP_A", offer)], 0, None))


@pytest.mark.parametrize("algorithm", HASHES)
@pytest.mark.parametrize("mutual", [False, True])
def test_chap(algorithm: str, mutual: bool) -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS))
    found = challenged(peer, algorithm)
    assert (found["CHAP_A"], found["CHAP_I"], found["CHAP_C"]) == (algorithm, "9", "0x" + CHALLENGE.hex())
    said = [("CHAP_N", "user"), ("CHAP_R", proof(algorithm, 9, SECRETS.secret, CHALLENGE))]
    said += [("CHAP_I", "77"), ("CHAP_C", "0x" + "ab" * 20)] if mutual else []
    step = peer.step(said, 0, 1)
    assert step.response.transit
    if mutual:
        assert SECRETS.target_secret is not None
        assert answers(step)["CHAP_N"] == "disk"
        assert answers(step)["CHAP_R"] == proof(algorithm, 77, SECRETS.target_secret, b"\xab" * 20)
    last = peer.step(OPERATIONAL, 1, 3)
    assert last.agreed is not None
    assert last.agreed.auth == ("chap-mutual" if mutual else "chap")


@pytest.mark.parametrize("offer", ["", "56", "5 ", "05", "4", ",", "A"])
def test_no_algorithm_that_there_is(offer: str) -> None:
    """The first digit alone is no algorithm."""
    peer = Peer(TargetConfig(NAME, chap=SECRETS))
    peer.step([*WHO, ("AuthMethod", "CHAP")], 0, None)
    assert peer.status([("CHAP_A", offer)], 0, None) == 0x0201


@pytest.mark.parametrize("name", ["0x75736572", "0X75736572", "0b dXNlcg==", "0Busers"])
def test_a_name_that_looks_like_a_number_is_a_name(name: str) -> None:
    secrets = Chap(name, SECRETS.secret.decode())
    response = base64.b64encode(bytes.fromhex(proof("7", 9, secrets.secret, CHALLENGE)[2:])).decode()
    for said, status in ((name, 0), ("user", 0x0201)):
        peer = Peer(TargetConfig(NAME, chap=secrets))
        assert challenged(peer)["CHAP_A"] in HASHES
        peer = Peer(TargetConfig(NAME, chap=secrets))
        challenged(peer, "7")
        assert peer.status([("CHAP_N", said), ("CHAP_R", "0b" + response)], 0, 1) == status


@pytest.mark.parametrize("response", ["0x" + "00" * 1025, "0b" + "A" * 1400, "0x", "0b", "", "0b" + "A" * 43])
def test_a_response_that_is_none(response: str) -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS))
    challenged(peer, "7")
    assert peer.status([("CHAP_N", "user"), ("CHAP_R", response)], 0, 1) >> 8 == 2


@pytest.mark.parametrize(
    "said",
    [
        [("CHAP_N", "user"), ("CHAP_R", "0x" + "00" * 16)],
        [("CHAP_N", "other"), ("CHAP_R", proof("5", 9, SECRETS.secret, CHALLENGE))],
        [("CHAP_N", "user"), ("CHAP_R", proof("5", 9, SECRETS.target_secret or b"", CHALLENGE))],
    ],
)
def test_a_wrong_proof_is_an_authentication_failure(said: list[tuple[str, str]]) -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS))
    challenged(peer, "5")
    assert peer.status(said, 0, 1) == 0x0201


@pytest.mark.parametrize(
    ("pairs", "csg", "nsg"),
    [
        ([*WHO, ("AuthMethod", "None")], 0, 1),  # CHAP is required
        (WHO, 1, 3),  # security stage left out
    ],
)
def test_no_way_round_chap(pairs: list[tuple[str, str]], csg: int, nsg: int) -> None:
    assert Peer(TargetConfig(NAME, chap=SECRETS)).status(pairs, csg, nsg) == 0x0201


@pytest.mark.parametrize("nsg", [1, 3])
def test_transit_is_not_granted_before_chap_is_done(nsg: int) -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS))
    step = peer.step([*WHO, ("AuthMethod", "CHAP")], 0, nsg)
    assert (step.response.transit, step.agreed) == (False, None)
    assert peer.status(OPERATIONAL, 1, 3) == 0x020B  # behaving as if it had been


def test_no_common_algorithm() -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS, chap_algs=("sha256",)))
    peer.step([*WHO, ("AuthMethod", "CHAP")], 0, None)
    assert peer.status([("CHAP_A", "5")], 0, None) == 0x0201


def test_a_target_without_chap_refuses_an_initiator_that_insists() -> None:
    assert Peer().status([*WHO, ("AuthMethod", "CHAP")], 0, 1) == 0x0201


def test_discovery_has_credentials_of_its_own() -> None:
    peer = Peer(discovery=TargetConfig("", chap=SECRETS))
    who = [("InitiatorName", "iqn.2026-01.org.example:me"), ("SessionType", "Discovery"), ("AuthMethod", "None")]
    assert peer.status(who, 0, 1) == 0x0201


# Refusals by status


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([("TargetName", NAME)], 0x0207),
        ([("InitiatorName", "iqn.2026-01.org.example:me")], 0x0207),
        ([WHO[0], ("TargetName", NAME + "x")], 0x0203),
        ([WHO[0], ("TargetName", NAME), ("SessionType", "Sideways")], 0x0209),
        ([*WHO, ("InitiatorName", "iqn.2026-01.org.example:you")], 0x0200),
        ([*WHO, ("MaxBurstLength", "4096")], 0x020B),  # an operational key in the security stage
    ],
)
def test_refusals_by_text(pairs: list[tuple[str, str]], status: int) -> None:
    assert Peer().status(pairs, 0, 1) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"version_min": 1, "version_max": 1}, 0x0205),
        ({"tsih": 9}, 0x020A),
        ({"tsih": 7}, 0x0206),
        ({"continued": True}, 0x020B),
    ],
)
def test_refusals_by_header(fields: dict[str, object], status: int) -> None:
    assert Peer().status(WHO, 0, 1, **fields) == status


@pytest.mark.parametrize(("csg", "nsg"), [(0, 2), (1, 1), (2, 3), (3, 3)])
def test_impossible_stages(csg: int, nsg: int) -> None:
    assert Peer().status(WHO, csg, nsg) == 0x020B


@pytest.mark.parametrize("fields", [{"itt": 6}, {"isid": b"\x80\0\0\0\0\2"}, {"cid": 1}, {"tsih": 1}])
def test_tags_stay_the_same(fields: dict[str, object]) -> None:
    peer = Peer()
    peer.step(WHO, 0, None)
    assert peer.status([], 0, 1, **fields) == 0x020B


def test_a_key_comes_once() -> None:
    peer = Peer()
    peer.step(WHO, 0, 1)
    peer.step([("MaxBurstLength", "4096")], 1, None)
    assert peer.status([("MaxBurstLength", "8192")], 1, 3) == 0x0200


def test_an_endless_login_ends() -> None:
    peer = Peer()
    peer.step(WHO, 0, None)
    statuses = [peer.status([], 0, None) for _ in range(40)]
    assert 0x0200 in statuses


@given(
    requests=st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=80), st.sampled_from([text(WHO), text(OPERATIONAL), text([("CHAP_A", "5")])])),
            st.integers(0, 3),
            st.integers(0, 3),
            st.booleans(),
            st.booleans(),
        ),
        max_size=5,
    ),
    protected=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_no_request_is_too_strange(requests: list[tuple[bytes, int, int, bool, bool]], protected: bool) -> None:
    peer = Peer(TargetConfig(NAME, chap=SECRETS if protected else None))
    for data, csg, nsg, transit, continued in requests:
        request = replace(peer.request, csg=csg, nsg=nsg, transit=transit, continued=continued)
        step = peer.machine.receive(request, data)
        assert not (protected and step.agreed)
        if step.refusal or step.agreed:
            break
