# SPDX-License-Identifier: Apache-2.0
"""The fast paths with every byte looked at: `tools/full_speed.py [--mib N] [--seconds N]`, on both targets.

Known patterns at queue depth 128 by `read_many` and `stream`, with and without digests; two threads and an event loop
on one session; batches of writes that qemu-img reads back. What is done is tests/support/fullspeed.py, of which the
suite has a short form. Rates are those of swd's calls (of streams: with the comparison). Ends with 1 if a byte is
wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import swd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import fullspeed, served, tgt  # their folder is on the path only now
from support.process import run

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
UNIT = 96 * MIB
BOTH = {"header_digest": "crc32c!", "data_digest": "crc32c!"}
NEITHER = {"header_digest": "none", "data_digest": "none"}
NAME = "iqn.2026-01.org.example:full-speed."
WORDS = {False: "None", True: "CRC32C"}
Urls = dict[bool, str]  # by whether there are digests


def main() -> int:
    parser = argparse.ArgumentParser(description="fast paths on known patterns")
    parser.add_argument("--mib", type=int, default=1024, help="MiB that each row of reads moves and compares")
    parser.add_argument("--seconds", type=float, default=10, help="that threads and loop share a session")
    options = parser.parse_args()
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    print(f"swd {said.stdout.strip() or 'no commit'}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    with tempfile.TemporaryDirectory(prefix="swd-full-speed-") as name:
        folder = Path(name)
        for place in ("run", "state"):
            (folder / place).mkdir(mode=0o700)
        (folder / "swd.toml").touch()
        places = {"SWD_RUNTIME_DIR": "run", "SWD_STATE_DIR": "state", "SWD_CONFIG": "swd.toml"}
        os.environ.update({variable: str(folder / where) for variable, where in places.items()})
        os.chdir(folder)  # `python -m swd.target` shall find the installed swd, not the tree beside it
        try:
            for kind, target in (("embedded, in memory", _embedded), ("tgtd", _tgtd)):
                with target(folder) as urls:
                    _all(kind, urls, folder, options.mib * MIB, options.seconds)
        except AssertionError as error:
            print(f"FAILED: {error}")
            return 1
    print("every byte was right")
    return 0


@contextlib.contextmanager
def _embedded(_folder: Path) -> Iterator[Urls]:
    with served.serving("--lun", f"mem://{UNIT}") as target:
        yield dict.fromkeys((False, True), target.url())
        counts = target.stop()
        assert counts["protocol_errors"] == counts["digest_errors"] == 0, counts


@contextlib.contextmanager
def _tgtd(folder: Path) -> Iterator[Urls]:
    """It takes what one target is set to: so one for each."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(UNIT)
    with tgt.serving(folder) as daemon:
        for word in WORDS.values():
            daemon.add_target(f"{NAME}{word}".lower(), HeaderDigest=word, DataDigest=word)
            daemon.add_lun(f"{NAME}{word}".lower(), 1, image)
        yield {digests: f"iscsi://{daemon.portal}/{NAME}{word}/1".lower() for digests, word in WORDS.items()}


def _all(kind: str, urls: Urls, folder: Path, total: int, seconds: float) -> None:
    print(f"\n{kind}")
    for number, (wanted, url) in enumerate(urls.items()):
        digests, words = (BOTH, "both digests") if wanted else (NEITHER, "no digest")
        with swd.open(url, "r+b", queue_depth=fullspeed.QUEUE_DEPTH, **digests) as disk:
            agreed = disk.unit.session.parameters  # type: ignore[attr-defined]
            assert agreed.header_digest is agreed.data_digest is wanted
            rate = fullspeed.write_all(disk, generation=number)
            _say(f"write_many, QD 128, 4 KiB, {words}", rate, fullspeed.BLOCK, UNIT)
            for size in (4096, 65536):
                for way in (fullspeed.read_many, fullspeed.stream):
                    rate = way(disk, total, size, number)
                    _say(f"{way.__name__}, QD 128, {size >> 10} KiB, {words}", rate, size, total)
        _qemu(urls[False], folder, number)
        with swd.open(url, "r+b", queue_depth=fullspeed.QUEUE_DEPTH, **digests) as disk:
            done = fullspeed.share(disk, seconds)
            told = ", ".join(f"{name} {count:,}" for name, count in done.items())
            print(f"  one session, {words}, {seconds:.0f} s, I/Os compared: {told}")


def _say(what: str, rate: float, size: int, total: int) -> None:
    print(f"  {what:38} {rate:>10,.0f} IOPS {rate * size / 1e9:6.2f} GB/s, {total >> 20} MiB compared", flush=True)


def _qemu(url: str, folder: Path, generation: int) -> None:
    if not shutil.which("qemu-img"):
        print("  qemu-img is absent: make test-deps adds it")
        return
    got = folder / "got.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", url, str(got), timeout=100)
    fullspeed.check("qemu-img", [0], np.fromfile(got, np.uint8), UNIT, generation)
    print(f"  qemu-img read back all {UNIT >> 20} MiB that write_many wrote")


if __name__ == "__main__":
    sys.exit(main())
