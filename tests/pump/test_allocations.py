# SPDX-License-Identifier: Apache-2.0
"""No I/O of a batch, a stream or a plain call asks the heap for memory, neither here nor in the embedded target."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHORT, LONG = 512, 4608
FEW = (LONG - SHORT) // 50  # of whatever else happens in a process: the session's keeper asks twice whenever it looks

PROGRAM = """
import ctypes, json, sys
import numpy as np
import swd
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME, SIZE, SHORT, LONG = "iqn.2026-01.org.example:heap", 4096, *map(int, sys.argv[1:3])
allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_ulong
options = dict.fromkeys(("header_digest", "data_digest"), sys.argv[3])
space, one = np.ones((LONG, SIZE), np.uint8), bytearray(SIZE)
places = np.arange(LONG, dtype=np.int64) * SIZE
numbers = places.tolist()

def straight(count):
    for place in numbers[:count]:
        disk.pread_into(one, place)

def straight_writes(count):
    for place in numbers[:count]:
        disk.pwrite(one, place)

def stream(count):
    for _ in disk.stream(places[:count], SIZE, queue_depth=32):
        pass

def control(count):
    for place in numbers[:count]:
        disk.pread(SIZE, place)

ways = {
    "read_many": lambda count: disk.read_many(places[:count], SIZE, space[:count], queue_depth=32),
    "write_many": lambda count: disk.write_many(places[:count], space[:count], queue_depth=32),
    "stream": stream,
    "pread_into": straight,
    "pwrite": straight_writes,
    "control": control,
}
found = {}
with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(LONG * SIZE))})]) as server:
    with swd.open(f"iscsi://{server.portal}/{NAME}/0", "r+b", **options) as disk:
        for way, call in ways.items():
            asked = []
            for count in (LONG, SHORT, LONG):
                before = allocations()
                call(count)
                asked.append(allocations() - before)
            found[way] = asked[2] - asked[1]
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the counter stands before glibc's malloc")
@pytest.mark.parametrize("digests", ["none", "crc32c!"])
def test_the_heap_is_not_asked_for_each_io(tmp_path: Path, digests: str) -> None:
    """Target and initiator in one process. A `pread`, whose bytes are new, shows that the counter counts."""
    library, cc = tmp_path / "allocations.so", os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*shlex.split(cc), "-O1", "-shared", "-fPIC", HERE / "allocations.c", "-o", library]
    subprocess.run(command, check=True, timeout=60)
    command = [sys.executable, "-c", PROGRAM, str(SHORT), str(LONG), digests]
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONMALLOC", None)  # small objects of Python lie in its own pools
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout)
    assert asked.pop("control") > LONG - SHORT - FEW  # the keeper may look during the shorter run
    assert max(asked.values()) < FEW, asked
