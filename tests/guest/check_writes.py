# SPDX-License-Identifier: Apache-2.0
"""What swd writes to logical volumes, device-mapper reads: made in the guest, written by swd, read in the guest.

    tests/guest/check_writes.py [SEED]

Run with a Python that has swd. Three disks with linear, striped and raid0 volumes, one of them of three segments; each
is written through `lvm://` with `--rw`: any lengths and offsets, zeroed ranges, batches. The guest then says the sha256
of each volume as device-mapper has it; that of a volume that was not written must be what it was.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import make_golden
import vm

import swd
from swd.driver import volumes

HERE = Path(__file__).resolve().parent
SIZE = 12 << 20
VOLUMES = ("lin", "str", "three", "r0")

MAKE = """
group 128k /dev/vda /dev/vdb /dev/vdc
create -L 2M -n lin "$VG" /dev/vda
create -L 1M -n kept "$VG" /dev/vda
lvm lvextend -qq -L 4M "$VG/lin" /dev/vdc
lvm lvextend -qq -L 5M "$VG/lin" /dev/vda
create -i 2 -I 4k -L 2M -n str "$VG" /dev/vda /dev/vdb
create -i 3 -I 64k -l 24 -n three "$VG"
create --type raid0 -i 3 -I 16k -l 24 -n r0 "$VG"
fill lin kept str three r0
down
"""
LOOK = "up; for lv in lin kept str three r0; do seen $lv; done; down"


def guest(step: str, disks: list[Path]) -> dict[str, str]:
    library = (HERE / "image" / "lib.sh").read_text()
    said = vm.run(f"VG=written LOST=\n{library}\nset -e\n{step}\nsync\n", disks=disks, timeout=900)
    lines = [line.split() for line in said.splitlines() if line.startswith("@seen")]
    return {line[1]: line[3] for line in lines}


def write(name: str, chance: random.Random) -> str:
    """Writes all over a volume; the sha256 that it must have then."""
    with swd.open(f"lvm://written/{name}", "r+b") as disk:
        model = bytearray(disk.pread(disk.size, 0))
        for _ in range(200):
            length = chance.choice([1, 13, 512, 4096, 5000, 65536, 70001, 300000])
            offset = chance.randrange(disk.size - length)
            data = chance.randbytes(length)
            if chance.random() < 0.1:
                data = bytes(length)
                disk.zero(offset=offset, length=length)
            else:
                disk.pwrite(data, offset)
            model[offset : offset + length] = data
        offsets = [4096 * one for one in chance.sample(range(disk.size // 4096), 64)]
        blocks = chance.randbytes(64 * 4096)
        disk.write_many(offsets, blocks)
        for index, offset in enumerate(offsets):
            model[offset : offset + 4096] = blocks[index * 4096 : (index + 1) * 4096]
        disk.flush()
    return hashlib.sha256(model).hexdigest()


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int.from_bytes(os.urandom(4), "big")
    began = time.monotonic()
    print(f"commit {make_golden.commit()}, {vm.accelerator()}, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="swd-writes-") as folder:
        os.environ |= {"SWD_STATE_DIR": folder, "SWD_RUNTIME_DIR": folder, "SWD_CONFIG": f"{folder}/swd.toml"}
        Path(folder, "swd.toml").touch()
        disks = [Path(folder, f"pv{number}") for number in range(3)]
        for disk in disks:
            with disk.open("wb") as new:
                new.truncate(SIZE)
        guest(MAKE, disks)
        before = guest(LOOK, disks)
        volumes.activate("written", devices=[str(disk) for disk in disks], writable=True)
        expected = {name: write(name, random.Random(f"{seed}/{name}")) for name in VOLUMES}
        after = guest(LOOK, disks)
    wrong = [name for name in VOLUMES if after[name] != expected[name] or after[name] == before[name]]
    wrong += ["kept"] if after["kept"] != before["kept"] else []
    for name, sum_ in after.items():
        print(f"{'WRONG' if name in wrong else 'ok':6} {name:6} device-mapper reads sha256 {sum_}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
