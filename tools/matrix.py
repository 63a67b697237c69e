# SPDX-License-Identifier: Apache-2.0
"""The interoperability table on this machine, with as much data in a row as you like: `make matrix`, or
`tools/matrix.py [--mib N]`.

The rows and all that is asserted in them are the suite's (tests/support/matrix.py). Prints what was negotiated and how
fast it went; ends with 1 if a row fails, and says which component is absent if tgtd or qemu-img is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import matrix  # its folder is on the path only now

MIB = 1 << 20
COLUMNS = "target    block  header    data auth           write    read  digests    qemu-img"


def main() -> int:
    parser = argparse.ArgumentParser(description="swd against tgtd and the embedded target: 48 rows")
    parser.add_argument("--mib", type=int, default=64, help="MiB that are written, and read, in a row")
    size = parser.parse_args().mib * MIB
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swd-matrix-")))
        _places(folder)
        witnesses = {"embedded": stack.enter_context(matrix.embedded_witness(size))}
        if shutil.which("tgtd") and shutil.which("tgtadm"):
            witnesses["tgtd"] = stack.enter_context(matrix.tgtd_witness(folder, size))
        rows = [row for row in matrix.ROWS if row.target in witnesses]
        print(f"{size // MIB} MiB of random data each way in a row; write and read in MB/s\n\n{COLUMNS}")
        failed = [row for row in rows if not _row(row, witnesses[row.target], folder, size)]
    print(f"\n{len(rows) - len(failed)} of {len(matrix.ROWS)} rows held in {time.monotonic() - started:.0f} s")
    if "tgtd" not in witnesses:
        print("tgtd is absent: make test-deps, or apt-get install tgt, adds its rows")
    return int(len(failed) > 0 or len(rows) < len(matrix.ROWS))


def _places(folder: Path) -> None:
    """This host's configuration and network phase have no say in it."""
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
    (folder / "swd.toml").touch()
    places = {"SWD_RUNTIME_DIR": "run", "SWD_STATE_DIR": "state", "SWD_CONFIG": "swd.toml"}
    os.environ.update({variable: str(folder / name) for variable, name in places.items()})


def _row(row: matrix.Row, witness: matrix.Witness, folder: Path, size: int) -> bool:
    """Plays a row and prints it; False if it failed."""
    print(f"{row.target:9} {row.block_size:5} ", end="", flush=True)
    try:
        outcome = matrix.play(row, witness, folder, size)
        qemu = _qemu(row, witness, folder, size)
    except (AssertionError, OSError) as error:
        print(f"FAILED  {row}: {error}")
        return False
    agreed = outcome.session
    digests = [("CRC32C" if on else "None") for on in (agreed.header_digest, agreed.data_digest)]
    rates = [f"{size / seconds / 1e6:7.0f}" for seconds in (outcome.write, outcome.read)]
    checked = "/".join(str(count) for count in outcome.digests_on_the_wire)
    print(f"{digests[0]:>7} {digests[1]:>7} {agreed.auth:12} {rates[0]} {rates[1]}  {checked:10} {qemu}")
    return True


def _qemu(row: matrix.Row, witness: matrix.Witness, folder: Path, size: int) -> str:
    if not row.libiscsi:
        return "-"  # libiscsi has no data digest
    if shutil.which("qemu-img") is None:
        return "absent"
    matrix.play_qemu(row, witness, folder, size)
    return "both ways"


if __name__ == "__main__":
    sys.exit(main())
