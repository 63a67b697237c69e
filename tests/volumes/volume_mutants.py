# SPDX-License-Identifier: Apache-2.0
"""Damaged and malicious volume groups: mutants of the golden images, scanned and read.

    python tests/volumes/volume_mutants.py [COUNT] [SEED]

A mutant is a golden group with some bytes of a label, a metadata area, a metadata text, a raid superblock or bitmap, a
mirror log, a snapshot's store or a thin pool's metadata changed; checksums are mended, so that malice gets past them.
Each is scanned, and each of its volumes opened and read in places. What must hold: nothing but SwdError comes out, no
read leaves a disk, a mutant takes neither much time nor much memory nor reads much.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ram_unit import RamUnit
from support import golden

from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.errors import SwdError
from swd.volumes.lvm2 import label, thin
from swd.volumes.lvm2.build import Builder
from swd.volumes.lvm2.scan import Device, Group, choose, scan
from swd.volumes.lvm2.unit import VolumeUnit

SECONDS = 10.0  # a mutant may take; it takes milliseconds
BYTES = 256 << 20  # a mutant may read
MEMORY = 512 << 20  # the whole run may need beyond what it began with
FRONT = (1 << 20) + 4096  # bytes of a disk that hold its label and its metadata areas
CASES = (
    *("linear", "striped", "mirror", "raid0", "raid1", "raid10", "raid5", "raid6"),
    *("stale", "stale5", "halfsynced", "thin", "cow"),
)
HOSTILE = (b"0", b"1", b"-1", b"4294967295", b"18446744073709551615", b"99999999999999999999", b"0.5", b'"x"', b"[]")


class Guarded(RamUnit):
    """Bytes that are shared with other mutants, under changes of this one's own; counts what is read, and where."""

    def __init__(self, content: bytearray, name: str) -> None:
        super().__init__(0)
        self.data = content
        self.blocks = len(content) // self.block_size
        self.identity = name
        self.bytes = 0

    def read_blocks(self, lba: int, buffer: Any) -> None:
        length = memoryview(buffer).nbytes
        assert 0 <= lba <= self.blocks - length // self.block_size, "a read left the disk"
        self.bytes += length
        assert self.bytes <= BYTES, "a mutant that reads without end"
        super().read_blocks(lba, buffer)
        self.log.clear()


@dataclass
class Case:
    """A golden group: its images, and where on them are texts and the metadata of arrays, pools and snapshots."""

    name: str
    images: list[bytes]
    text: bytes
    spots: list[tuple[int, int, int]] = field(default_factory=list)  # (disk, offset, length)
    nodes: list[tuple[int, int]] = field(default_factory=list)  # (disk, offset) of blocks of a pool's metadata
    work: list[bytearray] = field(default_factory=list)  # the images, changed by the mutant of the moment

    def restored(self) -> list[bytearray]:
        """The images as they were: what a mutation may have touched is put back."""
        if not self.work:
            self.work = [bytearray(image) for image in self.images]
        places = [(disk, 0, FRONT) for disk in range(len(self.images))]
        for disk, offset, length in [*places, *self.spots, *((disk, offset, 4096) for disk, offset in self.nodes)]:
            self.work[disk][offset : offset + length] = self.images[disk][offset : offset + length]
        return self.work


def load(folder: Path) -> list[Case]:
    found = []
    for name in CASES:
        (folder / name).mkdir()
        images = [path.read_bytes() for path in golden.unpack(name, folder / name)]
        group, units = group_of(name, images)
        case = Case(name, images, text_of(group, units))
        for volume in group.group.logical.values():
            for segment in volume.segments:
                inside = [segment.values.get(key) for key in ("mirror_log", "metadata", "cow_store")]
                inside += list(segment.values.get("raids", ()))[::2]
                for below in (one for one in inside if isinstance(one, str)):
                    spots(case, group, units, below, thin_metadata=segment.type == "thin-pool")
        found.append(case)
    return found


def group_of(name: str, images: list[bytes]) -> tuple[Group, list[Guarded]]:
    units = [Guarded(bytearray(image), f"pv{number}") for number, image in enumerate(images)]
    devices = [Device(unit.identity, Disk(unit, writable=False), unit.identity) for unit in units]
    return choose(scan(devices), name), units


