# SPDX-License-Identifier: Apache-2.0
"""`read`, `write`, `copy` and `ioctl` on local devices: bytes, statuses, and what is left behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from swd.cli.stream import CHUNK

MIB = 1 << 20
Ctl = Callable[..., Any]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Three MiB of random bytes, and nothing that the guard knows."""
    path = tmp_path / "image"
    path.write_bytes(b"\0" * 65536 + os.urandom(3 * MIB - 65536))
    return path


def blank(path: Path, size: int = 4 * MIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_read_to_a_file(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = ctl("read", str(image), "--offset", "1M", "--length", "1000001", "-o", str(out), "--json")
    assert (ended.status, ended.err) == (0, "")
    assert out.read_bytes() == image.read_bytes()[MIB : MIB + 1000001]
    record = json.loads(ended.out)
    assert (record["length_bytes"], record["destination"]) == (1000001, str(out))


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_file_whose_name_is_no_utf_8(process: Ctl, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = blank(tmp_path / "disk\udcff")
    ended = process("info", str(path), *words)
    assert (ended.status, ended.err) == (0, "")
    assert r"disk\udcff" in ended.out
    path.unlink()
    ended = process("info", str(path), *words)
    assert ended.status == errno.ENXIO
    assert "disk" in ended.out + ended.err


def test_read_to_stdout_is_the_bytes_alone(process: Ctl, image: Path) -> None:
    ended = process("read", str(image))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.encode("latin-1") == image.read_bytes()
    ended = process("read", str(image), "--length", "10", "--json")
    assert ended.out.encode("latin-1") == image.read_bytes()[:10]
    assert json.loads(ended.err)["length_bytes"] == 10


@pytest.mark.parametrize("words", [("--offset", "4M"), ("--length", "4M"), ("--offset", "3M", "--length", "1")])
def test_read_past_the_end_makes_no_file(ctl: Ctl, image: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = ctl("read", str(image), *words, "-o", str(tmp_path / "out"))
    assert ended.status == errno.EIO
    assert "ends at byte 3145728" in ended.err
    assert list(tmp_path.iterdir()) == [image]


def test_a_device_that_is_not_there_is_enxio_and_makes_no_file(ctl: Ctl, tmp_path: Path) -> None:
    ended = ctl("read", str(tmp_path / "gone"), "-o", str(tmp_path / "out"))
    assert (ended.status, ended.out) == (errno.ENXIO, "")
    assert 1 <= ended.err.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


def test_a_device_name_that_is_none(ctl: Ctl) -> None:
    assert ctl("info", "nonsense").status == errno.EINVAL
    assert ctl("info", "ftp://x/y").status == errno.ENODEV


def test_a_password_in_a_url_is_refused_and_never_repeated(ctl: Ctl) -> None:
    for verb in (("info",), ("read",), ("copy", "mem://1M"), ("demo",)):
        ended = ctl(*verb, "iscsi://user:sentinel-secret@192.0.2.1/iqn.2026-01.org.example:x/0")
        assert ended.status == errno.EINVAL
        assert "sentinel" not in ended.out + ended.err
        assert "password" in ended.err


def test_write_from_a_file_and_back(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    device = blank(tmp_path / "device")
    ended = ctl("write", str(device), "--offset", "4096", "-i", str(image))
    assert (ended.status, ended.err) == (0, "")
    assert device.read_bytes()[4096 : 4096 + 3 * MIB] == image.read_bytes()
    assert device.stat().st_size == 4 * MIB


def test_write_from_a_pipe(process: Ctl, tmp_path: Path) -> None:
    device, data = blank(tmp_path / "device"), os.urandom(MIB + 1)
    assert process("write", str(device), stdin=data).status == 0
    assert device.read_bytes()[: MIB + 1] == data


def test_an_input_that_is_not_there_is_enoent(ctl: Ctl, tmp_path: Path) -> None:
    ended = ctl("write", str(blank(tmp_path / "device")), "-i", str(tmp_path / "gone"))
    assert ended.status == errno.ENOENT
    assert str(tmp_path / "gone") in ended.err


@pytest.mark.parametrize("verb", ["write", "copy"])
def test_what_does_not_fit_is_refused_whole(ctl: Ctl, tmp_path: Path, verb: str) -> None:
    image, device = tmp_path / "image", blank(tmp_path / "device", CHUNK + MIB)
    image.write_bytes(bytes(MIB) + b"x" * (CHUNK + MIB))  # the first chunk alone would fit
    words = ("write", str(device), "-i", str(image)) if verb == "write" else ("copy", str(image), str(device))
    assert ctl(*words).status == errno.ENOSPC
    assert not any(device.read_bytes())


@pytest.mark.parametrize("magic", [(0, b"XFSB"), (510, b"\x55\xaa"), (1080, b"\x53\xef"), (536 - 24, b"LABELONE")])
@pytest.mark.parametrize("verb", ["write", "copy", "ioctl"])
def test_the_guard_refuses_until_it_is_overruled(
    ctl: Ctl, image: Path, tmp_path: Path, verb: str, magic: tuple[int, bytes]
) -> None:
    device = blank(tmp_path / "device")
    with device.open("r+b") as file:
        file.seek(magic[0])
        file.write(magic[1])
    before = device.read_bytes()
    words = {
        "write": ("write", str(device), "-i", str(image)),
        "copy": ("copy", str(image), str(device)),
        "ioctl": ("ioctl", str(device), "BLKZEROOUT", "offset=0", "length=64K"),
    }[verb]
    ended = ctl(*words)
    assert ended.status == errno.EBUSY
    assert "--overwrite" in ended.err
    assert device.read_bytes() == before
    assert ctl(*words, "--overwrite").status == 0
    assert not any(device.read_bytes()[:65536])


def test_copy_to_a_device_verified(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    device = blank(tmp_path / "device")
    ended = ctl("copy", str(image), str(device), "--verify", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["verified"] is True
    assert device.read_bytes()[: 3 * MIB] == image.read_bytes()


@pytest.mark.parametrize("way", ["", "file://", "link", "hard link", "fault"])
def test_copy_onto_itself_is_refused_by_whatever_name(ctl: Ctl, image: Path, tmp_path: Path, way: str) -> None:
    before, other = image.read_bytes(), tmp_path / "other"
    (tmp_path / "plan.toml").write_text("")
    name = str(other)
    if way == "link":
        other.symlink_to(image)
    elif way == "hard link":
        other.hardlink_to(image)
    elif way == "fault":
        name = f"fault://?plan={quote(str(tmp_path / 'plan.toml'), safe='')}&on={quote(str(image), safe='')}"
    else:
        name = f"{way}{image}"
    ended = ctl("copy", str(image), name, "--force", "--overwrite")
    assert (ended.status, ended.out) == (errno.EINVAL, "")
    assert "the same place" in ended.err
    assert image.read_bytes() == before


@pytest.mark.parametrize("verify", [(), ("--verify",)])
def test_copy_makes_a_file_that_is_not_there(ctl: Ctl, image: Path, tmp_path: Path, verify: tuple[str, ...]) -> None:
    for name in ("fresh", "empty"):
        (tmp_path / "empty").touch()
        assert ctl("copy", str(image), str(tmp_path / name), *verify).status == 0
        assert (tmp_path / name).read_bytes() == image.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "fresh", "image"]


def test_copy_through_pipes(process: Ctl, image: Path, tmp_path: Path) -> None:
    ended = process("copy", str(image), "-")
    assert ended.out.encode("latin-1") == image.read_bytes()
    ended = process("copy", "-", str(tmp_path / "new"), "--verify", stdin=image.read_bytes())
    assert (ended.status, ended.err) == (0, "")
    assert (tmp_path / "new").read_bytes() == image.read_bytes()


def test_the_first_failure_in_the_order_of_the_arguments(ctl: Ctl, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert ctl("copy", gone, "nonsense").status == errno.ENXIO
    assert ctl("copy", "nonsense", gone).status == errno.EINVAL
    assert ctl("write", gone, "-i", gone).status == errno.ENXIO
    assert list(tmp_path.iterdir()) == []


def test_ioctls(ctl: Ctl, image: Path) -> None:
    assert json.loads(ctl("ioctl", str(image), "BLKGETSIZE64", "--json").out)["result"] == 3 * MIB
    assert json.loads(ctl("ioctl", str(image), "0x1268", "--json").out)["result"] == 512
    assert ctl("ioctl", str(image), "BLKNONSENSE").status == errno.ENOTTY
    assert "version" in json.loads(ctl("ioctl", "isw:", "SWD_VERSION", "--json").out)["result"]
    assert ctl("ioctl", str(image), "BLKFLSBUF").status == 0


def test_the_list_of_ioctls_is_the_drivers_table(ctl: Ctl) -> None:
    from swd.driver.ioctl import TABLE

    rows = json.loads(ctl("ioctl", "--list", "--json").out)
    assert [row["request"] for row in rows] == [entry.request.name for entry in TABLE]
    text = ctl("ioctl", "--list").out
    assert all(entry.doc in text for entry in TABLE)


def test_info_of_a_local_device(ctl: Ctl, image: Path) -> None:
    record = json.loads(ctl("info", str(image), "--json").out)
    assert (record["size_bytes"], record["block_size"], record["session"]) == (3 * MIB, 512, None)
    assert "3 MiB" in ctl("info", str(image)).out


def test_info_of_the_build(ctl: Ctl) -> None:
    import swd
    from swd import _crc32c

    record = json.loads(ctl("info", "--build", "--json").out)
    assert record["crc_kernel"] == _crc32c.kernel()
    assert record["crc_kernel"] in record["crc_kernels"]
    assert os.path.samefile(record["imported_from"], swd.__file__)
    assert record["version"] == swd.__version__


def test_phase_verbs(ctl: Ctl, image: Path) -> None:
    remote = "iscsi://192.0.2.1/iqn.2026-01.org.example:x/0"
    assert json.loads(ctl("phase", "show", "--json").out)["phase"] == "network-attempted"
    ended = ctl("phase", "begin")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert json.loads(ctl("phase", "show", "--json").out)["phase"] == "pre-network"
    out = str(image.parent / "out")
    for words in (
        ("discover", "192.0.2.1"),
        ("info", remote),
        ("read", remote, "-o", out),
        ("write", remote, "-i", str(image)),
        ("copy", remote, out),
        ("copy", str(image), remote, "--json"),
        ("ioctl", remote, "BLKGETSIZE64"),
    ):
        ended = ctl(*words)
        assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", ""), words
    assert not Path(out).exists()
    for words in (("info", str(image)), ("ioctl", "isw:", "SWD_VERSION"), ("info", "--build"), ("ioctl", "--list")):
        assert ctl(*words).status == 0, words
    assert ctl("phase", "complete").status == 0
    assert ctl("phase", "begin").status == errno.EALREADY
    assert ctl("phase", "begin", "--force").status == 0


def test_a_folder_that_is_not_there_is_named(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    ended = ctl("copy", str(image), str(tmp_path / "none" / "x"))
    assert ended.status == errno.ENOENT
    assert ended.err == f"swdctl: {tmp_path}/none/x: there is no folder {tmp_path}/none\n"


def test_a_copy_that_ends_early_says_how_far_it_came(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    device, plan = blank(tmp_path / "device", 24 * MIB), tmp_path / "plan.toml"
    with image.open("r+b") as file:
        file.truncate(20 * MIB)
    plan.write_text('[[fault]]\ndo = "check_condition"\nsense = "3/11/00"\nlba = "36000-"\n')
    name = f"fault://?plan={quote(str(plan), safe='')}&on={quote(str(device), safe='')}"
    ended = ctl("copy", str(image), name)
    assert ended.status == errno.EIO
    assert ended.err.startswith(f"swdctl: {name} is not complete, 16 MiB had been written: ")
