# SPDX-License-Identifier: Apache-2.0
"""What swd writes to logical volumes, device-mapper reads: `.venv/bin/python tests/guest/writes.py [--seed N]`.

Golden groups whose volumes swd may write are copied, activated with --rw, and written to at random through lvm://VG/LV:
once with the images as file DEVs, once as units of a target. A model keeps what each volume must hold. Then the guest
activates the groups with the real lvm2, and device-mapper's sums must be the model's: of the volumes that were written,
and of those that were left alone. The log goes to stdout.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import make_golden
import pytest
import vm

import swd

GROUPS = {"linear": ["lin", "small"], "striped": ["two", "three", "grown"], "raid0": ["plain"]}
NOT_WRITABLE = {"raid0": ["meta"]}
ROUNDS = 80
SWDCTL = str(Path(sys.executable).with_name("swdctl"))  # the installed one: -m swd would find this tree's sources
TARGET = "iqn.2026-01.org.example:swd"
SCENARIO = """
{library}
set -e
layout() {{ :; }}
LOST=
for VG in {groups}; do
    up
    for path in /dev/$VG/*; do seen "${{path##*/}}" "vg=$VG"; done
    lvm vgchange -qq -an $VG
done
"""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--seed", type=int, default=1)
    seed = arguments.parse_args().seed
    print(f"commit {make_golden.commit()}, {vm.accelerator()}, seed {seed}")
    wrong = 0
    for way in ("file", "iscsi"):
        with tempfile.TemporaryDirectory(prefix="swd-writes-") as folder:
            work = Path(folder)
            os.environ.update({f"SWD_{kind}_DIR": f"{work}/{kind}" for kind in ("RUNTIME", "STATE")})
            os.environ["SWD_CONFIG"] = f"{work}/swd.toml"
            dice = random.Random(f"{seed} {way}")
            disks = [path for group in GROUPS for path in copies(group, work)]
            Path(os.environ["SWD_CONFIG"]).touch()
            wanted: dict[tuple[str, str], str] = {}
            for group in GROUPS:
                with devices(way, [disk for disk in disks if disk.name.startswith(f"{group}-")]) as devs:
                    wanted |= write(group, devs, dice)
            wrong += compare(way, wanted, disks)
    print("all is as it should be" if not wrong else f"{wrong} volumes are wrong")
    return 1 if wrong else 0


def copies(group: str, work: Path) -> list[Path]:
    found = []
    for packed in sorted((make_golden.GOLDEN / group).glob("*.xz")):
        found.append(work / f"{group}-{packed.stem}")
        found[-1].write_bytes(lzma.decompress(packed.read_bytes()))
    return found


@contextmanager
def devices(way: str, disks: list[Path]) -> Iterator[list[str]]:
    """DEVs of the images: themselves, or units of a target that serves them."""
    if way == "file":
        yield [f"file://{disk}" for disk in disks]
        return
    luns = [part for disk in disks for part in ("--lun", f"file://{disk}")]
    verb = [SWDCTL, "target", "serve", "--portal", "127.0.0.1:0", "--target", TARGET, *luns]
    target = subprocess.Popen([*verb, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert target.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            text += target.stdout.readline()
        yield json.loads(text)["devices"]
    finally:
        target.terminate()
        target.wait(30)


def swdctl(*arguments: str) -> None:
    subprocess.run([SWDCTL, *arguments], check=True, stdout=subprocess.DEVNULL)


def write(group: str, devs: list[str], dice: random.Random) -> dict[tuple[str, str], str]:
    """Write at random; the sum that each volume must have then, by (group, volume)."""
    swdctl("vg", "activate", group, "--rw", *(part for dev in devs for part in ("--device", dev)))
    sums = {}
    for lv in GROUPS[group]:
        with swd.open(f"lvm://{group}/{lv}", "r+b") as disk:
            model = bytearray(make_golden.pattern(lv, disk.size // 512))
            for _ in range(ROUNDS):
                strike(disk, model, dice)
            disk.flush()
            assert disk.pread(disk.size, 0) == model, f"{group}/{lv}: swd does not read what it wrote"
        sums[group, lv] = hashlib.sha256(model).hexdigest()
    for lv in NOT_WRITABLE.get(group, []):
        with pytest.raises(swd.SwdError) as refused:
            swd.open(f"lvm://{group}/{lv}", "r+b")
        assert refused.value.errno == errno.EROFS
        with swd.open(f"lvm://{group}/{lv}") as disk:
            sums[group, lv] = hashlib.sha256(make_golden.pattern(lv, disk.size // 512)).hexdigest()
    swdctl("vg", "deactivate", group)
    return sums


def strike(disk: swd.Disk, model: bytearray, dice: random.Random) -> None:
    """One write of 512 B to 300 KiB anywhere, a batch of small ones, or zeros."""
    length = 512 * dice.choice([1, 3, 8, 65, 128, 600])
    length = min(length, disk.size)
    at = 512 * dice.randrange((disk.size - length) // 512 + 1)
    kind = dice.randrange(5)
    if kind == 0:
        disk.zero(offset=at, length=length)
        model[at : at + length] = bytes(length)
    else:
        data = dice.randbytes(length)
        assert disk.pwrite(data, at) == length
        model[at : at + length] = data


def compare(way: str, wanted: dict[tuple[str, str], str], disks: list[Path]) -> int:
    library = (make_golden.HERE / "image" / "lib.sh").read_text()
    said = vm.run(SCENARIO.format(library=library, groups=" ".join(GROUPS)), disks=disks, timeout=900)
    seen = {}
    for line in said.splitlines():
        if line.startswith("@seen "):
            _, lv, _size, sha256, *words = line.split()
            seen[dict(word.partition("=")[::2] for word in words)["vg"], lv] = sha256
    for key in sorted(wanted.keys() | seen.keys()):
        verdict = "agrees" if wanted.get(key) == seen.get(key) else "WRONG"
        print(f"{way:5} {'/'.join(key):14} swd {wanted.get(key)} device-mapper {seen.get(key)}: {verdict}")
    return sum(wanted.get(key) != seen.get(key) for key in wanted.keys() | seen.keys())


if __name__ == "__main__":
    sys.exit(main())
