# SPDX-License-Identifier: Apache-2.0
"""Device names: each form, its round trip, and that no password in one is ever repeated."""

from __future__ import annotations

import errno
import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import InvalidArgument, NoSuchDevice, SwdError, Unsupported
from swd.proto.portal import parse_target_address
from swd.proto.url import (
    Dev,
    FaultDev,
    FileDev,
    HardwarePath,
    IscsiDev,
    IswDev,
    LvmDev,
    MemDev,
    Wwid,
    parse_dev,
    parse_portal,
    parse_size,
)
from swd.values import Portal

IQN = "iqn.2026-01.org.example:disk"

GOOD: list[tuple[str, Dev]] = [
    (f"iscsi://host/{IQN}/0", IscsiDev(Portal("host"), IQN, 0)),
    (f"ISCSI://host:3261/{IQN}/1", IscsiDev(Portal("host", 3261), IQN, 1 << 48)),
    (f"iscsi://192.0.2.1/{IQN}/300", IscsiDev(Portal("192.0.2.1"), IQN, 0x412C << 48)),
    (f"iscsi://[2001:db8::1]:99/{IQN}/0x4005000000000000", IscsiDev(Portal("2001:db8::1", 99), IQN, 0x4005 << 48)),
    (f"iscsi://[fe80::1%25eth0]/{IQN}/0", IscsiDev(Portal("fe80::1%eth0"), IQN, 0)),
    (f"iscsi://me@host/{IQN}/0", IscsiDev(Portal("host"), IQN, 0, "me")),
    (f"iscsi://host/{IQN}/0?user=a%40b", IscsiDev(Portal("host"), IQN, 0, "a@b")),
    (f"iscsi://host/{IQN}@x/0", IscsiDev(Portal("host"), IQN + "@x", 0)),
    (f"iscsi://me@host/{IQN}@x/0", IscsiDev(Portal("host"), IQN + "@x", 0, "me")),
    ("iscsi://host/iqn.2026-01.org.example%3Adisk/0", IscsiDev(Portal("host"), IQN, 0)),
    ("iscsi://host/iqn.2026-01.org.example:DISK/0", IscsiDev(Portal("host"), "iqn.2026-01.org.example:DISK", 0)),
    (
        f"iscsi://host/{IQN}/0?timeout=5&header_digest=crc32c,none",
        IscsiDev(Portal("host"), IQN, 0, None, (("timeout", "5"), ("header_digest", "crc32c,none"))),
    ),
    ("255/0/0.1.2.3", HardwarePath(0, 1, 2, 3)),
    ("255/0/17.127.15.7", HardwarePath(17, 127, 15, 7)),
    ("wwid:NAA.6001405000000000", Wwid("naa.6001405000000000")),
    ("wwid:eui.0123456789abcdef", Wwid("eui.0123456789abcdef")),
    ("wwid:uuid.12345678123456781234567812345678", Wwid("uuid.12345678-1234-5678-1234-567812345678")),
    ("lvm://vg0/root", LvmDev("vg0", "root")),
    ("mem://64M", MemDev(64 << 20)),
    ("mem://1g?block_size=4096&name=a%20b", MemDev(1 << 30, 4096, "a b")),
    ("file:///srv/disk.img", FileDev("/srv/disk.img")),
    ("file://disk%20one.img?block_size=4096", FileDev("disk one.img", (("block_size", "4096"),))),
    ("/dev/loop0", FileDev("/dev/loop0")),
    ("./disk%20?.img", FileDev("./disk%20?.img")),
    ("./disk\udcff.img", FileDev("./disk\udcff.img")),  # a byte of a file's name that is no UTF-8, as argv has it
    ("file:///a%ff", FileDev("/a\udcff")),
    ("fault://?plan=p&on=file:///a%25ff", FaultDev("p", FileDev("/a\udcff"))),
    ("255/0/0.1.2", FileDev("255/0/0.1.2")),
    ("isw:", IswDev()),
    ("fault://?plan=p.toml&on=mem%3A%2F%2F64K", FaultDev("p.toml", MemDev(65536))),
]

