# SPDX-License-Identifier: Apache-2.0
"""Result functions, ranges and reserved answers, on both sides of the one table."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import LoginRefused, ProtocolViolation, SwdError
from swd.proto import keys, negotiate
from swd.proto.keys import Value
from swd.proto.negotiate import Initiator, answer
from swd.proto.options import DEFAULTS, Options, read


def settled(
    answers: list[tuple[str, str]], options: Options = DEFAULTS, *, discovery: bool = False
) -> dict[str, Value]:
    us = Initiator(options, discovery=discovery)
    us.offers()
    us.hear(answers, "operational")
    return us.settle()


def test_everything_that_matters_is_offered() -> None:
    assert Initiator(Options()).offers() == [
        ("HeaderDigest", "None,CRC32C"),
        ("DataDigest", "None,CRC32C"),
        ("MaxRecvDataSegmentLength", "1048576"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "16776192"),
        ("FirstBurstLength", "1048576"),
        ("MaxOutstandingR2T", "8"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "20"),
        ("ErrorRecoveryLevel", "0"),
    ]


def test_a_discovery_session_offers_only_what_means_something_to_it() -> None:
    offered = [name for name, _ in Initiator(Options(), discovery=True).offers()]
    assert offered == [
        "HeaderDigest",
        "DataDigest",
        "MaxRecvDataSegmentLength",
        "DefaultTime2Wait",
        "DefaultTime2Retain",
        "ErrorRecoveryLevel",
    ]


def test_a_later_connection_leaves_out_what_only_the_leading_one_settles() -> None:
    offered = [name for name, _ in Initiator(Options(), leading=False).offers()]
    assert offered == ["HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength"]


@pytest.mark.parametrize(
    ("key", "text", "result"),
    [
        ("HeaderDigest", "CRC32C", "CRC32C"),
        ("HeaderDigest", "None", "None"),
        ("HeaderDigest", "Reject", "None"),
        ("InitialR2T", "Yes", True),
        ("InitialR2T", "No", False),
        ("InitialR2T", "NotUnderstood", True),
        ("ImmediateData", "No", False),
        ("ImmediateData", "Yes", True),
        ("MaxBurstLength", "65536", 65536),
        ("MaxBurstLength", "0x10000", 65536),
        ("MaxBurstLength", "16777215", 16776192),
        ("MaxBurstLength", "Irrelevant", 262144),
        ("FirstBurstLength", "512", 512),
        ("MaxOutstandingR2T", "65535", 8),
        ("MaxOutstandingR2T", "1", 1),
        ("MaxConnections", "4", 1),
        ("DefaultTime2Wait", "0", 2),
        ("DefaultTime2Wait", "5", 5),
        ("DefaultTime2Retain", "60", 20),
        ("ErrorRecoveryLevel", "2", 0),
        ("MaxRecvDataSegmentLength", "65536", 65536),
        ("TargetAlias", "d\u00efsk", "d\u00efsk"),
        ("TargetPortalGroupTag", "1", 1),
    ],
)
def test_offer_and_answer_make_the_result(key: str, text: str, result: Value) -> None:
    assert settled([(key, text)])[key] == result


def test_silence_leaves_the_defaults_of_the_standard() -> None:
    values = settled([])
    assert values["HeaderDigest"] == values["DataDigest"] == "None"
    assert values["InitialR2T"] is True
    assert values["MaxBurstLength"] == 262144
    assert values["FirstBurstLength"] == 65536
    assert values["MaxOutstandingR2T"] == 1
    assert values["MaxRecvDataSegmentLength"] == 8192


def test_the_first_burst_never_exceeds_the_burst() -> None:
    assert settled([("MaxBurstLength", "4096"), ("FirstBurstLength", "8192")])["FirstBurstLength"] == 4096


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("InitialR2T", "yes"),
        ("ImmediateData", "1"),
        ("MaxBurstLength", "511"),
        ("MaxBurstLength", "16777216"),
        ("MaxBurstLength", "-1"),
        ("MaxBurstLength", ""),
        ("MaxBurstLength", "1e4"),
        ("FirstBurstLength", "0"),
        ("MaxOutstandingR2T", "0"),
        ("MaxOutstandingR2T", "65536"),
        ("DefaultTime2Wait", "3601"),
        ("ErrorRecoveryLevel", "3"),
        ("MaxConnections", "0"),
        ("MaxRecvDataSegmentLength", "511"),
        ("MaxRecvDataSegmentLength", "16777216"),
        ("TargetPortalGroupTag", "65536"),
        ("HeaderDigest", "CRC64"),
        ("HeaderDigest", "crc32c"),
        ("HeaderDigest", "None,CRC32C"),
        ("SendTargets", "All"),
    ],
)
def test_answers_out_of_range(key: str, text: str) -> None:
    with pytest.raises(ProtocolViolation, match=key) as caught:
        settled([(key, text)])
    assert caught.value.clause == keys.BY_NAME[key].clause


@pytest.mark.parametrize("answers", [[], [("HeaderDigest", "None")], [("HeaderDigest", "Reject")]])
def test_a_required_digest_that_is_denied_fails_the_login(answers: list[tuple[str, str]]) -> None:
    with pytest.raises(LoginRefused, match="HeaderDigest=CRC32C, which is required") as caught:
        settled(answers, read({"header_digest": "crc32c!"}))
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_digest_that_was_not_offered_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="not offered"):
        settled([("DataDigest", "CRC32C")], read({"data_digest": "none"}))


def test_a_key_is_negotiated_once() -> None:
    us = Initiator(Options())
    us.offers()
    us.hear([("InitialR2T", "Yes")], "operational")
    with pytest.raises(ProtocolViolation, match="twice"):
        us.hear([("InitialR2T", "Yes")], "operational")


def test_a_declaration_may_be_repeated_but_not_changed() -> None:
    us = Initiator(Options())
    us.hear([("TargetPortalGroupTag", "1")], "security")
    assert us.hear([("TargetPortalGroupTag", "1")], "operational") == []
    with pytest.raises(ProtocolViolation, match="twice"):
        us.hear([("TargetPortalGroupTag", "2")], "operational")


@pytest.mark.parametrize(
    ("key", "stage"), [("AuthMethod", "operational"), ("CHAP_C", "operational"), ("InitialR2T", "security")]
)
def test_keys_in_the_wrong_stage(key: str, stage: str) -> None:
    with pytest.raises(ProtocolViolation, match=f"{key} in the {stage} stage"):
        Initiator(Options()).hear([(key, "Yes")], stage)


@pytest.mark.parametrize(
    ("offer", "reply"),
    [
        (("X-org.example.what", "1"), [("X-org.example.what", "NotUnderstood")]),
        (("OFMarker", "No"), [("OFMarker", "NotUnderstood")]),
        (("X-org.example.what", "NotUnderstood"), []),
        (("TaskReporting", "FastAbort,RFC3720"), [("TaskReporting", "RFC3720")]),
        (("iSCSIProtocolLevel", "2"), [("iSCSIProtocolLevel", "1")]),
        (("InitiatorName", "iqn.2026-01.org.example:me"), []),
        (("X#NodeArchitecture", "pdp11"), []),
    ],
)
def test_what_the_target_begins_with(offer: tuple[str, str], reply: list[tuple[str, str]]) -> None:
    us = Initiator(Options())
    us.offers()
    assert us.hear([offer], "operational") == reply


def test_leading_only_keys_sent_unasked_on_a_later_connection_are_answered_and_change_nothing() -> None:
    us = Initiator(Options(), leading=False)
    us.offers()
    assert us.hear([("MaxConnections", "4"), ("ErrorRecoveryLevel", "2")], "operational") == [
        ("MaxConnections", "1"),
        ("ErrorRecoveryLevel", "0"),
    ]
    assert us.settle()["MaxConnections"] == 1


LIMITS: dict[str, Value] = {
    "HeaderDigest": ("CRC32C", "None"),
    "DataDigest": ("None",),
    "MaxBurstLength": 65536,
    "InitialR2T": False,
    "ImmediateData": False,
    "DefaultTime2Wait": 5,
}


@pytest.mark.parametrize(
    ("offer", "reply", "value"),
    [
        (("HeaderDigest", "None,CRC32C"), "None", "None"),
        (("HeaderDigest", "CRC32C,None"), "CRC32C", "CRC32C"),
        (("DataDigest", "CRC32C,None"), "None", "None"),
        (("DataDigest", "CRC32C"), "Reject", None),
        (("MaxBurstLength", "16776192"), "65536", 65536),
        (("MaxBurstLength", "512"), "512", 512),
        (("MaxBurstLength", "511"), "Reject", None),
        (("MaxBurstLength", "x"), "Reject", None),
        (("InitialR2T", "No"), "No", False),
        (("InitialR2T", "Yes"), "Yes", True),
        (("ImmediateData", "Yes"), "No", False),
        (("ImmediateData", "maybe"), "Reject", None),
        (("DefaultTime2Wait", "0"), "5", 5),
        (("MaxOutstandingR2T", "16"), "1", 1),
        (("MaxRecvDataSegmentLength", "4096"), None, 4096),
        (("MaxRecvDataSegmentLength", "1"), "Reject", None),
        (("InitiatorAlias", "host"), None, "host"),
        (("IFMarker", "No"), "NotUnderstood", None),
        (("X-mine", "NotUnderstood"), None, None),
        (("AuthMethod", "CHAP"), None, None),
    ],
)
def test_the_responder(offer: tuple[str, str], reply: str | None, value: Value | None) -> None:
    answered = answer([offer], LIMITS)
    assert answered.pairs == ([] if reply is None else [(offer[0], reply)])
    assert answered.values == ({} if value is None else {offer[0]: value})


def test_a_discovery_session_finds_most_keys_irrelevant() -> None:
    assert answer([("MaxBurstLength", "512")], {}, discovery=True).pairs == [("MaxBurstLength", "Irrelevant")]
    assert answer([("HeaderDigest", "None")], {}, discovery=True).pairs == [("HeaderDigest", "None")]


LENGTHS = st.integers(512, 2**24 - 1)


@given(
    LENGTHS,
    LENGTHS,
    st.booleans(),
    st.booleans(),
    st.integers(1, 65535),
    st.sampled_from(["none", "crc32c", "none,crc32c"]),
)
def test_both_sides_come_to_the_same_result(
    burst: int, theirs: int, initial_r2t: bool, immediate: bool, r2ts: int, digest: str
) -> None:
    options = read(
        {"max_burst_length": burst, "initial_r2t": initial_r2t, "header_digest": digest, "max_outstanding_r2t": 5}
    )
    limits: dict[str, Value] = {
        "MaxBurstLength": theirs,
        "FirstBurstLength": theirs,
        "InitialR2T": False,
        "ImmediateData": immediate,
        "MaxOutstandingR2T": r2ts,
        "HeaderDigest": ("None", "CRC32C"),
    }
    us = Initiator(options)
    answered = answer(us.offers(), limits)
    assert us.hear(answered.pairs, "operational") == []
    values = us.settle()
    for name, value in answered.values.items():
        if not keys.BY_NAME[name].declarative:
            assert values[name] == value, name
    assert values["MaxRecvDataSegmentLength"] == 8192  # ours is no limit of theirs


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*keys.BY_NAME, "X-a"]), st.text(max_size=10) | st.sampled_from(["Yes", "512", "None"])
        )
    )
)
def test_any_answer_is_settled_or_an_error_of_ours(pairs: list[tuple[str, str]]) -> None:
    us = Initiator(Options())
    us.offers()
    try:
        us.hear(pairs, "operational")
        values = us.settle()
    except SwdError:
        return
    assert 512 <= int(str(values["FirstBurstLength"])) <= int(str(values["MaxBurstLength"])) <= 16776192


def test_the_table_is_sound() -> None:
    assert len(keys.BY_NAME) == len(keys.TABLE)
    for key in keys.TABLE:
        assert key.kind in ("min", "max", "and", "or", "list", "number", "text")
        assert key.clause.split(".")[0] in ("12", "13")
        if key.kind in ("min", "max"):
            assert key.low <= int(str(key.default)) <= key.high
    assert {name for name, _ in negotiate.OFFERED} <= set(keys.BY_NAME)