def text_of(group: Group, _units: list[Guarded]) -> bytes:
    texts = [text.content for member in group.members.values() for text in member.texts if text.content]
    return max(texts, key=lambda text: int(re.search(rb"seqno = (\d+)", text)[1]))  # type: ignore[index]


def spots(case: Case, group: Group, units: list[Guarded], volume: str, *, thin_metadata: bool) -> None:
    layer = Builder(group).volume(volume)
    for at in range(0, min(layer.size, 2 << 20 if thin_metadata else 16384), 4096):
        for piece in layer.pieces(at, 4096):
            assert piece.disk is not None
            disk = next(index for index, unit in enumerate(units) if unit is piece.disk.unit)
            if thin_metadata and any(units[disk].data[piece.offset : piece.offset + 4096]):
                case.nodes.append((disk, piece.offset))
            elif not thin_metadata:
                case.spots.append((disk, piece.offset, piece.length))


# --- mutations -----------------------------------------------------------------------------------------------------


def flipped(chance: random.Random, data: bytearray, start: int, length: int) -> None:
    """Some bytes, or a word or two, become something else."""
    for _ in range(chance.randint(1, 6)):
        at = start + chance.randrange(length)
        if chance.random() < 0.5:
            data[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        else:
            at = start + (at - start) // 8 * 8
            value = chance.choice(
                [0, 1, 2, 255, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, chance.getrandbits(40)]
            )
            data[at : at + 8] = struct.pack("<Q", value)


def mutate_label(chance: random.Random, _case: Case, images: list[bytearray]) -> None:
    data = chance.choice(images)
    start = 512  # where LVM puts it
    flipped(chance, data, start + chance.choice([0, 16, 32, 64]), 256)
    if chance.random() < 0.8:
        data[start : start + 8], data[start + 24 : start + 32] = b"LABELONE", b"LVM2 001"
        data[start + 16 : start + 20] = struct.pack("<I", label.checksum(bytes(data[start + 20 : start + 512])))


def mutate_area(chance: random.Random, _case: Case, images: list[bytearray]) -> None:
    data = chance.choice(images)
    start = 4096
    flipped(chance, data, start + 20, 80)
    if chance.random() < 0.9:
        data[start : start + 4] = struct.pack("<I", label.checksum(bytes(data[start + 4 : start + 512])))


def mutate_text(chance: random.Random, case: Case, images: list[bytearray]) -> None:
    text = bytearray(case.text)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_TEXT)(chance, text)
    content = bytes(text) + b"\0"
    for data in images:
        if not data[4100:].startswith(b" LVM2 x[5A"):
            continue
        start, size = struct.unpack_from("<QQ", data, 4096 + 24)
        if len(content) > size - 512:
            continue
        data[start + 512 : start + 512 + len(content)] = content
        data[start + 40 : start + 64] = struct.pack("<QQII", 512, len(content), label.checksum(content), 0)
        data[start : start + 4] = struct.pack("<I", label.checksum(bytes(data[start + 4 : start + 512])))


def _number(chance: random.Random, text: bytearray) -> None:
    found = list(re.finditer(rb"= (\d+)|\", (\d+)", text))
    one = chance.choice(found)
    group = 1 if one[1] else 2
    value = chance.choice([*HOSTILE, str(int(one[group]) + chance.choice([-1, 1, 2, 7])).encode()])
    text[one.start(group) : one.end(group)] = value


def _word(chance: random.Random, text: bytearray) -> None:
    words = list(re.finditer(rb'"[^"\n]{1,40}"', text))
    if len(words) > 1:
        one, other = chance.sample(words, 2)
        text[one.start() : one.end()] = bytes(text[other.start() : other.end()])


def _cut(chance: random.Random, text: bytearray) -> None:
    at = chance.randrange(len(text) - 1)
    del text[at : at + chance.choice([1, 1, 10, 200])]


def _copy(chance: random.Random, text: bytearray) -> None:
    lines = bytes(text).split(b"\n")
    at = chance.randrange(len(lines))
    text[:] = b"\n".join([*lines[:at], *lines[at : at + chance.choice([1, 3, 20])] * 2, *lines[at:]])