BAD = [
    ("", "no device name"),
    ("disk", "no device name"),
    ("iscsi:", "LUN is missing"),
    ("iscsi://", "LUN is missing"),
    (f"iscsi://host/{IQN}", "LUN is missing.*iscsi://192"),
    (f"iscsi://host/{IQN}/", "LUN is missing"),
    (f"iscsi://host/{IQN}/16384", "0..16383"),
    (f"iscsi://host/{IQN}/0/1", "as in iscsi://192"),
    (f"iscsi://host/{IQN}/0#x", "as in iscsi://192"),
    (f"iscsi:///{IQN}/0", "no portal"),
    (f"iscsi://host:0/{IQN}/0", "1..65535"),
    (f"iscsi://host:x/{IQN}/0", "1..65535"),
    (f"iscsi://[fe80::g]/{IQN}/0", "no IPv6"),
    (f"iscsi://300.1.1.1/{IQN}/0", "no IPv4"),
    ("iscsi://host/disk/0", "must begin with iqn"),
    ("iscsi://host/iqn.2026-01.org.example%2F../0", "not allowed"),
    ("iscsi://host/iqn.2026-01.org.example%zz/0", "two hex digits"),
    ("iscsi://host/iqn.2026-01.org.example%ff/0", "UTF-8"),
    (f"iscsi://host/{IQN}/0?timeot=5", "did you mean timeout"),
    (f"iscsi://host/{IQN}/0?timeout", "no value"),
    (f"iscsi://host/{IQN}/0?timeout=5&timeout=6", "twice"),
    (f"iscsi://host/{IQN}/0?timeout=x", "seconds"),
    (f"iscsi://host/{IQN}/0?errno_profile=11iv3", "top-level"),
    (f"iscsi://me@host/{IQN}/0?user=you", "user is given twice"),
    (f"iscsi://me@host/{IQN}/0?timeot=5", "did you mean timeout"),
    ("255/0/0.128.0.0", "hardware path"),
    ("255/0/0.0.16.0", "hardware path"),
    ("255/0/0.0.0.8", "hardware path"),
    ("wwid:naa.6001", "wwid:"),
    ("wwid:t10.x", "wwid:"),
    ("lvm://vg", "lvm://VG/LV"),
    ("lvm://vg/..", "lvm://VG/LV"),
    ("lvm://vg/a/b", "lvm://VG/LV"),
    ("mem:64M", "mem://SIZE"),
    ("mem://0", "whole number"),
    ("mem://1000", "whole number"),
    ("mem://64Q", "no size"),
    ("mem://6K?block_size=4096", "whole number"),
    ("mem://64M?block_size=1000", "block_size"),
    ("mem://64M?name=", "printable"),
    ("mem://64M?timeout=5", "unknown key"),
    ("file://", "file:///absolute"),
    ("file:///x%00y", "file:///absolute"),
    ("file:///x?block_size=3", "block_size"),
    ("file:///x\ud800", "file:///absolute"),
    ("./x\ud800", "no device name"),
    ("file:///x?secret_file=\udcff", "not UTF-8"),
    ("isw:x", "nothing after"),
    ("fault://?plan=p", "fault://"),
    ("fault://?plan=p&on=disk", "no device name"),
]


@pytest.mark.parametrize(("text", "dev"), GOOD)
def test_good_names(text: str, dev: Dev) -> None:
    assert parse_dev(text) == dev
    assert parse_dev(str(dev)) == dev
    assert str(dev).isprintable()


@pytest.mark.parametrize(("text", "why"), BAD)
def test_bad_names(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        parse_dev(text)
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize("text", ["nbd://host/x", "http://x", "dos:"])
def test_a_scheme_that_no_row_has(text: str) -> None:
    with pytest.raises(NoSuchDevice, match="no row exists") as caught:
        parse_dev(text)
    assert caught.value.errno == errno.ENODEV


def test_an_option_that_is_not_built() -> None:
    with pytest.raises(Unsupported):
        parse_dev(f"iscsi://host/{IQN}/0?connections=2")


SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "text",
    [
        f"iscsi://me:{SECRET}@host/{IQN}/0",
        f"iscsi://me%{SECRET}@host/{IQN}/0",
        f"iscsi://me%3A{SECRET}@host/{IQN}/0",
        f"iscsi://me:{SECRET}%40host/{IQN}/0",
        f"iscsi://:{SECRET}@host/{IQN}/0",
        f"iscsi://me:a/{SECRET}@host/{IQN}/0",
        f"iscsi://me:a?{SECRET}@host/{IQN}/0",
        f"iscsi://me:a#{SECRET}@host/{IQN}/0",
        f"iscsi://me:12/{IQN}/{SECRET}@host/{IQN}/0",
        f"iscsi://me:12/{IQN}/0?{SECRET}@host/{IQN}/0",
        f"iscsi://me:12/{IQN}/0?timeout={SECRET}@host/{IQN}/0",
        f"iscsi://me:p@{SECRET}@host/{IQN}/0",
        f"iscsi:me:{SECRET}@host/{IQN}/0",
        f"me:{SECRET}@host",
        f"iscs://me:{SECRET}@host/{IQN}/0",
        f"{SECRET}@host",
    ],
)
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SwdError) as caught:
        parse_dev(text)
    error: BaseException | None = caught.value
    shown = "".join(traceback.format_exception_only(caught.value))
    while error is not None:
        shown += f"{error} {error!r} {error.args!r} {vars(error)!r}"
        error = error.__context__ or error.__cause__
    assert SECRET not in shown


