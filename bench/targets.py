# SPDX-License-Identifier: Apache-2.0
"""The targets of `make bench`: each one process with two RAM LUNs, LUN 0 to read and LUN 1 to write.

Every 8 bytes of a LUN hold their own byte offset, with a generation in the high 16 bits (0 on LUN 0), so that a block
from another place, or of another time, is seen.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB = 1 << 20
LUN_SIZE = 128 * MIB


def pattern(offset: int, length: int, generation: int = 0) -> np.ndarray:
    """What `length` bytes at `offset` hold, as uint8; both are multiples of 8."""
    return (np.arange(offset, offset + length, 8, np.int64) + (generation << 48)).view(np.uint8)


@dataclass(frozen=True)
class Served:
    """A running target: DEVs of the LUN to read and of the LUN to write, the process, and what it is."""

    reads: str
    writes: str
    pid: int
    about: str


@contextlib.contextmanager
def embedded(cpu: int | None, scratch: Path, *, spin_us: int = 0) -> Iterator[Served]:
    """swd's own target, pinned to a core if one is named: set up as a fast target is, since it limits everybody."""
    serve = [*pinned(cpu), sys.executable, "-I", "-m", "swd.target", "--portal", "127.0.0.1:0"]
    serve += ["--spin-us", str(spin_us), "--huge-pages", "--first-burst-length", str(MIB)]
    serve += ["--queue-depth", "256"]  # the window: the deepest cell of bench/shapes.py
    serve += ["--lun", f"mem://{LUN_SIZE // MIB}M"] * 2
    with (scratch / "target.log").open("w") as log:
        process = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"iscsi://\S+/0", line := process.stdout.readline())
        if found is None:
            raise SystemExit(f"the embedded target did not start: {line}{(scratch / 'target.log').read_text()}")
        about = "swd's embedded target, RAM LUNs in huge pages, FirstBurstLength 1 MiB"
        about += f", spinning {spin_us} us" if spin_us else ""
        yield Served(found[0], found[0][:-1] + "1", process.pid, about)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def tgtd(cpu: int | None, scratch: Path) -> Iterator[Served]:
    """tgtd with files in /dev/shm. Its own digests are never judged: its CRC is what limits them."""
    name, port, folder = "iqn.2026-01.org.swd:bench", 3299, tempfile.mkdtemp(prefix="swd-bench-", dir="/dev/shm")
    environment = {**os.environ, "TGT_IPC_SOCKET": str(scratch / "tgt")}
    with (scratch / "tgtd.log").open("w") as log:
        serve = [*pinned(cpu), "tgtd", "-f", "--iscsi", f"portal=127.0.0.1:{port}"]
        process = subprocess.Popen(serve, stdout=log, stderr=log, env=environment, start_new_session=True)

    def admin(*words: str) -> int:
        command = ["tgtadm", "--lld", "iscsi", *words]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    try:
        limit = time.monotonic() + 15
        while admin("--mode", "target", "--op", "new", "--tid", "1", "--targetname", name):
            if process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"tgtd did not start: {(scratch / 'tgtd.log').read_text()[-500:]}")
            time.sleep(0.05)
        for lun in (1, 2):
            path = Path(folder, f"lun{lun}")
            with path.open("wb") as file:
                file.truncate(LUN_SIZE)
            admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", str(lun), "-b", str(path))
        admin("--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "ALL")
        dev = f"iscsi://127.0.0.1:{port}/{name}"
        yield Served(f"{dev}/1", f"{dev}/2", process.pid, "tgtd, files in /dev/shm")
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ignores SIGTERM
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def fill(served: Served) -> None:
    """Put the pattern on both LUNs."""
    import swd

    for dev in (served.reads, served.writes):
        with swd.open(dev, "r+b") as disk:
            for at in range(0, LUN_SIZE, 8 * MIB):
                disk.pwrite(pattern(at, 8 * MIB), at)


def pinned(cpu: int | None) -> list[str]:
    """The words before a command that hold it to a core."""
    return [] if cpu is None else ["taskset", "-c", str(cpu)]


def libiscsi_terms(served: Served) -> dict[str, object]:
    """What libiscsi negotiates with a target, from its own debug log. What it declares itself is a constant of 1.19."""
    debug = {**os.environ, "LIBISCSI_DEBUG": "6"}
    ended = subprocess.run(["iscsi-inq", served.reads], env=debug, capture_output=True, text=True, check=False)
    told = dict(re.findall(r"TargetLoginReply: (\w+)=(\w+)", ended.stdout + ended.stderr))
    if not told:
        return {}
    return {
        "max_recv_data_segment_length": 262144,
        "target_max_recv_data_segment_length": int(told.get("MaxRecvDataSegmentLength", 8192)),
        "max_burst_length": int(told.get("MaxBurstLength", 262144)),
        "first_burst_length": int(told.get("FirstBurstLength", 65536)),
        "initial_r2t": told.get("InitialR2T") == "Yes",
        "immediate_data": told.get("ImmediateData") != "No",
        "header_digest": told.get("HeaderDigest") == "CRC32C",
        "data_digest": told.get("DataDigest") == "CRC32C",
    }
