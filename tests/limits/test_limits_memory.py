# SPDX-License-Identifier: Apache-2.0
"""Memory runs out in the middle of batches (RLIMIT_AS): what needs none goes on, what needs it says so, and the session
lives on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.process import environment
from support.served import Served, serving

PREAMBLE = """
import errno, gc, os, resource, sys, threading
import numpy as np
import swd
from swd.driver import Driver

SIZE, COUNT = 4096, 4096
READ_16 = b"\\x88" + bytes(9) + (32768).to_bytes(4, "big") + bytes(2)
offsets = np.arange(0, SIZE * COUNT, SIZE, dtype=np.int64)
data = np.zeros((COUNT, SIZE), np.uint8)
data[:, 0] = np.arange(COUNT) % 251
out = np.zeros_like(data)

def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

class tight:
    \"\"\"No more than `spare` bytes of address space may come.\"\"\"
    def __init__(self, spare):
        self.spare = spare
    def __enter__(self):
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (used() + self.spare, resource.RLIM_INFINITY))
    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def fails(call):
    try:
        call()
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

disk = swd.open(sys.argv[1], "r+b")
disk.read_many(offsets[:64], SIZE)
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://64M", "--lun", "mem://64M") as target:
        yield target


def said(served: Served, program: str) -> list[str]:
    words = [sys.executable, "-c", PREAMBLE + program, served.url(), served.url(1)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def test_batches_need_no_memory_of_their_own(served: Served) -> None:
    """32 MiB each way with not a page to spare: a batch works in the caller's buffers."""
    program = """
with tight(0):
    disk.write_many(offsets, data)
    disk.read_many(offsets, SIZE, out)
print((out == data).all())
"""
    assert said(served, program) == ["True"]


def test_memory_runs_out_while_a_batch_is_under_way(served: Served) -> None:
    """In another thread of it; both the batch and who has no memory end well."""
    program = """
def work():
    for _ in range(4):
        out[:] = 0
        disk.write_many(offsets, data)
        disk.read_many(offsets, SIZE, out)
        ends.append(memoryview(out.reshape(-1)) == memoryview(data.reshape(-1)))  # compares where they are
ends, refused = [], set()
thread = threading.Thread(target=work)
thread.start()
with tight(1 << 20):
    while thread.is_alive():
        refused.add(fails(lambda: disk.pread(48 << 20, 0)))
        thread.join(0.05)
print(len(ends), all(ends), sorted(refused))
print(disk.pread(1, SIZE) == bytes([1]))
"""
    assert said(served, program) == ["4 True ['MemoryError']", "True"]


def test_every_call_that_needs_memory_says_so_and_the_next_one_works(served: Served) -> None:
    program = """
disk.write_many(offsets, data)
driver = Driver()
fd = driver.open(sys.argv[1], os.O_RDWR)
session = disk.unit.session
def opened():
    swd.open(sys.argv[2]).close()
calls = {
    "pread": lambda: disk.pread(48 << 20, 0),
    "unaligned": lambda: disk.pread(40 << 20, 3),
    "read_many": lambda: disk.read_many(offsets, SIZE),
    "execute": lambda: session.execute(READ_16, lun=0, data_in=16 << 20),
    "driver": lambda: driver.pread(fd, 48 << 20, 0),
}
opened()
before = len(os.listdir("/proc/self/fd"))
for name, call in calls.items():
    with tight(1 << 20):
        end = fails(call)
        alive = disk.pread(1, SIZE) == driver.pread(fd, SIZE, SIZE)[:1] == bytes([1])
    print(name, end, alive, fails(call))
# At every amount of memory an open either works, or fails and leaves nothing behind.
ends = set()
for spare in range(0, 2 << 20, 128 << 10):
    with tight(spare):
        ends.add(fails(opened))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before, spare
print(sorted(ends), disk.pread(1, SIZE) == bytes([1]))
"""
    assert said(served, program) == [
        "pread MemoryError True done",
        "unaligned MemoryError True done",
        "read_many MemoryError True done",
        "execute MemoryError True done",
        "driver MemoryError True done",
        "['MemoryError', 'done'] True",
    ]