def _rubbish(chance: random.Random, text: bytearray) -> None:
    at = chance.randrange(len(text))
    text[at:at] = chance.choice(
        [b"{" * 50, b"[" * 50, b'"', b"#" * 500, b"\\", b"\xff\xfe", b"}", b"a{" * 30, b"=", b"\0"]
    )


_TEXT: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _number,
    _number,
    _number,
    _word,
    _word,
    _cut,
    _copy,
    _rubbish,
)


def mutate_spot(chance: random.Random, case: Case, images: list[bytearray]) -> None:
    if not case.spots:
        mutate_text(chance, case, images)
        return
    disk, offset, length = chance.choice(case.spots)
    flipped(chance, images[disk], offset, min(length, chance.choice([64, 160, 512, length])))


def mutate_node(chance: random.Random, case: Case, images: list[bytearray]) -> None:
    if not case.nodes:
        mutate_spot(chance, case, images)
        return
    disk, offset = chance.choice(case.nodes)
    data = images[disk]
    flipped(chance, data, offset + 4, chance.choice([60, 400, 4000]))
    superblock = offset == case.nodes[0][1]
    xor = thin.SUPERBLOCK_XOR if superblock else thin.NODE_XOR
    block = bytes(data[offset : offset + 4096])
    data[offset : offset + 4] = struct.pack("<I", thin.checksum(block, xor))


KINDS = {
    "label": mutate_label,
    "area": mutate_area,
    "text": mutate_text,
    "array": mutate_spot,
    "thin": mutate_node,
}


# --- the run -------------------------------------------------------------------------------------------------------


def attempt(chance: random.Random, case: Case, images: list[bytearray], seen: Counter[str]) -> None:
    """Scan a mutant and read its volumes in places. Raises nothing of what it should not."""
    units = [Guarded(image, f"pv{number}") for number, image in enumerate(images)]
    found = scan(Device(unit.identity, Disk(unit, writable=False), unit.identity) for unit in units)
    if not found.groups:
        seen["no group"] += 1
    for group in found.groups:
        builder = Builder(group)
        for volume in itertools.islice(group.group.logical, 20):
            try:
                layer = builder.view(volume)
                disks = [member.device.disk for member in group.members.values()]
                unit = VolumeUnit(layer, disks, volume, read_only=True, lock=RangeLock())
                look(chance, Disk(unit, writable=False))
                seen["read"] += 1
            except SwdError as error:
                seen[f"refused ({type(error).__name__})"] += 1


def look(chance: random.Random, disk: Disk) -> None:
    for offset in (0, max(0, disk.size - 5000), chance.randrange(disk.size + 1), min(disk.size, 40000)):
        disk.pread(20000, offset)


def mutants(cases: list[Case], seed: int) -> Iterator[tuple[int, str, Case, list[bytearray], random.Random]]:
    for number in itertools.count():
        chance = random.Random(f"{seed}/{number}")
        kind = list(KINDS)[number % len(KINDS)]
        able = [case for case in cases if kind != "thin" or case.nodes] or cases
        case = chance.choice([one for one in able if kind != "array" or one.spots] or able)
        images = case.restored()
        for _ in range(chance.randint(1, 2)):
            KINDS[kind](chance, case, images)
        yield number, kind, case, images, chance


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """So many mutants; what became of them. Raises the first thing that must not be, with its number noted."""
    cases, seen = load(folder), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    signal.signal(signal.SIGALRM, _too_long)
    for number, kind, case, images, chance in itertools.islice(mutants(cases, seed), count):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            attempt(chance, case, images, seen)
        except BaseException as error:
            error.add_note(f"mutant {number} of seed {seed}: {kind} of {case.name}") if hasattr(
                error, "add_note"
            ) else None
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seen[f"mutants of kind {kind}"] += 1
        if number % 1000 == 999:
            print(f"{number + 1} mutants", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    assert grown < MEMORY, f"{grown} bytes of memory"
    return seen


def _too_long(_number: int, _frame: object) -> None:
    raise AssertionError(f"a mutant took more than {SECONDS} s")


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4))
    print(f"{count} mutants, seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seen = run(count, seed, Path(folder))
    for what, times in sorted(seen.items()):
        print(f"{times:8}  {what}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{time.monotonic() - began:.0f} s, {peak} MiB at most; nothing but SwdError came out, and no read left a disk"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
