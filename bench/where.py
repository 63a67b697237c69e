# SPDX-License-Identifier: Apache-2.0
"""Where the CPU time of swd's process goes: `perf record` over one way to call it, its symbols put into groups.

    python bench/where.py                                     # 4 KiB reads at queue depth 32, read_many
    python bench/where.py --size 1M --depth 8 [--write] [--digests]
    python bench/where.py --way uvloop --depth 128

A table in Markdown for docs/fastpath.md. The target is an embedded one on the other core. perf must be installed and
may trace; kernel symbols need root.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import uvloop
from instructions import in_loop, readable
from peers import BOTH, NEITHER
from shapes import size_text
from targets import embedded, pinned
from turns import cores, move

import swd
from swd.proto.units import parse_size

ROOM = 8 << 20  # bytes of a batch

# The first group whose pattern is found in "object symbol" has the sample.
WAKING = r"finish_task_switch|_*schedule|try_to_wake|.*unlock_irqrestore|default_idle|futex|dequeue|enqueue|pick_next"
WAKING += r"|update_curr|hrtimer|ttwu|select_task|wait_woken|.*wait_data"
PACKETS = (
    r"_*tcp|_*ip|_*skb|_*sk_|_*sock|_*inet|_*net|loopback|_*dev_|_*kfree|_*kmalloc|_*kmem|.*alloc|_*napi|bbr|cubic"
)
PACKETS += r"|process_backlog|.*softirq|.*page|__virt_addr|.*object_size"
GROUPS: Final = (
    ("kernel: copying data", r"kernel.* (_copy_(to|from)_iter|copy_(user|to|from)|rep_movs|memcpy|clear_page)"),
    ("kernel: sleeping and waking", rf"kernel.* ({WAKING})"),
    ("kernel: TCP, sockets, memory of packets", rf"kernel.* ({PACKETS})"),
    ("kernel: the rest", r"kernel|vdso|\[k\]"),
    ("copying into the caller's buffer", r"libc.* .*mem(move|cpy|set)"),
    ("CRC32C", r"_crc32c"),
    ("swd: engine", r"_engine\."),
    ("swd: pump, batches, straight reads, futures", r"(_fastpath|_straight|_asyncqueue)\."),
    ("Python: interpreter, loop, NumPy", r"(python|uvloop|numpy|_asyncio|openblas)"),
    ("libc: the rest, system calls' entries", r"libc|ld-linux|libpthread"),
)


def group_of(sample: str) -> str:
    return next((name for name, pattern in GROUPS if re.search(pattern, sample)), "other")


def samples(data: Path) -> Counter[str]:
    """How often each "object symbol" was found on the CPU."""
    script = ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    found: Counter[str] = Counter()
    for line in told.splitlines():
        parts = re.match(r"\s*[0-9a-f]+ (.+) \((.+)\)\s*$", line)
        if parts:
            found[f"{Path(parts[2]).name} {parts[1]}"] += 1
    return found


def child(url: str, way: str, size: int, depth: int, write: bool, seconds: float) -> None:
    """What is looked at: I/Os by one way, and nothing else, for some seconds. Says "go", and in the end what it did."""
    count = max(4 * depth, min(4096, ROOM // size))
    with swd.open(url, "r+b" if write else "rb", queue_depth=max(32, depth)) as disk:
        offsets = (np.arange(count, dtype=np.int64) * 7919 % (disk.size // size)) * size
        numbers, one = offsets.tolist(), bytearray(size)
        space = np.zeros((depth if write else count, size), np.uint8)  # of writes it is used over and over
        call = disk.pwrite if write else disk.pread_into
        loop = uvloop.new_event_loop() if way == "uvloop" else asyncio.new_event_loop()

        def once() -> None:
            if way == "sync":
                for offset in numbers:
                    call(one, offset)
            elif way == "stream":
                for _ in disk.stream(offsets, size, queue_depth=depth):
                    pass
            elif way != "batch":
                loop.run_until_complete(in_loop(url, write, size, depth, numbers * 8))
            elif write:
                disk.write_many(offsets, np.broadcast_to(space, (count // depth, depth, size)), queue_depth=depth)
            else:
                disk.read_many(offsets, size, space, queue_depth=depth)

        once()
        print("go", flush=True)
        done, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            once()
            done += count if way in ("batch", "stream", "sync") else 8 * count
        print(done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6, flush=True)


def recorded(command: list[str], data: Path) -> tuple[float, float]:
    """IOPS and CPU us an I/O of the child, whose samples are in `data` then."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        record = ["perf", "record", "-q", "-F", "4999", "-p", str(process.pid), "-o", str(data)]
        with subprocess.Popen(record) as recording:
            rate, cost = process.stdout.readline().split()
            recording.terminate()
    return float(rate), float(cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", default="batch", choices=("batch", "stream", "sync", "asyncio", "uvloop"))
    parser.add_argument("--size", type=parse_size, default=4096)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--digests", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = (arguments.way, arguments.size, arguments.depth, arguments.write, arguments.seconds)
    if arguments.child:
        child(arguments.child, *shape)
        return
    with tempfile.TemporaryDirectory() as scratch, embedded(None, Path(scratch)) as served:
        ours, theirs = cores()
        move(served.pid, theirs)
        keys = "&".join(f"{name}={value}" for name, value in (BOTH if arguments.digests else NEITHER).items())
        command = [*pinned(ours), sys.executable, *sys.argv, "--child", f"{served.writes}?{keys}"]
        rate, cost = recorded(command, Path(scratch, "perf.data"))
        found = samples(Path(scratch, "perf.data"))
    groups: Counter[str] = Counter()
    for sample, count in found.items():
        groups[group_of(sample)] += count
    total = sum(found.values())
    kind, digests = "writes" if arguments.write else "reads", ", both digests" if arguments.digests else ""
    print(f"{arguments.way}, {size_text(arguments.size)} {kind}, QD {arguments.depth}{digests}: ", end="")
    print(f"{rate:,.0f} IOPS, {cost:.2f} us CPU an I/O\n")
    print("| where | share | us an I/O | most of it |\n| --- | --- | --- | --- |")
    for name, count in groups.most_common():
        top = [readable(text.split(" ", 1)[1]) for text, _ in found.most_common() if group_of(text) == name][:3]
        print(f"| {name} | {count / total:.0%} | {cost * count / total:.3f} | {', '.join(f'`{one}`' for one in top)} |")


if __name__ == "__main__":
    main()
