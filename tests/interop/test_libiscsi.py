# SPDX-License-Identifier: Apache-2.0
"""Other people's initiator and swd on one embedded target, which is a process: what one writes, the other reads.

That libiscsi's tools and qemu-img get along with the target at all is in tests/target_server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import served
from support.process import run

import swd

SIZE = 8 << 20
SECRET = "a-secret-of-libiscsi"
LUNS = ("--lun", f"mem://{SIZE}", "--lun", f"mem://{SIZE}?block_size=4096")


@pytest.fixture(scope="module")
def target() -> Iterator[served.Served]:
    with served.serving(*LUNS) as target:
        yield target
        counts = target.stop()
        assert counts["protocol_errors"] == counts["digest_errors"] == 0


@pytest.mark.libiscsi
@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("0x00", r"Page:0x83"),
        ("0x80", r"Unit Serial Number:\[?\S+"),
        ("0x83", r"Designator Type:.*NAA"),
        ("0xb0", r"(?i)maximum unmap lba count:[1-9]"),
        ("0xb1", r"(?i)medium rotation rate"),
        ("0xb2", r"(?i)lbpu:1"),
    ],
)
def test_iscsi_inq_vital_product_data(target: served.Served, page: str, words: str) -> None:
    assert re.search(words, run("iscsi-inq", "-e", "1", "-c", str(int(page, 0)), target.url()))


@pytest.mark.libiscsi
def test_iscsi_perf(target: served.Served) -> None:
    said = run("iscsi-perf", "-m", "32", "-b", "8", "-t", "2", "-r", target.url(), timeout=30)
    assert int(re.findall(r"iops average (\d+)", said)[-1]) > 100
    assert "rror" not in said


@pytest.mark.libiscsi
def test_chap_of_libiscsi() -> None:
    options = ("--user", "libiscsi", "--target-user", "target", "--header-digest", "require")
    secrets = {"SWD_CHAP_SECRET": SECRET, "SWD_CHAP_TARGET_SECRET": "a-secret-of-the-target"}
    with served.serving(*LUNS, *options, **secrets) as target:
        mutual = "target_user=target&target_password=a-secret-of-the-target&header_digest=crc32c"
        assert "DIRECT_ACCESS" in run("iscsi-inq", f"{target.url(user=f'libiscsi%{SECRET}')}?{mutual}")
        with pytest.raises(AssertionError, match=r"(?i)auth"):
            run("iscsi-inq", target.url(user="libiscsi%another-secret-it-is"))
        counts = target.stop()
    assert (counts["logins"], counts["login_failures"]) == (1, 1)
    assert counts["header_digests_checked"] > 1


@pytest.mark.qemu
@pytest.mark.parametrize(("lun", "block_size"), [(0, 512), (1, 4096)])
def test_qemu_img_converts_both_ways(target: served.Served, tmp_path: Path, lun: int, block_size: int) -> None:
    facts = json.loads(run("qemu-img", "info", "-f", "raw", "--output=json", target.url(lun)))
    assert facts["virtual-size"] == SIZE
    mine, got = tmp_path / "mine.raw", tmp_path / "got.raw"
    mine.write_bytes(os.urandom(SIZE // 2) + bytes(SIZE // 2))  # zeros take another way: WRITE SAME, UNMAP
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(mine), target.url(lun))
    with swd.open(target.url(lun), "r+b") as disk:
        assert disk.block_size == block_size
        assert disk.pread(SIZE, 0) == mine.read_bytes()
        wrote = os.urandom(SIZE)
        disk.pwrite(wrote, 0)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", target.url(lun), str(got))
    assert got.read_bytes() == wrote
