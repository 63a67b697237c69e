# SPDX-License-Identifier: Apache-2.0
"""iSCSI names: the three types, folding, and everything that must never pass for a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import InvalidArgument
from swd.proto import names

GOOD = [
    ("iqn.2026-01.org.example", "iqn.2026-01.org.example"),
    ("iqn.2026-01.org.example:", "iqn.2026-01.org.example:"),
    ("iqn.1993-08.org.debian:01:abc", "iqn.1993-08.org.debian:01:abc"),
    ("IQN.2026-01.ORG.Example:Disk", "iqn.2026-01.org.example:disk"),
    ("iqn.2004-04.com.qnap:ts_453@x", "iqn.2004-04.com.qnap:ts_453@x"),
    ("iqn.2026-01.org.example:Stra\u00dfe", "iqn.2026-01.org.example:strasse"),
    ("iqn.2026-01.org.example:\uff24isk", "iqn.2026-01.org.example:disk"),
    ("eui.02004567A425678D", "eui.02004567a425678d"),
    ("naa.52004567BA64678D", "naa.52004567ba64678d"),
    ("naa.62004567BA64678D0123456789ABCDEF", "naa.62004567ba64678d0123456789abcdef"),
]

BAD = [
    "",
    "iqn",
    "iqn.",
    "disk",
    "iqnx2026-01.org.example",
    "iqn.2026-13.org.example",
    "iqn.2026-00.org.example",
    "iqn.2026-1.org.example",
    "iqn.2026-01",
    "iqn.2026-01.",
    "iqn.2026-01.:x",
    "iqn.2026-01..x",
    "iqn.2026-01.org.example:a b",
    "iqn.2026-01.org.example:a/b",
    "iqn.2026-01.org.example:../../etc",
    "iqn.2026-01.org.example:a\\b",
    "iqn.2026-01.org.example:a\0b",
    "iqn.2026-01.org.example:a\nb",
    "iqn.2026-01.org.example:\x1b[2J",
    "iqn.2026-01.org.example:\x7f",
    "iqn.2026-01.org.example:\x9b",
    "iqn.2026-01.org.example:\u3002",
    "iqn.2026-01.org.example:\u202egnp",
    "iqn.2026-01.org.example:\u2028",
    "iqn.2026-01.org.example:\u05d0",
    "iqn.2026-01.org.example:\ue000",
    "iqn.2026-01.org.example:\ud800",
    "iqn.2026-01.org.example:a%20b",
    "iqn.2026-01.org.example:" + "x" * 200,
    "eui.02004567A425678",
    "eui.02004567A425678DX",
    "eui.g2004567A425678D",
    "naa.52004567BA64678",
    "naa.62004567BA64678D0123456789ABCDE",
]


@pytest.mark.parametrize(("name", "normal"), GOOD)
def test_good_names_and_their_normal_form(name: str, normal: str) -> None:
    assert names.validate(name) == normal
    assert names.validate(normal) == normal
    assert names.valid(name)


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is no iSCSI name") as caught:
        names.validate(name)
    assert str(caught.value).isprintable()
    assert not names.valid(name)


def test_the_longest_name() -> None:
    name = "iqn.2026-01.org.example:" + "x" * (223 - 24)
    assert names.validate(name) == name
    assert not names.valid(name + "x")
    # The limit is in bytes, not in characters.
    assert not names.valid("iqn.2026-01.org.example:" + "\u00e4" * 120)


@given(st.text(max_size=60).map(lambda tail: "iqn.2026-01.org.example:" + tail))
def test_a_name_that_passes_is_stable_and_harmless(name: str) -> None:
    if names.valid(name):
        normal = names.validate(name)
        assert names.validate(normal) == normal
        assert normal.isprintable()
        assert "/" not in normal
        assert " " not in normal
