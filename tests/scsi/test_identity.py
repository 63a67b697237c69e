# SPDX-License-Identifier: Apache-2.0
"""Designators: which are strong, which one names the unit, and how they are spelt."""

from __future__ import annotations

import pytest
from fake_disk import NAA_6, designator, page
from hypothesis import given
from hypothesis import strategies as st

from swd.scsi.identity import Designator, identify, parse_designators

UUID = bytes.fromhex("1000" + "00112233445566778899aabbccddeeff")


def parse(*descriptors: bytes) -> tuple[Designator, ...]:
    return parse_designators(page(0x83, b"".join(descriptors)))


@pytest.mark.parametrize(
    ("descriptor", "text", "strong"),
    [
        (designator(3, NAA_6), "naa." + NAA_6.hex(), True),
        (designator(3, bytes.fromhex("5001405012345678")), "naa.5001405012345678", True),
        (designator(3, bytes.fromhex("2abc001405123456")), "naa.2abc001405123456", True),
        (designator(3, bytes.fromhex("3000000100000001")), "naa.3000000100000001", False),  # locally assigned
        (designator(3, bytes.fromhex("5000000000000001")), "naa.5000000000000001", False),  # OUI 0
        (designator(3, bytes.fromhex("500000000fffffff")), "naa.500000000fffffff", False),  # the rest is no OUI
        (designator(3, bytes.fromhex("5000000100000000")), "naa.5000000100000000", False),  # bits below the OUI
        (designator(3, bytes.fromhex("5000001000000000")), "naa.5000001000000000", True),  # lowest bit of the OUI
        (designator(3, bytes.fromhex("2fff000000ffffff")), "naa.2fff000000ffffff", False),
        (designator(3, NAA_6[:8]), "naa." + NAA_6[:8].hex(), False),  # NAA 6 has 16 bytes
        (designator(3, NAA_6, association=1), "naa." + NAA_6.hex(), False),  # of the target port
        (designator(3, b""), "naa.", False),
        (designator(2, bytes.fromhex("0014051122334455")), "eui.0014051122334455", True),
        (designator(2, bytes.fromhex("0000001122334455")), "eui.0000001122334455", False),
        (
            designator(2, bytes.fromhex("ffffffffffffffff0014051122334455")),
            "eui.ffffffffffffffff0014051122334455",
            True,
        ),
        (
            designator(2, bytes.fromhex("ffffffffffffffff0000001122334455")),
            "eui.ffffffffffffffff0000001122334455",
            False,
        ),
        (designator(2, bytes.fromhex("0014051122")), "eui.0014051122", False),
        (designator(0xA, UUID), "uuid.00112233-4455-6677-8899-aabbccddeeff", True),
        (designator(0xA, bytes(18)), "uuid.00000000-0000-0000-0000-000000000000", False),
        (designator(0xA, UUID[:9]), "hex." + UUID[:9].hex(), False),
        (designator(1, b"IET     00010001", code_set=2), "t10.IET_00010001", False),
        (designator(0, b"\x1b[2J", code_set=2), "vendor.\\x1b[2J", False),
        (designator(8, b"iqn.2001-04.com.example,L,0x01\0\0", code_set=3), "iqn.2001-04.com.example,L,0x01", False),
        (designator(7, bytes(range(16))), "md5." + bytes(range(16)).hex(), False),
        (designator(0xF, b"\x01\x02"), "hex.0102", False),
    ],
)
def test_a_designator(descriptor: bytes, text: str, strong: bool) -> None:
    (found,) = parse(descriptor)
    assert (found.text, found.strong) == (text, strong)


def test_strong_comes_before_weak_whatever_the_order() -> None:
    t10 = designator(1, b"IET     00010001", code_set=2)
    weak_naa = designator(3, bytes.fromhex("3000000100000001"))
    uuid = designator(0xA, UUID)
    for order in ([t10, weak_naa, uuid], [uuid, weak_naa, t10]):
        found = identify(parse(*order), "SN1")
        assert found.text.startswith("uuid.")
        assert found.strong
        assert str(found) == found.text
    weak = identify(parse(t10, weak_naa), "SN1")
    assert str(weak) == "naa.3000000100000001 (weak)"
    assert weak.serial == "SN1"


def test_ports_and_targets_do_not_name_the_unit() -> None:
    port = designator(3, NAA_6, association=1)
    target = designator(3, NAA_6, association=2)
    assert identify(parse(port, target), "SN1").text == "serial.SN1"
    assert identify(parse(port), "").text == "unnamed"
    assert identify(parse(designator(4, b"\0\0\0\1"), port), "SN1").designators[0].text == "hex.00000001"


def test_two_units_that_differ_in_a_lesser_designator_differ() -> None:
    naa = designator(3, NAA_6)
    one, other = (parse(naa, designator(1, name, code_set=2)) for name in (b"FAKE    1", b"FAKE    2"))
    assert identify(one, "") != identify(other, "")
    assert identify(one, "1") != identify(one, "2")
    assert identify(one, "1") == identify(one, "1")


def test_a_descriptor_that_is_cut_off_is_left_out() -> None:
    whole = designator(3, NAA_6) + designator(1, b"FAKE    1", code_set=2)
    cut = page(0x83, whole)[:-1]
    assert [found.kind for found in parse_designators(cut)] == [3]
    overlong = page(0x83, bytes([1, 3, 0, 200]) + NAA_6)
    assert parse_designators(overlong) == ()


@given(st.binary(max_size=120))
def test_any_designators_are_printable_and_ranked(raw: bytes) -> None:
    found = parse_designators(page(0x83, raw))
    identity = identify(found, "")
    assert identity.text.isprintable()
    assert all(d.text.isprintable() for d in found)
    assert identity.strong == any(d.strong for d in found)
