# SPDX-License-Identifier: Apache-2.0
"""The corpora, one archive a target, and the account of all runs.

An archive holds minimised inputs, each behind its length (4 bytes), smallest first, up to a limit of its own; the
limits together are below half a mebibyte, for the repository's sake. The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import lzma
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from run import Outcome

HERE = Path(__file__).resolve().parent
MOST = 28 << 10  # bytes of an archive
COLUMNS = ("target", "runs", "executions", "seconds", "edges", "inputs", "bytes", "findings", "commit", "engine")
HEAD = """\
What `make fuzz` has done so far, all runs together. edges: the most that one run reached (atheris: of Python code;
libFuzzer: of C code). inputs, bytes: of the corpus. findings: inputs that broke what must hold; each became a test.
commit: the tree of the last run.
"""


def archive(name: str) -> Path:
    return HERE / "corpus" / f"{name}.xz"


def inputs(name: str) -> list[bytes]:
    """The inputs of a target's archive; none where there is no archive yet."""
    if not archive(name).exists():
        return []
    whole, at, found = lzma.decompress(archive(name).read_bytes()), 0, []
    while at < len(whole):
        size = int.from_bytes(whole[at : at + 4], "big")
        found.append(whole[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def unpack(name: str, folder: Path, prefix: bytes = b"") -> Path:
    """Puts the archive's inputs, each behind the prefix, into a folder, to what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(name):
        whole = prefix + data
        (folder / hashlib.sha1(whole).hexdigest()).write_bytes(whole)
    return folder


def pack(name: str, folder: Path) -> tuple[int, int]:
    """Makes the archive of a folder's inputs; how many are in it, and their bytes."""
    known = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data))
    archive(name).parent.mkdir(exist_ok=True)
    low, high = 0, len(known)
    while low < high:  # the most of them that fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(packed(known[:middle])) <= MOST else (low, middle - 1)
    archive(name).write_bytes(packed(known[:low]))
    return low, sum(map(len, known[:low]))


def packed(data: list[bytes]) -> bytes:
    return lzma.compress(b"".join(len(one).to_bytes(4, "big") + one for one in data), preset=9)


def account(stats: Path, name: str, outcome: Outcome, kept: int, size: int) -> None:
    """Adds a run to the target's line."""
    rows = {}
    if stats.exists():
        for line in stats.read_text().splitlines():
            words = line.split(maxsplit=len(COLUMNS) - 1)
            if len(words) == len(COLUMNS) and words[1].isdigit():
                rows[words[0]] = words
    before = [int(word) for word in rows.get(name, ["", *["0"] * 7])[1:8]]
    added = (1, outcome.executions, outcome.seconds)
    runs, executions, seconds = (was + now for was, now in zip(before[:3], added, strict=True))
    edges = max(before[3], outcome.edges)
    findings = before[6] + len(outcome.findings)
    numbers = (runs, executions, seconds, edges, kept, size, findings)
    rows[name] = [name, *map(str, numbers), commit(), outcome.engine]
    total = [sum(int(words[column]) for words in rows.values()) for column in (1, 2, 3)]
    table = [COLUMNS, *(rows[key] for key in sorted(rows))]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in table]
    text = "\n".join(lines)
    runs_of = "{} runs of targets, {} executions, {} seconds".format(*total)
    stats.write_text(f"{HEAD}\n{text}\n\n{runs_of}\n")


def commit() -> str:
    done = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
