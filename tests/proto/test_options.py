# SPDX-License-Identifier: Apache-2.0
"""The option table: every key in every spelling, ranges, and errors that name the way out."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from swd.errors import InvalidArgument, Unsupported
from swd.proto import options
from swd.proto.options import Options, read

NAME = "iqn.2026-01.org.example:me"

GOOD: list[tuple[str, object, object]] = [
    ("header_digest", "crc32c,none", ("crc32c", "none")),
    ("header_digest", "None, CRC32C", ("none", "crc32c")),
    ("header_digest", "none", ("none",)),
    ("data_digest", "crc32c!", ("crc32c",)),
    ("data_digest", ["crc32c", "none"], ("crc32c", "none")),
    ("auth", "require", "require"),
    ("auth", None, None),
    ("chap_algs", "sha256,md5", ("sha256", "md5")),
    ("chap_short_secret", "yes", True),
    ("chap_short_secret", False, False),
    ("user", "us\u00e9r", "us\u00e9r"),
    ("initiator_name", NAME, NAME),
    ("isid", "800102030405", b"\x80\1\2\3\4\5"),
    ("isid", "0x800102030405", b"\x80\1\2\3\4\5"),
    ("isid", b"123456", b"123456"),
    ("timeout", "2.5", 2.5),
    ("timeout", "10s", 10.0),
    ("timeout", 5, 5.0),
    ("replacement_timeout", "0", 0.0),
    ("max_recv_data_segment_length", "512", 512),
    ("max_recv_data_segment_length", 2**24 - 1, 2**24 - 1),
    ("max_burst_length", "2M", 2 << 20),
    ("initial_r2t", "On", True),
    ("immediate_data", "0", False),
    ("max_outstanding_r2t", 65535, 65535),
    ("default_time2wait", "3600", 3600),
    ("sessions", 1, 1),
    ("connections", "1", 1),
    ("error_recovery_level", 0, 0),
    ("queue_depth", "128", 128),
    ("congestion", "cubic", "cubic"),
    ("partition", None, None),
    ("partition", "2", 2),
]

BAD: list[tuple[str, object]] = [
    ("header_digest", ""),
    ("header_digest", "crc32"),
    ("header_digest", "crc32c,crc32c"),
    ("header_digest", "crc32c!,none"),
    ("auth", "maybe"),
    ("chap_algs", "md4"),
    ("chap_algs", "md5,md5"),
    ("chap_short_secret", "perhaps"),
    ("user", ""),
    ("user", "a\nb"),
    ("user", "x" * 256),
    ("initiator_name", "me"),
    ("isid", "8001"),
    ("isid", b"12345"),
    ("timeout", "0"),
    ("timeout", "-1"),
    ("timeout", "nan"),
    ("timeout", float("nan")),
    ("timeout", float("inf")),
    ("timeout", "1e3"),
    ("max_recv_data_segment_length", 511),
    ("max_recv_data_segment_length", 2**24),
    ("max_burst_length", "16M"),
    ("max_burst_length", "x"),
    ("max_outstanding_r2t", 0),
    ("max_outstanding_r2t", "65536"),
    ("default_time2retain", 3601),
    ("error_recovery_level", 3),
    ("queue_depth", "0x10"),
    ("queue_depth", "\u0663"),
]

UNBUILT: list[tuple[str, object]] = [
    ("error_recovery_level", 1),
    ("connections", "2"),
    ("data_pdu_in_order", "no"),
    ("data_sequence_in_order", False),
]


@pytest.mark.parametrize(("key", "value", "result"), GOOD)
def test_good_values(key: str, value: object, result: object) -> None:
    assert getattr(read({key: value}), key) == result


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values(key: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read({key: value}, source="swd.toml:7")
    assert caught.value.errno == errno.EINVAL
    if key != "initiator_name" and value != "x":
        assert str(caught.value).startswith(f"swd.toml:7: {key}")


@pytest.mark.parametrize(("key", "value"), UNBUILT)
def test_what_is_not_built_says_so(key: str, value: object) -> None:
    with pytest.raises(Unsupported, match=key) as caught:
        read({key: value})
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("key", "value"),
    [("timeout", []), ("timeout", True), ("queue_depth", 1.5), ("header_digest", 3), ("user", 3), ("isid", 3)],
)
def test_wrong_types(key: str, value: object) -> None:
    with pytest.raises(TypeError, match=key):
        read({key: value})


def test_table_and_record_have_the_same_keys() -> None:
    assert [row.name for row in options.TABLE] == [field.name for field in dataclasses.fields(Options)]


def test_each_row_has_help_and_a_default_that_it_would_take() -> None:
    for row in options.TABLE:
        assert row.help
        assert getattr(read({row.name: row.default}), row.name) == row.default


@pytest.mark.parametrize(
    ("key", "nearest"), [("heder_digest", "header_digest"), ("header-digest", "header_digest"), ("Timeout", "timeout")]
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(InvalidArgument, match=f"unknown key '{key}'; did you mean {nearest}"):
        read({key: "1"})


@pytest.mark.parametrize("key", ["errno_profile", "phase_timeout"])
def test_top_level_keys_are_refused_with_their_place(key: str) -> None:
    with pytest.raises(InvalidArgument, match="top-level key of the configuration"):
        read({key: "1"})


def test_a_repeated_key() -> None:
    with pytest.raises(InvalidArgument, match="timeout is given twice"):
        read([("timeout", "1"), ("timeout", "1")])


def test_a_narrower_scope_lies_over_a_wider_one() -> None:
    wide = read({"timeout": 5, "user": "scan"})
    narrow = read({"timeout": 7}, base=wide)
    assert (narrow.timeout, narrow.user, wide.timeout) == (7.0, "scan", 5.0)


def test_the_first_burst_follows_a_smaller_max_burst() -> None:
    assert read({"max_burst_length": "64K"}).first_burst_length == 65536
    with pytest.raises(InvalidArgument, match="above max_burst_length"):
        read({"max_burst_length": "64K", "first_burst_length": "128K"})


def test_authentication_is_required_once_there_are_credentials() -> None:
    assert Options().wanted_auth(credentials=True) == "require"
    assert Options().wanted_auth(credentials=False) == "none"
    assert read({"auth": "chap"}).wanted_auth(credentials=True) == "chap"
