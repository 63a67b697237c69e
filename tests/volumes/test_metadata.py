# SPDX-License-Identifier: Apache-2.0
"""Which metadata counts: labels, areas and texts, changed by hand with their checksums mended."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ram_unit import RamUnit
from support import golden

from swd.disk import Disk
from swd.errors import NoSuchDevice, SwdError
from swd.volumes.lvm2 import label, records, text
from swd.volumes.lvm2.build import Builder, why_not_writable
from swd.volumes.lvm2.scan import Device, Scan, choose, scan
from swd.volumes.lvm2.text import BadText

Images = list[bytearray]
Change = Callable[[bytes], bytes]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return [bytearray(path.read_bytes()) for path in golden.unpack("striped", tmp_path)]


def looked(images: Images) -> Scan:
    devices = []
    for number, image in enumerate(images):
        unit = RamUnit(len(image) // 512)
        unit.data = image
        devices.append(Device(f"disk{number}", Disk(unit, writable=False), f"unit{number}"))
    return scan(devices)


def text_of(image: bytearray) -> bytes:
    start, _size, offset, length = struct.unpack_from("<QQQQ", image, 4096 + 24)
    return bytes(image[start + offset : start + offset + length])


def put_text(image: bytearray, content: bytes) -> None:
    """The text in force, at the start of the buffer, with all checksums right."""
    start = 4096
    image[start + 512 : start + 512 + len(content)] = content
    struct.pack_into("<QQII", image, start + 40, 512, len(content), label.checksum(content), 0)
    image[start : start + 4] = struct.pack("<I", label.checksum(bytes(image[start + 4 : start + 512])))


def changed(images: Images, *pairs: tuple[bytes, bytes]) -> Images:
    """With words of the text replaced, on all disks."""
    content = text_of(images[0])
    for old, new in pairs:
        assert old in content
        content = content.replace(old, new, 1)
    for image in images:
        put_text(image, content)
    return images


# --- labels and areas ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", range(4))
def test_a_label_is_found_in_each_of_the_first_four_sectors(images: Images, sector: int) -> None:
    block = images[0][512:1024]
    images[0][512:1024] = bytes(512)
    block[8:16] = struct.pack("<Q", sector)
    images[0][sector * 512 : sector * 512 + 512] = block  # the checksum begins behind the number of the sector
    assert choose(looked(images), "striped").missing == ()


@pytest.mark.parametrize(
    ("offset", "why"), [(8, "belongs to sector"), (600 - 512, "wrong checksum"), (16, "wrong checksum")]
)
def test_a_damaged_label_is_no_label_and_is_told(images: Images, offset: int, why: str) -> None:
    images[0][512 + offset] ^= 0x40
    found = looked(images)
    assert found.groups[0].missing == ("pv0",)
    assert why in found.warnings[0]


def test_a_damaged_area_is_made_up_for_by_another(images: Images) -> None:
    for image in images[:2]:
        image[4096 + 60] ^= 1
    found = looked(images)
    assert choose(found, "striped").group.seqno == 6
    assert sum("wrong checksum of the header" in one for one in found.warnings) == 2


def test_a_text_with_a_wrong_checksum_is_not_used(images: Images) -> None:
    for image in images:
        start, _size, offset = struct.unpack_from("<QQQ", image, 4096 + 24)
        image[start + offset + 40] ^= 1
    found = looked(images)
    assert found.groups == []
    assert len([one for one in found.warnings if "wrong checksum of the text" in one]) == 3


def test_the_highest_seqno_counts_wherever_it_stands(images: Images) -> None:
    newer = text_of(images[2]).replace(b"seqno = 6", b"seqno = 7").replace(b"two {", b"renamed {")
    put_text(images[2], newer)
    group = choose(looked(images), "striped")
    assert group.group.seqno == 7
    assert "renamed" in group.group.logical
    assert "older copy" in group.warnings[0]


def test_two_texts_with_one_seqno_are_a_conflict(images: Images) -> None:
    put_text(images[2], text_of(images[2]).replace(b"two {", b"renamed {"))
    with pytest.raises(SwdError, match="two different metadata texts") as caught:
        choose(looked(images), "striped")
    assert caught.value.errno == errno.EIO


def test_a_disk_that_the_group_went_on_without_stays_missing(images: Images) -> None:
    group = choose(looked(changed(images, (b'["ALLOCATABLE"]', b'["ALLOCATABLE"]\nflags = ["MISSING"]'))), "striped")
    assert group.missing == ("pv0",)
    assert "stale" in group.warnings[0]


def test_a_disk_that_another_group_took_is_missing_here(images: Images) -> None:
    other = (
        text_of(images[0])
        .replace(b"striped {", b"other {")
        .replace(
            records.read(text_of(images[0]).rstrip(b"\0")).uuid.encode(), b"aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg"
        )
    )
    put_text(images[0], other)
    found = looked(images)
    assert choose(found, "striped").missing == ("pv0",)
    assert choose(found, "other").missing == ("pv1", "pv2")


def test_two_groups_with_one_name_must_be_told_apart(images: Images, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    others = [bytearray(path.read_bytes()) for path in golden.unpack("linear", tmp_path / "other")]
    content = text_of_wrapped(others[0]).replace(b"linear {", b"striped {")
    for image in others:
        put_text(image, content[: 50 << 10])
    found = looked([*images, *others])
    with pytest.raises(SwdError, match="2 volume groups striped") as caught:
        choose(found, "striped")
    assert caught.value.errno == errno.EEXIST
    assert choose(found, records.read(content.rstrip(b"\0")).uuid).group.name == "striped"
    with pytest.raises(NoSuchDevice):
        choose(found, "none")


def text_of_wrapped(image: bytearray) -> bytes:
    start, size, offset, length = struct.unpack_from("<QQQQ", image, 4096 + 24)
    assert offset + length > size  # the case is made so
    first = image[start + offset : start + size]
    return bytes(first + image[start + 512 : start + 512 + length - len(first)])


# --- the language --------------------------------------------------------------------------------------------------


def test_the_language() -> None:
    content = b"""# comment
        a = 1 b=-2
        c { d = "x \\"y\\" \\\\ z" # { not a section
            e = [ "p", 1, ] f = [] g = 1.5 }
        c { d = "the second does not count" }
    """
    assert text.parse(content) == {"a": 1, "b": -2, "c": {"d": 'x "y" \\ z', "e": ["p", 1], "f": [], "g": 1.5}}


@pytest.mark.parametrize(
    "content",
    [
        b"a",
        b"a =",
        b"a = }",
        b"a {",
        b"a = [",
        b'a = "',
        b"}",
        b"a = [[1]]",
        b"= 1",
        b"a = b",
        b"a = 1x",
        b"\xff",
        b"a = @",
        b"a {" * 20 + b"}" * 20,
    ],
)
def test_what_is_not_the_language(content: bytes) -> None:
    with pytest.raises(BadText):
        text.parse(content)


@pytest.mark.parametrize(
    "content",
    [b"#" * 100000 + b"\n\x01", b"a{" * 50000, b"[" * 100000, b'"' + b"\\" * 100001, b"# x\n" * 50000 + b"\x01"],
)
def test_malice_costs_no_time(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(BadText):
        text.parse(content)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"extent_size = 128", b"extent_size = 0"),
        (b"pe_start = ", b"pe_start = 99999999999999999999"),
        (b"segment_count = 1", b"segment_count = 2"),
        (b"segment_count = 1", b"segment_count = 4000000000"),
        (b"start_extent = 0", b"start_extent = 1"),
        (b'type = "striped"', b'type = ""'),
        (b'id = "', b'id = "x'),
        (b"version = 1", b"version = 2"),
        (b"two {", b"../two {"),
    ],
)
def test_a_group_that_contradicts_itself_is_refused(images: Images, old: bytes, new: bytes) -> None:
    found = looked(changed(images, (old, new)))
    assert found.groups == []
    assert len(found.warnings) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"pv0", 0', b'"pv0", 4000000'),
        (b'"pv0", 0', b'"nobody", 0'),
        (b'"pv0", 0', b'"two", 0'),  # on itself
        (b'"pv0", 0', b'"pv0", -1'),
        (b"stripe_count = 2", b"stripe_count = 3"),
        (b"stripe_size = 8", b"stripe_size = 7"),
        (b"stripe_size = 8", b"stripe_size = 0"),
        (b'type = "striped"', b'type = "vdo"'),
        (b'type = "striped"', b'type = "striped+NEW"'),
    ],
)
def test_a_volume_that_cannot_be_is_refused(images: Images, old: bytes, new: bytes) -> None:
    content = text_of(images[0])
    at = content.index(b"\ntwo {")
    builder = Builder(choose(looked(changed(images, (content[at:], content[at:].replace(old, new, 1)))), "striped"))
    with pytest.raises(SwdError) as caught:
        builder.view("two")
    assert caught.value.errno == (errno.EOPNOTSUPP if b"type" in old else errno.EIO)
    assert builder.view("three").size == 1572864  # the others are not the worse for it


def test_a_tower_of_volumes_costs_no_time(images: Images) -> None:
    """Each volume stands twice on the next: 2^60 ways down, and all of them are known after 60 steps."""
    floors = b"".join(
        b'v%d { id = "aaaaaa-0000-0000-0000-0000-0000-%06d" status = ["READ", "WRITE", "VISIBLE"] segment_count = 1\n'
        b'segment1 { start_extent = 0 extent_count = 2 type = "striped" stripe_count = 2 stripe_size = 8 '
        b'stripes = [ "v%d", 0, "v%d", 0 ] } }\n' % (number, number, number + 1, number + 1)
        for number in range(60)
    )
    began = time.process_time()
    group = choose(looked(changed(images, (b"logical_volumes {", b"logical_volumes {\n" + floors))), "striped")
    builder = Builder(group)
    assert builder.gone("v0")
    assert why_not_writable(builder, group.group.logical["v0"])
    with pytest.raises(SwdError, match="in a circle"):
        builder.view("v0")
    assert time.process_time() - began < 2


# --- what may be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'["RESIZEABLE", "READ", "WRITE"]', b'["RESIZEABLE", "READ", "WRITE", "EXPORTED"]', "is exported"),
        (b'["RESIZEABLE", "READ", "WRITE"]', b'["RESIZEABLE", "READ", "WRITE", "CLUSTERED"]', "is clustered"),
        (b'["RESIZEABLE", "READ", "WRITE"]', b'["RESIZEABLE", "READ"]', "is read-only"),
        (b"extent_size", b'lock_type = "sanlock"\nextent_size', "is shared"),
        (b"extent_size", b'system_id = "other"\nextent_size', "system ID other"),
        (b'"ALLOCATABLE"', b'"ALLOCATABLE", "MISSING"', "not complete"),
        (b'["READ", "WRITE", "VISIBLE"]', b'["READ", "VISIBLE"]', "two is read-only"),
        (b'["READ", "WRITE", "VISIBLE"]', b'["READ", "WRITE", "VISIBLE", "LOCKED"]', "LOCKED"),
        (b'["READ", "WRITE", "VISIBLE"]', b'["READ", "WRITE", "VISIBLE", "PVMOVE"]', "PVMOVE"),
        (b'["READ", "WRITE", "VISIBLE"]', b'["READ", "WRITE", "VISIBLE"] flags = ["WRITE_LOCKED"]', "read-only"),
        (b'type = "striped"', b'type = "linear+x"', "type linear"),
    ],
)
def test_why_a_volume_must_not_be_written(images: Images, old: bytes, new: bytes, why: str) -> None:
    builder = Builder(choose(looked(images), "striped"))
    assert why_not_writable(builder, builder.find("two")) == ""
    builder = Builder(choose(looked(changed(images, (old, new))), "striped"))
    assert why in why_not_writable(builder, builder.find("two"))
