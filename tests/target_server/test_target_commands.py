# SPDX-License-Identifier: Apache-2.0
"""Commands beyond reading and writing: one step reads and writes, SANITIZE, copies, modes, media, what is supported."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from raw_initiator import read_10, sixteen, write_10
from scsi_bench import BLOCKS, CONFLICT, ILLEGAL, NAME, Bench
from test_target_reservations import REGISTER, RESERVE, reserve_out

from swd.errors import MediumError
from swd.target import FileMedium, Lun, RamMedium, TargetConfig
from swd.target.media import Buffer
from swd.target.portgroups import STATES, PortGroups
from swd.target.scsi.operations import TABLE
from swd.target.scsi.reply import CONDITION_MET, Reply, WantData

READY = bytes(6)
A, B = b"\xaa" * 512, b"\xbb" * 512


@pytest.fixture
def bench() -> Bench:
    return Bench()


# COMPARE AND WRITE and its kin


def compare_and_write(lba: int, blocks: int) -> bytes:
    return bytes([0x89, 0]) + lba.to_bytes(8, "big") + bytes([0, 0, 0, blocks, 0, 0])


def test_compare_and_write(bench: Bench) -> None:
    bench.good(write_10(3, 2), data=A + B)
    bench.good(compare_and_write(3, 2), data=A + B + B + A)
    assert bench.good(read_10(3, 2)) == B + A
    expected = bytearray(B + A)
    expected[700] ^= 1
    reply = bench.run(compare_and_write(3, 2), data=bytes(expected) + bytes(1024))
    assert (reply.sense[0], reply.sense[2], reply.sense[12]) == (0xF0, 0xE, 0x1D)
    assert int.from_bytes(reply.sense[3:7], "big") == 700
    assert bench.good(read_10(3, 2)) == B + A
    assert bench.sense(compare_and_write(BLOCKS - 1, 2)) == (ILLEGAL, 0x21, 0)
    assert bench.good(compare_and_write(0, 0)) == b""


def test_compare_and_write_excludes_its_like(bench: Bench) -> None:
    """Many threads count in one block; none of their steps is lost."""
    turns, hands = 40, 4

    def count() -> None:
        done = 0
        while done < turns:
            now = bench.good(read_10(0, 1))
            then = (int.from_bytes(now, "big") + 1).to_bytes(512, "big")
            done += bench.run(compare_and_write(0, 1), data=now + then).status == 0

    threads = [threading.Thread(target=count) for _ in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int.from_bytes(bench.good(read_10(0, 1)), "big") == turns * hands


class Halting(RamMedium):
    """With `in_write` it stops in the midst of a write until `go`; and it does `amid_read` in the midst of a read."""

    def __init__(self) -> None:
        super().__init__(BLOCKS * 512)
        self.in_write = False
        self.half, self.was_read, self.go = threading.Event(), threading.Event(), threading.Event()
        self.amid_read: list[Callable[[], object]] = []

    def write(self, offset: int, data: Buffer) -> None:
        half = len(data) // 2
        super().write(offset, data[:half])
        if self.in_write:
            self.half.set()
            assert self.go.wait(10)
        super().write(offset + half, data[half:])

    def read(self, offset: int, length: int) -> memoryview:
        if not self.amid_read:
            self.was_read.set()
            return super().read(offset, length)
        first = bytes(super().read(offset, length // 2))
        self.amid_read.pop()()
        return memoryview(first + bytes(super().read(offset + length // 2, length - length // 2)))


OLD, NEW = A * 8, B * 8
STEPS = {
    "compare": (compare_and_write(0, 8), OLD + NEW),
    "or": (sixteen(0x8B, 0, 8), bytes(one | other for one, other in zip(OLD, NEW, strict=True))),
    "atomic": (sixteen(0x9C, 0, 0)[:10] + b"\0\0\0\x08\0\0", NEW),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_read_amid_one_step_sees_all_or_nothing_of_it(step: str) -> None:
    medium = Halting()
    bench = Bench(TargetConfig(NAME, {0: Lun(medium)}))
    bench.good(write_10(0, 8), data=OLD)
    cdb, data = STEPS[step]
    medium.in_write = True
    with ThreadPoolExecutor(2) as pool:
        stepping = pool.submit(bench.good, cdb, data=data)
        try:
            assert medium.half.wait(10)
            medium.was_read.clear()
            found = pool.submit(bench.good, read_10(0, 8))
            assert medium.was_read.wait(10)
        finally:
            medium.go.set()
        stepping.result()
        assert found.result() == bench.good(read_10(0, 8)) != OLD


def test_one_step_amid_a_read_is_seen_or_not() -> None:
    medium = Halting()
    bench = Bench(TargetConfig(NAME, {0: Lun(medium)}))
    bench.good(write_10(0, 8), data=OLD)
    other = bench.enter("other")
    with ThreadPoolExecutor(1) as pool:
        medium.amid_read.append(lambda: pool.submit(bench.good, compare_and_write(0, 8), data=OLD + NEW).result())
        assert bench.good(read_10(0, 8), by=other) in (OLD, NEW)
    assert bench.good(read_10(0, 8)) == NEW


@pytest.mark.parametrize(
    ("cdb", "length"),
    [
        (compare_and_write(0, 1), 1024), (compare_and_write(0, 0), 0), (sixteen(0x8B, 0, 2), 1024),
        (bytes([0x9C]) + bytes(12) + b"\x08\0\0", 4096), (sixteen(0x93, 0, 4), 512), (sixteen(0x93, 0, 4, flags=1), 0),
    ],
)  # fmt: skip
def test_some_commands_want_exactly_their_data(bench: Bench, cdb: bytes, length: int) -> None:
    for promised in (length, None):
        outcome = bench.start(cdb, promised=promised)
        assert outcome == Reply() if not length else isinstance(outcome, WantData)
    for promised in (length + 512, length - 1, 0 if length else 1):
        outcome = bench.start(cdb, promised=promised)
        assert isinstance(outcome, Reply)
        assert (outcome.sense[2], outcome.sense[12]) == (ILLEGAL, 0x24)


def test_orwrite(bench: Bench) -> None:
    bench.good(write_10(0, 2), data=b"\x0f" * 512 + bytes(512))
    bench.good(sixteen(0x8B, 0, 2), data=b"\x30" * 1024)
    assert bench.good(read_10(0, 2)) == b"\x3f" * 512 + b"\x30" * 512


def write_atomic(lba: int, blocks: int, boundary: int = 0) -> bytes:
    return bytes([0x9C, 0]) + lba.to_bytes(8, "big") + boundary.to_bytes(2, "big") + blocks.to_bytes(2, "big") + b"\0\0"


def test_write_atomic_keeps_to_physical_blocks(bench: Bench) -> None:
    bench.good(write_atomic(8, 16), data=A * 16)
    assert bench.good(read_10(7, 18)) == bytes(512) + A * 16 + bytes(512)
    for cdb in (write_atomic(4, 8), write_atomic(8, 4), write_atomic(0, 8, boundary=8)):
        assert bench.sense(cdb) == (ILLEGAL, 0x24, 0)
    limits = bench.good(bytes([0x12, 1, 0xB0, 0, 255, 0]))
    assert [int.from_bytes(limits[at : at + 4], "big") for at in (44, 48, 52)] == [2048, 8, 8]


# Write and verify, pre-fetch, defects


@pytest.mark.parametrize(("opcode", "room"), [(0x2E, 10), (0xAE, 12), (0x8E, 16)])
@pytest.mark.parametrize("flags", [0, 2])
def test_write_and_verify(bench: Bench, opcode: int, room: int, flags: int) -> None:
    at = {
        10: bytes([opcode, flags, 0, 0, 0, 5, 0, 0, 2, 0]),
        12: bytes([opcode, flags, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]),
        16: sixteen(opcode, 5, 2, flags=flags),
    }
    bench.good(at[room], data=A + B)
    assert bench.good(read_10(5, 2)) == A + B
    assert bench.sense(bytes([opcode, 4]) + at[room][2:]) == (ILLEGAL, 0x24, 0)


def test_pre_fetch_and_defects(bench: Bench) -> None:
    for cdb in (bytes([0x34]) + read_10(0, 8)[1:], sixteen(0x90, 0, 0)):
        assert bench.run(cdb).status == CONDITION_MET
    assert bench.sense(sixteen(0x90, BLOCKS, 1)) == (ILLEGAL, 0x21, 0)
    assert bench.good(bytes([0x37, 0, 0x0D, 0, 0, 0, 0, 0, 64, 0])) == b"\0\x0d\0\0"
    assert bench.good(bytes([0xB7, 0x0D, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0])) == b"\0\x0d" + bytes(6)


# Modes


def mode_select(*pages: bytes, flags: int = 0x10) -> tuple[bytes, bytes]:
    data = bytes(4) + b"".join(pages)
    return bytes([0x15, flags, 0, 0, len(data), 0]), data


CONTROL, CACHING = bytes([0x0A, 0x0A, 0, 0x10]) + bytes(8), bytes([0x08, 0x12]) + bytes(18)
SWP = CONTROL[:4] + b"\x08" + CONTROL[5:]


def test_write_protection_by_mode_select_is_everybodys(bench: Bench) -> None:
    you = bench.enter("you")
    cdb, data = mode_select(SWP)
    bench.good(cdb, data=data)
    assert bench.sense(READY, by=you) == (6, 0x2A, 1)
    assert bench.sense(write_10(0, 1), by=you) == bench.sense(sixteen(0x93, 0, 1)) == (7, 0x27, 0)
    assert bench.good(bytes([0x1A, 8, 0x0A, 0, 255, 0]))[2] & 0x80
    bench.good(cdb, data=data)  # no change: nobody is told
    assert bench.good(READY, by=you) == b""
    bench.target.reset_unit(0)
    assert bench.sense(READY) == (6, 0x29, 3)
    bench.good(write_10(0, 1), data=A)


def test_without_a_write_cache_every_write_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    medium = RamMedium(1 << 20)
    monkeypatch.setattr(medium, "flush", lambda: flushed.append(True))
    bench = Bench(TargetConfig(NAME, {0: Lun(medium)}))
    bench.good(write_10(0, 1), data=A)
    assert flushed == []
    cdb, data = mode_select(CACHING)
    bench.good(cdb, data=data)
    assert len(flushed) == 1  # what the cache held
    for cdb, data in (
        (write_10(0, 1), A), (sixteen(0x93, 0, 4), A), (sixteen(0x93, 0, 4), bytes(512)),
        (compare_and_write(0, 1), bytes(512) + A),
    ):  # fmt: skip
        before = len(flushed)
        bench.good(cdb, data=data)
        assert len(flushed) == before + 1


@pytest.mark.parametrize(
    ("pages", "flags", "sense"),
    [
        ((SWP,), 0x00, (ILLEGAL, 0x24, 0)), ((SWP,), 0x11, (ILLEGAL, 0x24, 0)),
        ((CONTROL[:2] + b"\x04" + CONTROL[3:],), 0x10, (ILLEGAL, 0x26, 0)), ((SWP[:-1],), 0x10, (ILLEGAL, 0x26, 0)),
        ((b"\x02\x0e" + bytes(14),), 0x10, (ILLEGAL, 0x26, 0)), ((SWP, b"\x08"), 0x10, (ILLEGAL, 0x26, 0)),
    ],
)  # fmt: skip
def test_mode_pages_that_are_refused_change_nothing(
    bench: Bench, pages: tuple[bytes, ...], flags: int, sense: tuple[int, int, int]
) -> None:
    cdb, data = mode_select(*pages, flags=flags)
    assert bench.sense(cdb, data=data if flags == 0x10 else b"") == sense
    bench.good(write_10(0, 1), data=A)


# A medium that comes and goes

EJECT, LOAD = bytes([0x1B, 0, 0, 0, 2]), bytes([0x1B, 0, 0, 0, 3])
PREVENT, ALLOW = bytes([0x1E, 0, 0, 0, 1]), bytes([0x1E])


def removable() -> Bench:
    return Bench(TargetConfig(NAME, {0: Lun(RamMedium(1 << 20), removable=True)}))


def test_an_ejected_medium_is_gone_for_all_until_it_is_loaded() -> None:
    bench = removable()
    you = bench.enter("you")
    assert bench.good(bytes([0x12, 0, 0, 0, 36]))[1] & 0x80
    bench.good(EJECT)
    for cdb in (READY, read_10(0, 1), write_10(0, 1), bytes([0x25])):
        assert bench.sense(cdb, by=you) == (2, 0x3A, 0)
    bench.good(bytes([0x1A, 8, 0x3F, 0, 255]), by=you)
    bench.good(LOAD)
    assert bench.good(READY) == b""
    assert bench.sense(READY, by=you) == (6, 0x28, 0)


@pytest.mark.parametrize("end", ["allow", "lost", "reset"])
def test_removal_is_prevented_until_all_allow_it(end: str) -> None:
    bench = removable()
    you = bench.enter("you")
    bench.good(PREVENT, by=you)
    assert bench.sense(EJECT) == (ILLEGAL, 0x53, 2)
    bench.good(READY)
    if end == "allow":
        bench.good(ALLOW, by=you)
    elif end == "lost":
        bench.target.lost(you.identity)
    else:
        bench.target.reset_unit(0)
        assert bench.sense(READY) == (6, 0x29, 3)
    bench.good(EJECT)
    assert bench.sense(READY) == (2, 0x3A, 0)


def test_a_power_condition_moves_no_medium() -> None:
    bench = removable()
    bench.good(bytes([0x1B, 0, 0, 0, 0x32]))
    bench.good(READY)


# SANITIZE


def sanitize(action: int, length: int = 0) -> bytes:
    return bytes([0x48, action, 0, 0, 0, 0, 0]) + length.to_bytes(2, "big") + b"\0"


def overwrite(count: int, pattern: bytes, flags: int = 0) -> bytes:
    return bytes([flags | count, 0]) + len(pattern).to_bytes(2, "big") + pattern


@pytest.mark.parametrize("action", [2, 3])
def test_erasing_leaves_zeros(bench: Bench, action: int) -> None:
    bench.good(write_10(0, BLOCKS), data=A * BLOCKS)
    bench.good(sanitize(action))
    assert not any(bench.good(read_10(0, BLOCKS)))


@pytest.mark.parametrize(
    ("count", "flags", "left"), [(1, 0, b"\x12\x34"), (2, 0x80, b"\x12\x34"), (3, 0x80, b"\x12\x34")]
)
def test_overwriting_leaves_the_pattern(bench: Bench, count: int, flags: int, left: bytes) -> None:
    given = overwrite(count, b"\x12\x34", flags)
    bench.good(sanitize(1, len(given)), data=given)
    assert bench.good(read_10(0, BLOCKS)) == left * (BLOCKS * 256)


def test_an_odd_pattern_begins_anew_in_every_block(bench: Bench) -> None:
    given = overwrite(1, b"abc")
    bench.good(sanitize(1, len(given)), data=given)
    assert bench.good(read_10(0, 2)) == (b"abc" * 171)[:512] * 2


@pytest.mark.parametrize(
    "given", [overwrite(0, A), overwrite(1, b""), overwrite(1, A, 0x20), b"\1\0\x0f\xff" + A[:500]]
)
def test_overwriting_with_nonsense(bench: Bench, given: bytes) -> None:
    assert bench.sense(sanitize(1, len(given)), data=given if len(given) > 4 else b"") == (ILLEGAL, 0x24, 0)
    for cdb in (sanitize(2, 4), b"\x48\x02\1", sanitize(0x0A)):
        assert bench.sense(cdb) == (ILLEGAL, 0x24, 0)


def test_while_sanitize_runs_there_is_nothing_but_its_progress() -> None:
    gate, reached = threading.Event(), threading.Event()

    class Slow(RamMedium):
        def zero(self, offset: int, length: int) -> None:
            if offset:
                reached.set()
                assert gate.wait(20)
            super().zero(offset, length)

    bench = Bench(TargetConfig(NAME, {0: Lun(Slow(16 << 20))}))
    bench.good(sanitize(0x82))
    assert reached.wait(20)
    for cdb in (READY, read_10(0, 1), write_10(0, 1), bytes([0x1A, 8, 0x3F, 0, 255]), sanitize(2)):
        assert bench.sense(cdb) == (2, 0x04, 0x1B)
    progress = bench.good(bytes([3, 0, 0, 0, 18]))
    assert (progress[2], progress[12:14], progress[15]) == (2, b"\x04\x1b", 0x80)
    assert int.from_bytes(progress[16:18], "big") < 32768
    bench.good(bytes([0x12, 0, 0, 0, 36]))
    bench.target.reset_unit(0)  # which does not stop it
    bench.nexus.take(0)
    assert bench.sense(READY) == (2, 0x04, 0x1B)
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "swd-target-sanitize":
            thread.join(20)
    assert bench.good(READY) == b""


def test_a_medium_that_is_closed_meanwhile_ends_its_sanitize(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    lun = Lun(RamMedium(16 << 20))
    lun.script.sanitize_seconds = 0.2
    bench = Bench(TargetConfig(NAME, {0: lun}))
    given = overwrite(1, A)
    bench.good(sanitize(0x81, len(given)), data=given)
    lun.medium.close()
    for thread in threading.enumerate():
        if thread.name == "swd-target-sanitize":
            thread.join(20)
    assert complaints == []
    assert lun.state.sanitize_failed


@pytest.mark.parametrize("ause", [0, 0x20])
def test_a_sanitize_that_failed_has_to_be_done_again_or_left(ause: int) -> None:
    class Bad(RamMedium):
        broken = True

        def zero(self, offset: int, length: int) -> None:
            if self.broken:
                raise MediumError("broken")
            super().zero(offset, length)

    medium = Bad(1 << 20)
    bench = Bench(TargetConfig(NAME, {0: Lun(medium)}))
    assert bench.sense(sanitize(2 | ause)) == bench.sense(READY) == bench.sense(read_10(0, 1)) == (3, 0x31, 3)
    if ause:
        bench.good(sanitize(0x1F))
    else:
        assert bench.sense(sanitize(0x1F)) == (ILLEGAL, 0x24, 0)
        medium.broken = False
        bench.good(sanitize(2))
    assert bench.good(READY) == b""


# EXTENDED COPY


def designator(bench: Bench, lun: int) -> bytes:
    name = bench.good(bytes([0x12, 1, 0x83, 1, 0]), lun)[8:24]
    return (b"\xe4\0\0\0\x01\x03\0\x10" + name).ljust(32, b"\0")


def segment(source: int, to: int, blocks: int, from_lba: int, to_lba: int, flags: int = 0) -> bytes:
    return struct.pack(">BBHHHHHQQ", 2, flags, 24, source, to, 0, blocks, from_lba, to_lba)


def copy(units: list[bytes], segments: list[bytes], list_id: int = 5) -> tuple[bytes, bytes]:
    lists = b"".join(units), b"".join(segments)
    data = struct.pack(">BBHIII", list_id, 0, len(lists[0]), 0, len(lists[1]), 0) + lists[0] + lists[1]
    return b"\x83" + bytes(9) + len(data).to_bytes(4, "big") + b"\0\0", data


def copy_status(bench: Bench, list_id: int) -> tuple[int, int, int]:
    data = bench.good(bytes([0x84, 0, list_id]) + bytes(7) + (64).to_bytes(4, "big"))
    return data[4], int.from_bytes(data[5:7], "big"), int.from_bytes(data[8:12], "big")


def test_copying_between_units_of_other_block_sizes(bench: Bench) -> None:
    bench.good(write_10(0, 16), data=A * 8 + B * 8)
    both = [designator(bench, 0), designator(bench, 1)]
    cdb, data = copy(both, [segment(0, 1, 16, 0, 3), segment(1, 0, 1, 4, 100)])
    bench.good(cdb, data=data)
    assert bench.good(read_10(3, 2), 1) == A * 8 + B * 8
    assert bench.good(read_10(100, 8)) == B * 8
    assert copy_status(bench, 5) == (1, 2, 16 * 512 + 4096)
    assert bench.sense(bytes([0x84, 0, 6]) + bytes(7) + b"\0\0\0\x40") == (ILLEGAL, 0x24, 0)


def test_copies_that_are_refused(bench: Bench) -> None:
    one = designator(bench, 0)
    aborted = (0xA, 0x0D, 2)
    for units, segments, sense in (
        ([one] * 9, [], (ILLEGAL, 0x26, 6)),
        ([b"\xe0" + one[1:]], [], (ILLEGAL, 0x26, 7)),
        ([one], [segment(0, 0, 1, 0, 1)] * 17, (ILLEGAL, 0x26, 8)),
        ([one], [b"\x03" + segment(0, 0, 1, 0, 1)[1:]], (ILLEGAL, 0x26, 9)),
        ([one], [segment(0, 1, 1, 0, 1)], aborted),
        ([one[:8] + bytes(24)], [segment(0, 0, 1, 0, 1)], aborted),
        ([one], [segment(0, 0, 2, 0, BLOCKS - 1)], (0xA, 0, 0)),
        ([one, designator(bench, 1)], [segment(0, 1, 3, 0, 0)], (ILLEGAL, 0x26, 0)),
        ([one, designator(bench, 2)], [segment(0, 1, 1, 0, 0)], (7, 0x27, 0)),
    ):
        cdb, data = copy(units, segments)
        assert bench.sense(cdb, data=data) == sense
    assert copy_status(bench, 5)[0] == 2
    cdb, data = copy([one] * 9, [segment(0, 0, 1, 0, 1)] * 17)
    assert bench.sense(cdb, data=data) == (ILLEGAL, 0x1A, 0)


def test_a_copy_respects_reservations_of_its_units(bench: Bench) -> None:
    you = bench.enter("you")
    for cdb, data in (reserve_out(REGISTER, new=1), reserve_out(RESERVE, 1, kind=1)):
        bench.good(cdb, 1, data, by=you)
    cdb, data = copy([designator(bench, 0), designator(bench, 1)], [segment(0, 1, 8, 0, 0)])
    assert bench.sense(cdb, data=data) == CONFLICT
    cdb, data = copy([designator(bench, 0), designator(bench, 1)], [segment(1, 0, 1, 0, 0)])
    bench.good(cdb, data=data)


# What is supported


def supported(bench: Bench, options: int, opcode: int = 0, action: int = 0, lun: int = 0) -> bytes:
    cdb = bytes([0xA3, 0x0C, options, opcode]) + action.to_bytes(2, "big") + (65535).to_bytes(4, "big")
    return bench.good(cdb, lun)


@pytest.mark.parametrize("rctd", [0, 0x80])
def test_every_command_is_listed_and_told_alone(bench: Bench, rctd: int) -> None:
    data = supported(bench, rctd)
    size = 20 if rctd else 8
    listed = [data[at : at + size] for at in range(4, len(data), size)]
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert len(listed) == len(TABLE) - 2  # no ALUA here
    for one in listed:
        opcode, action, flags = one[0], int.from_bytes(one[2:4], "big"), one[5]
        told = supported(bench, rctd | 3, opcode, action)
        length = int.from_bytes(told[2:4], "big")
        assert (told[1] & 7, length, told[4]) == (3, int.from_bytes(one[6:8], "big"), opcode)
        assert length == {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}[opcode >> 5 if opcode not in (0x83, 0x84) else 4]
        if flags & 1:
            assert told[5] & 0x1F == action
        if rctd:
            assert told[4 + length : 6 + length] == b"\0\x0a"
            assert int.from_bytes(told[-4:], "big") in (30, 60, 600)
    assert {(one[0], one[5] & 1) for one in listed} >= {(0x28, 0), (0x5F, 1), (0x42, 0)}


def test_what_a_unit_has_not_is_not_supported(bench: Bench) -> None:
    assert supported(bench, 1, 0x42, lun=1)[1] == 1
    assert supported(bench, 1, 0xC0)[1] == 1
    assert supported(bench, 3, 0x5F, 0x1F)[1] == 1
    for options, opcode in ((1, 0x5F), (2, 0x28), (4, 0x28)):
        assert bench.sense(bytes([0xA3, 0x0C, options, opcode, 0, 0, 0, 0, 1, 0])) == (ILLEGAL, 0x24, 0)


# Target port groups


def report_groups(bench: Bench) -> dict[int, tuple[int, bool, int]]:
    """group -> (state, preferred, status code)."""
    data = bench.good(bytes([0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 4, 0]))
    body = [data[at : at + 12] for at in range(4, len(data), 12)]
    assert all(one[7] == 1 and one[10:12] == one[2:4] for one in body)
    return {int.from_bytes(one[2:4], "big"): (one[0] & 15, bool(one[0] & 0x80), one[5]) for one in body}


def with_groups(**more: object) -> tuple[Bench, PortGroups]:
    groups = PortGroups({1: "active/optimized", 2: "standby"}, preferred=1, **more)  # type: ignore[arg-type]
    return Bench(TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))}, alua=groups)), groups


def test_states_are_reported_and_told() -> None:
    bench, groups = with_groups()
    assert bench.good(bytes([0x12, 0, 0, 0, 36]))[5] & 0x30 == 0x10
    assert report_groups(bench) == {1: (0, True, 0), 2: (2, False, 0)}
    groups.set(2, "active/non-optimized")
    assert bench.sense(READY) == (6, 0x2A, 6)
    assert report_groups(bench) == {1: (0, True, 0), 2: (1, False, 2)}
    assert groups.state(2) == "active/non-optimized"


@pytest.mark.parametrize(
    ("state", "ascq", "modes", "works"),
    [
        ("active/optimized", 0, True, True), ("active/non-optimized", 0, True, True), ("standby", 0x0B, True, False),
        ("unavailable", 0x0C, False, False), ("transitioning", 0x0A, False, False),
    ],
)  # fmt: skip
def test_what_a_state_lets_through(state: str, ascq: int, modes: bool, works: bool) -> None:
    bench, groups = with_groups()
    there = bench.enter("me", group=2)
    groups.set(2, state)
    for nexus in (bench.nexus, there):
        nexus.take(0)
    refused = (2, 0x04, ascq)
    for cdb in (READY, read_10(0, 1), bytes([0x25])):
        assert (bench.run(cdb, by=there).status == 0) == works
        if not works:
            assert bench.sense(cdb, by=there) == refused
        bench.good(cdb)  # the other group stays as it is
    for cdb in (bytes([0x1A, 8, 0x3F, 0, 255]), bytes([0x5E, 0, 0, 0, 0, 0, 0, 0, 255])):
        assert (bench.run(cdb, by=there).status == 0) == modes
    for cdb in (bytes([0x12, 0, 0, 0, 36]), bytes([3, 0, 0, 0, 18]), bytes([0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 4, 0])):
        bench.good(cdb, by=there)


def test_designators_are_those_of_the_port() -> None:
    bench, _ = with_groups()
    for group in (1, 2):
        data = bench.good(bytes([0x12, 1, 0x83, 1, 0]), by=bench.enter("me", group=group))
        assert b"\x51\x94\0\4" + group.to_bytes(4, "big") in data
        assert b"\x51\x95\0\4" + group.to_bytes(4, "big") in data
        assert f"{NAME},t,0x{group:04x}".encode() in data


def test_initiators_set_states_where_they_may() -> None:
    words = bytes([0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 12]), bytes(4) + b"\x02\0\0\1" + b"\0\0\0\2"
    bench, groups = with_groups()
    assert bench.sense(words[0]) == (ILLEGAL, 0x20, 0)
    bench, groups = with_groups(explicit=True)
    you = bench.enter("you")
    assert bench.good(bytes([0x12, 0, 0, 0, 36]))[5] & 0x30 == 0x30
    bench.good(words[0], data=words[1])
    assert (groups.state(1), groups.state(2)) == ("standby", "active/optimized")
    assert report_groups(bench)[2] == (0, False, 1)
    assert bench.sense(READY, by=you) == (6, 0x2A, 6)
    for wrong in (b"\x0f\0\0\1", b"\0\0\0\3", b"\x0e\0\0\1"):
        assert bench.sense(words[0][:9] + b"\x08", data=bytes(4) + wrong) == (ILLEGAL, 0x26, 0)
    assert set(STATES) >= {groups.state(1), groups.state(2)}


def test_overwriting_a_file(tmp_path: Path) -> None:
    bench = Bench(TargetConfig(NAME, {0: Lun(FileMedium(tmp_path / "disk", size=9 << 20, create=True))}))
    given = overwrite(1, b"\x5a")
    bench.good(sanitize(1, len(given)), data=given)
    assert (tmp_path / "disk").read_bytes() == b"\x5a" * (9 << 20)
