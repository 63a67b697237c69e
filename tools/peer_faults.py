# SPDX-License-Identifier: Apache-2.0
"""What other initiators make of each kind of fault: `tools/peer_faults.py [KIND...] [--seconds N]`, a table on stdout.

libiscsi's tools, QEMU's block driver and swdctl, each as a process against the embedded target under a plan of one
fault, which strikes once, early; those that read the disk meet it in a READ. A cell: `ok` (the right answer all the
same), `error N` (it ended with that status), `WRONG` (it ended well with a wrong answer), `hung` (not over after so
many seconds), `-` (it never got as far as the fault).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from swd.export.testing import IscsiTarget
from swd.target import Limits
from swd.target.faults import KINDS, Fault

ROOT = Path(__file__).resolve().parent.parent
SIZE = 4 << 20
CONTENT = b"".join(b"%015d\n" % number for number in range(SIZE // 16))


class Peer(NamedTuple):
    """A program, and how its answer is judged; `{url}`, `{portal}` and `{out}` are filled in."""

    name: str
    words: tuple[str, ...]
    right: Callable[[str, Path], bool]


def _copied(_said: str, out: Path) -> bool:
    return out.exists() and out.read_bytes() == CONTENT


LATE = ("-O", "timeout=1")  # else it waits for half a minute, which is no hang

PEERS = (
    Peer("iscsi-inq", ("iscsi-inq", "{url}"), lambda said, _out: "Vendor:SWD" in said),
    Peer("iscsi-readcapacity16", ("iscsi-readcapacity16", "{url}"), lambda said, _out: f"Total size:{SIZE}\n" in said),
    Peer("iscsi-ls -s", ("iscsi-ls", "-s", "iscsi://{portal}"), lambda said, _out: "Size:3M" in said or "4M" in said),
    Peer("qemu-img convert", ("qemu-img", "convert", "-f", "raw", "-O", "raw", "{url}", "{out}"), _copied),
    Peer("swdctl read", ("swdctl", "read", "{url}", "-o", "{out}", "-O", "default_time2wait=0", *LATE), _copied),
    Peer(
        "swdctl read, digests",
        ("swdctl", "read", "{url}", "-o", "{out}", "-O", "default_time2wait=0", *LATE, *("-O", "header_digest=crc32c!"),
         *("-O", "data_digest=crc32c!")),
        _copied,
    ),
)  # fmt: skip
# Where the example of docs/faults.md is not what a reader of a few megabytes meets.
KEYS: dict[str, dict[str, object]] = {
    "delay": {"seconds": 1, "nth": 3},
    "slow": {"seconds": 1, "nth": 3},
    "poison": {"lba": 100},
    "wrong_key": {"key": "MaxRecvDataSegmentLength", "value": "0"},
    "login_status": {"status": "0302"},
    "redirect": {"to": "self", "nth": 1},
    "check_condition": {"sense": "3/11/00", "nth": 3},
    "status": {"code": 0x30, "nth": 3},
    "wrong_field": {"pdu": "DATA_IN", "field": "data_sn", "value": 77, "nth": 2},
    "async_message": {"event": "logout", "nth": 3},
    "reject": {"reason": "invalid_field", "nth": 3},
    "unit_attention": {"asc": 0x2A, "ascq": 0x01, "nth": 3},
    "size_change": {"blocks": 100, "nth": 3},
    "corrupt_data": {"nth": 2},
    "duplicate": {"pdu": "DATA_IN", "nth": 2},
}
WRITES = {"lost_write", "ghost", "task_management_response"}  # no program here writes, or aborts


def main() -> int:
    parser = argparse.ArgumentParser(description="initiators against each kind of fault")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--seconds", type=float, default=8.0, help="after which a program is said to hang")
    options = parser.parse_args()
    kinds = options.kinds or [kind for kind, row in KINDS.items() if kind not in WRITES and row.pdus != ("R2T",)]
    print(_heading(), flush=True)
    print(f"{'kind':24}" + "".join(f"{peer.name:>22}" for peer in PEERS), flush=True)
    for kind in kinds:
        print(f"{kind:24}" + "".join(f"{_try(peer, kind, options.seconds):>22}" for peer in PEERS), flush=True)
    return 0


def _try(peer: Peer, kind: str, seconds: float) -> str:
    target = IscsiTarget(luns=[SIZE], limits=Limits(default_time2wait=0, max_burst_length=131072))
    target.write(0, CONTENT)
    target.start()
    keys = KEYS.get(kind, {"nth": 2})
    in_reads = peer.right is _copied and KINDS[kind].place != "login" and kind not in ("poison", "wrong_key")
    target.set_plan(Fault(kind, **(keys | {"command": "READ", "nth": 2} if in_reads else keys)))
    try:
        with tempfile.TemporaryDirectory(prefix="swd-peer-") as name:
            out = Path(name) / "out"
            filled = [word.format(url=target.url, portal=target.portal, out=out) for word in peer.words]
            try:
                done = subprocess.run(
                    filled, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
                )
            except subprocess.TimeoutExpired:
                return "hung" if target.faults_seen else "hung before"
            if not target.faults_seen:
                return "-"
            if done.returncode:
                return f"error {done.returncode}"
            return "ok" if peer.right(done.stdout, out) else "WRONG"
    finally:
        target.stop()


def _heading() -> str:
    asked = (["git", "-C", str(ROOT), "describe", "--always", "--dirty"], ["qemu-img", "--version"])
    said = [subprocess.run(words, capture_output=True, text=True).stdout.partition("\n")[0] for words in asked]
    return f"swd {said[0]}, {said[1]}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"


if __name__ == "__main__":
    sys.exit(main())