def test_the_refusal_names_the_ways_that_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"secret_file=.*SWD_CHAP_SECRET.*keyring.*prompt.*swd\.Chap"):
        parse_dev(f"iscsi://me:{SECRET}@host/{IQN}/0")


HOSTS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True),
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
)
TARGETS = st.from_regex(r"iqn\.20[0-9]{2}-0[1-9]\.[a-z]{1,10}(:[a-zA-Z0-9._@-]{0,30})?", fullmatch=True)
USERS = st.none() | st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=20)
SETTINGS = st.dictionaries(st.sampled_from(["timeout", "login_timeout", "queue_depth"]), st.integers(1, 99).map(str))


@given(HOSTS, st.integers(1, 65535), TARGETS, st.integers(0, 2**64 - 1), USERS, SETTINGS)
def test_any_unit_comes_back(
    host: str, port: int, target: str, lun: int, user: str | None, settings: dict[str, str]
) -> None:
    dev = IscsiDev(Portal(host, port), target, lun, user, tuple(settings.items()))
    assert parse_dev(str(dev)) == dev
    assert dev.settings == settings | ({} if user is None else {"user": user})


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=40))
def test_any_path_comes_back(path: str) -> None:
    assert parse_dev(str(FileDev(path))) == FileDev(path)


@given(st.integers(1, 2**30), st.sampled_from([512, 4096]), st.none() | st.just("a&b=c?d#e"))
def test_any_memory_comes_back(blocks: int, block_size: int, name: str | None) -> None:
    dev = MemDev(blocks * block_size, block_size, name)
    assert parse_dev(str(dev)) == dev


PREFIXES = ("", "iscsi://", "iscsi://h/" + IQN + "/", "mem://", "file://", "lvm://", "wwid:", "fault://?plan=x&on=")


@given(st.sampled_from(PREFIXES), st.text(max_size=40))
def test_any_text_is_a_device_or_an_error_of_ours(prefix: str, rest: str) -> None:
    try:
        dev = parse_dev(prefix + rest)
    except SwdError:
        return
    assert parse_dev(str(dev)) == dev


@pytest.mark.parametrize(
    ("text", "portal"),
    [
        ("host", Portal("host")),
        ("host:99", Portal("host", 99)),
        ("[::1]", Portal("::1")),
        ("[fe80::1%eth0]:99", Portal("fe80::1%eth0", 99)),
        ("[fe80::1%25eth0]:99", Portal("fe80::1%eth0", 99)),
        ("::1", Portal("::1")),
        ("fe80::1%eth0", Portal("fe80::1%eth0")),
        ("fe80::1%25eth0", Portal("fe80::1%eth0")),
    ],
)
def test_portals(text: str, portal: Portal) -> None:
    assert parse_portal(text) == portal
    assert parse_portal(str(portal)) == portal


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":99",
        "host:",
        "host:65536",
        "host:+1",
        "a b",
        "h\u00f6st",
        "[host]:1",
        "[::1",
        "[::1]x",
        "::1%",
        "fe80::1%25",
        "[fe80::1%2525]:1",  # a scope by this name could not be told from a '%' that is written as in a URL
        "1.2.3",
        "-h",
        "a/b",
        "a\n",
    ],
)
def test_text_that_is_no_portal(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no portal") as caught:
        parse_portal(text)
    assert str(caught.value).isprintable()


def test_a_portal_repeats_no_password() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_portal(f"me:{SECRET}@host")
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(("text", "tpgt"), [("192.0.2.1:3260,1", 1), ("192.0.2.1,65535", 65535), ("[::1]:3260", None)])
def test_target_addresses(text: str, tpgt: int | None) -> None:
    assert parse_target_address(text).tpgt == tpgt


@pytest.mark.parametrize("text", ["192.0.2.1,", "192.0.2.1,x", "192.0.2.1,65536", "192.0.2.1,1,2", ",1", "\x1b[2J"])
def test_target_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_target_address(text)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("4k", 4096), ("64M", 64 << 20), ("1GiB", 1 << 30), ("2TB", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5M", "1MM", "0x10", "9999999999T", "\u0661"])
def test_text_that_is_no_size(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:3260", "storage.example:3260", "[2001:db8::1]:3260", "box:1"])
def test_a_portal_is_no_device_name_and_is_told_so(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"is a portal.*swdctl discover {re.escape(text)}"):
        parse_dev(text)


@pytest.mark.parametrize("text", ["192.0.2", "mem:64", "isw:1", "a:b", "x", "iscsi:3260"])
def test_what_is_no_portal_is_not_called_one(text: str) -> None:
    with pytest.raises(SwdError) as caught:
        parse_dev(text)
    assert "is a portal" not in caught.value.reason
