# SPDX-License-Identifier: Apache-2.0
"""The fast paths, every byte looked at: `tools/full_speed.py` is the same with more of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import fullspeed, served
from support.process import run

import swd

SIZE = 24 << 20
DIGESTS = {"header_digest": "crc32c!", "data_digest": "crc32c!"}


@pytest.fixture
def target() -> Iterator[served.Served]:
    with served.serving("--lun", f"mem://{SIZE}") as target:
        yield target
        counts = target.stop()
        assert counts["protocol_errors"] == counts["digest_errors"] == 0


def test_known_patterns_at_queue_depth_128_with_digests(target: served.Served) -> None:
    with swd.open(target.url(), "r+b", queue_depth=fullspeed.QUEUE_DEPTH, **DIGESTS) as disk:
        unit: Any = disk.unit
        assert unit.session.parameters.header_digest
        assert unit.session.parameters.data_digest
        fullspeed.write_all(disk)
        for size in (512, 4096, 65536, 1 << 20):
            fullspeed.read_many(disk, SIZE, size)
            fullspeed.stream(disk, SIZE, size)
        disk.pwrite(disk.pread(8, 0), SIZE - 8)  # one word of another place
        with pytest.raises(AssertionError, match=rf"wrong bytes at \[{SIZE - 512}\], 1 in all"):
            fullspeed.check("", [SIZE - 512], np.frombuffer(disk.pread(512, SIZE - 512), np.uint8), 512)
    counts = target.stop()
    assert counts["data_digests_checked"] >= SIZE // fullspeed.BLOCK
    assert counts["header_digests_checked"] >= SIZE // 512


@pytest.mark.parametrize("digests", [False, True], ids=["plain", "digests"])
def test_two_threads_and_asyncio_on_one_session(target: served.Served, digests: bool) -> None:
    options = DIGESTS if digests else {}
    with swd.open(target.url(), "r+b", queue_depth=fullspeed.QUEUE_DEPTH, **options) as disk:
        done = fullspeed.share(disk, 0.3)
        assert min(done.values()) > 0
        assert len(done) == 3
    counts = target.stop()
    assert counts["logins"] == 1
    assert counts["pdus_in"]["SCSI_COMMAND"] >= sum(done.values())


@pytest.mark.qemu
def test_what_was_written_in_batches_is_read_by_qemu_img(target: served.Served, tmp_path: Path) -> None:
    with swd.open(target.url(), "r+b", queue_depth=fullspeed.QUEUE_DEPTH, **DIGESTS) as disk:
        fullspeed.write_all(disk, generation=3)
    got = tmp_path / "got.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", target.url(), str(got))
    fullspeed.check("qemu-img", [0], np.fromfile(got, np.uint8), SIZE, 3)
