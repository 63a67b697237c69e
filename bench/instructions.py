# SPDX-License-Identifier: Apache-2.0
"""Instructions per I/O, by valgrind's callgrind: a figure that other load on the machine does not move.

    .venv/bin/python bench/instructions.py                      # 4 KiB reads at queue depth 32, read_many
    .venv/bin/python bench/instructions.py --way sync --ios 2000
    .venv/bin/python bench/instructions.py --size 1M --queue-depth 8 --ios 512 --digests --write

The same program runs twice, with a short and with a long row of I/Os, against an embedded target outside valgrind; what
both runs have in common (starting Python, importing, login) goes away in the difference. Only the initiator's own
instructions in user space are counted: nothing of the kernel, nothing of the target. valgrind knows no AVX-512, so the
CRC kernel is named (`sse42`, see --crc), and with digests the figure is that kernel's.

Two runs of one build agree within about 1 %: how many PDUs one recv brings is up to the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from swd.proto.units import parse_size

LUN_MIB = 256
SHORT = 512  # I/Os of the short run: enough for every path to have been taken once
MOST = 1 << 16  # offsets that every run makes, so that making them goes away in the difference


def child(url: str, way: str, write: bool, size: int, depth: int, ios: int) -> None:
    """What runs under callgrind: `ios` I/Os at offsets that are the same in every run, one batch or call by call."""
    import numpy as np

    import swd

    with swd.open(url, "r+b" if write else "rb") as disk:
        places = disk.size // size
        offsets = (np.arange(MOST, dtype=np.int64) * 7919 % places) * size
        numbers, offsets = offsets.tolist(), offsets[:ios]
        del numbers[ios:]
        if way == "sync":
            one, call = bytearray(size), disk.pwrite if write else disk.pread_into
            for offset in numbers:
                call(one, offset)
        elif way == "asyncio":
            asyncio.run(in_loop(url, write, size, depth, numbers))
        elif way == "stream":
            for _ in disk.stream(offsets, size, queue_depth=depth):
                pass
        elif write:
            disk.write_many(offsets, bytes(ios * size), queue_depth=depth)
        else:
            disk.read_many(offsets, size, np.empty((ios, size), np.uint8), queue_depth=depth)


async def in_loop(url: str, write: bool, size: int, depth: int, offsets: list[int]) -> None:
    """`depth` tasks, each of which awaits one I/O after the other."""
    import swd.aio

    async with await swd.aio.open(url, "r+b" if write else "rb") as disk:
        todo = iter(offsets)

        async def worker() -> None:
            one = bytearray(size)
            for offset in todo:
                await (disk.pwrite(bytes(one), offset) if write else disk.pread_into(one, offset))

        await asyncio.gather(*(worker() for _ in range(depth)))


def counted(url: str, arguments: argparse.Namespace, ios: int, out: Path) -> Counter[str]:
    """Instructions of each function of a run with `ios` I/Os."""
    command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--", sys.executable, __file__]
    command += ["--child", url, "--way", arguments.way, "--size", str(arguments.size), "--ios", str(ios)]
    command += ["--queue-depth", str(arguments.queue_depth)] + ["--write"] * arguments.write
    fixed = {"PYTHONHASHSEED": "0", "SWD_CRC": arguments.crc, "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, env={**os.environ, **fixed}, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"instructions: {' '.join(command[:3])} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return self_costs(out.read_text(errors="replace"))


def self_costs(profile: str) -> Counter[str]:
    """Instructions of each function itself, from callgrind's format: names are written once and then go by number; the
    line after `calls=` is the cost of what was called, which stands with that function already.
    """
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    function, skip = "", False
    for line in profile.splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, _, name = line.partition("=")[2].partition(" ")
            if name:
                names[number] = name
            if line.startswith("fn="):
                function = names[number]
        elif line.startswith("calls="):
            skip = True
        elif line and line[0] in "0123456789+-*":
            if not skip:
                costs[function] += int([*line.split(), "0"][1])  # no cost is written as nothing
            skip = False
    return costs


def readable(name: str) -> str:
    """Cython's mangled names as module.function: `__pyx_f_3swd_7_engine_6Engine_feed` is `_engine.Engine_feed`."""
    found = re.match(r"__pyx_(?:f|pf|pw)_3swd_\d+(_[a-z0-9]+?)_(?:\d+)?(.*)", name)
    return f"{found[1]}.{found[2]}" if found else name


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=("batch", "stream", "sync", "asyncio"), default="batch")
    parser.add_argument("--write", action="store_true", help="writes instead of reads")
    parser.add_argument("--size", type=parse_size, default=4096, help="bytes of an I/O (4096; K and M are understood)")
    parser.add_argument("--queue-depth", type=int, default=32)
    parser.add_argument("--ios", type=int, default=8192, help="I/Os that are counted (8192)")
    parser.add_argument("--digests", action="store_true", help="CRC32C of headers and data")
    parser.add_argument("--crc", default="sse42", help="CRC32C kernel (sse42; valgrind has no AVX-512)")
    parser.add_argument("--top", type=int, default=15, help="functions that are listed (15)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave callgrind's files here, for callgrind_annotate")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if SHORT + arguments.ios > MOST:
        sys.exit(f"instructions: --ios is at most {MOST - SHORT}")
    if arguments.child:
        shape = (arguments.write, arguments.size, arguments.queue_depth, arguments.ios)
        child(arguments.child, arguments.way, *shape)
        return
    if not shutil.which("valgrind"):
        sys.exit("instructions: valgrind is not here (`make test-deps` installs it)")
    digest = "crc32c!" if arguments.digests else "none"
    serve = [sys.executable, "-I", "-m", "swd.target", "--lun", f"mem://{LUN_MIB}M", "--portal", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as scratch, subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            url = target.stdout.readline().split()[-1] + f"?header_digest={digest}&data_digest={digest}"
            folder = arguments.keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            short = counted(url, arguments, SHORT, folder / "callgrind.short")
            long = counted(url, arguments, SHORT + arguments.ios, folder / "callgrind.long")
        finally:
            target.terminate()
    report(arguments, short, long)


def report(arguments: argparse.Namespace, short: Counter[str], long: Counter[str]) -> None:
    each = {name: (long[name] - short[name]) / arguments.ios for name in long}
    total = sum(each.values())
    top = sorted(each.items(), key=lambda item: -item[1])[: arguments.top]
    cell = {"way": arguments.way, "write": arguments.write, "size": arguments.size, "depth": arguments.queue_depth}
    cell |= {"digests": arguments.digests, "crc": arguments.crc, "ios": arguments.ios}
    if arguments.json:
        functions = {readable(name): round(cost, 2) for name, cost in top}
        print(json.dumps({**cell, "instructions_per_io": round(total, 1), "functions": functions}))
        return
    print(", ".join(f"{key} {value}" for key, value in cell.items()))
    print(f"{total:10.1f} instructions per I/O")
    for name, cost in top:
        print(f"{cost:10.1f} {cost / total:6.1%}  {readable(name)}")


if __name__ == "__main__":
    main()
