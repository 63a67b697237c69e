# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden anew: volume groups by the real lvm2 and device-mapper of the guest, and what device-mapper reads.

    tests/guest/make_golden.py [CASE]...            all of golden/*.sh, or these; the manifest keeps the others
    tests/guest/make_golden.py --check [CASE]...    makes nothing: does device-mapper read what the manifest says?

Each case is booted twice. First `make` works on empty disks. Then `look` runs in a fresh guest on copies of what the
first left, so that the sums are those of the image files and not of anybody's memory; what it changes (a leg that is
rebuilt, a bitmap) is thrown away with the copies. The manifest's form is told in tests/golden/README.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import lzma
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import vm

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
MANIFEST = GOLDEN / "manifest.json"
SECTOR = 512


def main(names: list[str]) -> int:
    checking = names[:1] == ["--check"]
    names = names[checking:]
    everything = sorted(path.stem for path in (HERE / "golden").glob("*.sh"))
    if unknown := set(names) - set(everything):
        print(f"no such case: {' '.join(sorted(unknown))}; there are: {' '.join(everything)}", file=sys.stderr)
        return 2
    print(f"commit {commit()}, {vm.accelerator()}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC", flush=True)
    failed = []
    for name in names or everything:
        began = time.monotonic()
        try:
            found = check(name) if checking else make(name)
        except RuntimeError as error:
            failed.append(name)
            print(f"{name}: FAILED\n{error}", flush=True)
            continue
        if not checking:
            keep(name, found)
        print(f"{name}: {time.monotonic() - began:.0f} s, {stored(name)} bytes; made by {found['made_by']}")
        for volume in found["volumes"]:
            lost = f" without {' '.join(volume['without'])}" if volume["without"] else ""
            print(f"    {volume['lv']}: {volume['size']} bytes, sha256 {volume['sha256']}{lost}", flush=True)
    if not names and not checking:
        forget(everything)
    total = sum(path.stat().st_size for path in GOLDEN.glob("*/*.xz"))
    done = "checked" if checking else "made"
    print(f"{len(names or everything)} cases {done}; {total} bytes of images; failed: {' '.join(failed) or 'none'}")
    return 1 if failed else 0


def make(name: str) -> dict[str, Any]:
    """The case's part of the manifest; its images are in GOLDEN/name then."""
    script = (HERE / "golden" / f"{name}.sh").read_text()
    with tempfile.TemporaryDirectory(prefix=f"swd-golden-{name}-") as folder:
        disks = []
        for number, size in enumerate(header(script, "disks")[0].split()):
            disks.append(Path(folder, f"pv{number}"))
            with disks[-1].open("wb") as new:
                new.truncate(int(size) << 20)
        scenario(name, script, "make", disks)
        disks = [disk for disk in disks if disk.name not in " ".join(header(script, "drop")).split()]
        pack(name, disks)
        images = [
            {"file": f"{name}/{disk.name}.xz", "size": disk.stat().st_size, "sha256": digest(disk)} for disk in disks
        ]
        found = look(name, script, disks)
    return {**found, "images": images}


def check(name: str) -> dict[str, Any]:
    """The same of the images that are there. Raises RuntimeError where device-mapper reads anything else."""
    script = (HERE / "golden" / f"{name}.sh").read_text()
    kept = json.loads(MANIFEST.read_text())[name]
    with tempfile.TemporaryDirectory(prefix=f"swd-golden-{name}-") as folder:
        disks = []
        for image in kept["images"]:
            disks.append(Path(folder, Path(image["file"]).stem))
            disks[-1].write_bytes(lzma.decompress((GOLDEN / image["file"]).read_bytes()))
            if digest(disks[-1]) != image["sha256"]:
                raise RuntimeError(f"{image['file']} is not the image that the manifest names")
        found = look(name, script, disks)
    for key in found.keys() - {"made_by"}:
        if found[key] != kept[key]:
            raise RuntimeError(f"the manifest's {key}: {kept[key]}\nnow: {found[key]}")
    return found


def look(name: str, script: str, disks: list[Path]) -> dict[str, Any]:
    """What the guest reads and what the script says; the disks are changed by it."""
    said = scenario(name, script, "look", disks)
    lines = [line[1:].split() for line in said.splitlines() if line.startswith("@")]
    return {
        "what": " ".join(header(script, "what")),
        "vg": name,
        "made_by": next(" ".join(line[1:]) for line in lines if line[0] == "made"),
        "layout": [" ".join(line[1:]) for line in lines if line[0] == "layout"],
        "volumes": [volume(*line[1:]) for line in lines if line[0] == "seen"],
        "files": [dict(zip(("lv", "path", "sha256"), line[1:], strict=True)) for line in lines if line[0] == "file"],
        "refused": [
            dict(zip(("lv", "errno", "why"), line.split(None, 2), strict=True)) for line in header(script, "refuse")
        ],
    }


def scenario(name: str, script: str, step: str, disks: list[Path]) -> str:
    losses = "; ".join(header(script, "losses"))
    library = (HERE / "image" / "lib.sh").read_text()
    text = f"VG={name} LOSSES={shlex.quote(losses)}\n{library}\n{script}\nstep {step}\n"
    return vm.run(text, disks=disks, timeout=900)


def header(script: str, name: str) -> list[str]:
    """The values of a case's `# name: value` lines."""
    mark = f"# {name}: "
    return [line.removeprefix(mark).strip() for line in script.splitlines() if line.startswith(mark)]


def volume(lv: str, size: str, sha256: str, *words: str) -> dict[str, Any]:
    lost = dict(word.partition("=")[::2] for word in words)["without"]
    return {
        "lv": lv,
        "size": int(size),
        "sha256": sha256,
        "without": lost.split(",") if lost else [],
        "plain": sha256 == hashlib.sha256(pattern(lv, int(size) // SECTOR)).hexdigest(),
    }


def pattern(name: str, sectors: int) -> bytes:
    """What image/lib.sh fills a volume with: the name and the sector's number over and over."""
    words = (f"{name} {number:07d}\n".encode() for number in range(sectors))
    return b"".join((word * (SECTOR // len(word) + 1))[:SECTOR] for word in words)


def pack(name: str, disks: list[Path]) -> None:
    shutil.rmtree(GOLDEN / name, ignore_errors=True)
    (GOLDEN / name).mkdir(parents=True)
    for disk in disks:
        packed = lzma.compress(disk.read_bytes(), preset=6)
        (GOLDEN / name / f"{disk.name}.xz").write_bytes(packed)


def keep(name: str, found: dict[str, Any]) -> None:
    """Under a lock: two runs may share the work."""
    with GOLDEN.joinpath("README.md").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
        kept[name] = found
        MANIFEST.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def forget(known: list[str]) -> None:
    """Cases that are no more."""
    kept = json.loads(MANIFEST.read_text())
    for name in set(kept) - set(known):
        del kept[name]
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
    MANIFEST.write_text(json.dumps(kept, indent=1) + "\n")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(name: str) -> int:
    return sum(path.stat().st_size for path in (GOLDEN / name).iterdir())


def commit() -> str:
    done = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
