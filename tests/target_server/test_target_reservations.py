# SPDX-License-Identifier: Apache-2.0
"""Reservations: who may do what, who is told, and what the lists say. Bytes are written by hand from SPC-4."""

from __future__ import annotations

import itertools

import pytest
from raw_initiator import read_10, write_10
from scsi_bench import CONFLICT, ILLEGAL, NAME, Bench

from swd.target import Lun, RamMedium, TargetConfig
from swd.target.scsi.nexus import Nexus
from swd.target.scsi.reservations import TYPES

READY = bytes(6)
KEYS, RESERVATION, CAPABILITIES, FULL = range(4)
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE, MOVE = range(8)
PREEMPTED, RELEASED, REGISTRATION_PREEMPTED = (6, 0x2A, 3), (6, 0x2A, 4), (6, 0x2A, 5)
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = 1, 3, 5, 6, 7, 8
BLOCK = b"\xaa" * 512


def reserve_in(action: int, room: int = 4096) -> bytes:
    return bytes([0x5E, action, 0, 0, 0, 0, 0]) + room.to_bytes(2, "big") + b"\0"


def reserve_out(
    action: int, key: int = 0, new: int = 0, *, kind: int = 0, flags: int = 0, rest: bytes = b""
) -> tuple[bytes, bytes]:
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(4) + bytes([flags, 0, 0, 0]) + rest
    return bytes([0x5F, action, kind, 0, 0]) + len(data).to_bytes(4, "big") + b"\0", data


class Three(Bench):
    """`me` and `you` are registered with keys 1 and 2, `other` is not."""

    def __init__(self) -> None:
        super().__init__()
        self.you, self.other = self.enter("you"), self.enter("other")
        self.out(REGISTER, new=1)
        self.out(REGISTER, new=2, by=self.you)

    def out(self, action: int, key: int = 0, new: int = 0, *, by: Nexus | None = None, **more: int) -> None:
        self.good(*self._words(action, key, new, **more), by=by)

    def out_sense(
        self, action: int, key: int = 0, new: int = 0, *, by: Nexus | None = None, **more: int
    ) -> tuple[int, int, int]:
        return self.sense(*self._words(action, key, new, **more), by=by)

    def _words(self, action: int, key: int, new: int, **more: int) -> tuple[bytes, int, bytes]:
        cdb, data = reserve_out(action, key, new, **more)  # type: ignore[arg-type]
        return cdb, 0, data

    def keys(self) -> list[int]:
        data = self.good(reserve_in(KEYS), by=self.enter("reader"))
        assert int.from_bytes(data[4:8], "big") == len(data) - 8
        return [int.from_bytes(data[at : at + 8], "big") for at in range(8, len(data), 8)]

    def reserved(self) -> tuple[int, int] | None:
        """(key, type)."""
        data = self.good(reserve_in(RESERVATION), by=self.enter("reader"))
        return (int.from_bytes(data[8:16], "big"), data[21]) if len(data) > 8 else None

    def may(self, by: Nexus) -> str:
        """What a nexus may do: r, w."""
        return "".join(
            letter
            for letter, cdb, data in (("r", read_10(0, 1), b""), ("w", write_10(0, 1), BLOCK))
            if self.run(cdb, data=data if not self.refused(cdb, by) else b"", by=by).status == 0
        )

    def refused(self, cdb: bytes, by: Nexus) -> bool:
        outcome = self.start(cdb, by=by)
        return getattr(outcome, "status", 0) != 0


@pytest.fixture
def three() -> Three:
    return Three()


@pytest.mark.parametrize(
    ("kind", "you", "other"),
    [
        (WE, "r", "r"), (EA, "", ""), (WE_RO, "rw", "r"), (EA_RO, "rw", ""), (WE_AR, "rw", "r"), (EA_AR, "rw", ""),
    ],
)  # fmt: skip
def test_access_by_type(three: Three, kind: int, you: str, other: str) -> None:
    three.out(RESERVE, 1, kind=kind)
    assert (three.may(three.nexus), three.may(three.you), three.may(three.other)) == ("rw", you, other)
    for nexus in (three.you, three.other):  # what asks for nothing that is guarded
        for cdb in (READY, bytes([0x12, 0, 0, 0, 36]), reserve_in(KEYS), bytes([0x25])):
            three.good(cdb, by=nexus)
    three.out(RELEASE, 1, kind=kind)
    assert three.may(three.other) == "r" + "w"


def test_a_registration_needs_the_right_key(three: Three) -> None:
    assert three.out_sense(REGISTER, 9, 5) == CONFLICT
    assert three.out_sense(REGISTER, 9, 5, by=three.other) == CONFLICT
    assert three.out_sense(RESERVE, 2, kind=WE) == CONFLICT
    assert three.out_sense(RESERVE, 0, kind=WE, by=three.other) == CONFLICT
    assert three.keys() == [1, 2]
    three.out(REGISTER, 1, 7)
    three.out(IGNORE, 99, 8, by=three.other)
    assert sorted(three.keys()) == [2, 7, 8]
    three.out(REGISTER, 7, 0)
    assert sorted(three.keys()) == [2, 8]


def test_reserving_twice(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE)
    three.out(RESERVE, 1, kind=WE)
    assert three.out_sense(RESERVE, 1, kind=EA) == CONFLICT
    assert three.out_sense(RESERVE, 2, kind=WE, by=three.you) == CONFLICT
    assert three.reserved() == (1, WE)
    three.out(RELEASE, 2, kind=WE, by=three.you)  # holds nothing: nothing happens
    assert three.reserved() == (1, WE)
    assert three.out_sense(RELEASE, 1, kind=EA) == (ILLEGAL, 0x26, 4)


@pytest.mark.parametrize("kind", [0, 2, 4, 9, 0x11])
def test_types_and_scopes_that_are_not_there(three: Three, kind: int) -> None:
    assert three.out_sense(RESERVE, 1, kind=kind) == (ILLEGAL, 0x24, 0)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_release_tells_registrants_where_they_had_a_share(three: Three, kind: int) -> None:
    three.out(RESERVE, 1, kind=kind)
    three.out(RELEASE, 1, kind=kind)
    told = three.run(READY, by=three.you).status == 2
    assert told == (kind in (WE_RO, EA_RO, WE_AR, EA_AR))
    assert three.good(READY) == three.good(READY, by=three.other) == b""


def test_all_registrants_hold_it_until_the_last_goes(three: Three) -> None:
    three.out(RESERVE, 1, kind=EA_AR)
    assert three.reserved() == (0, EA_AR)
    three.out(RESERVE, 2, kind=EA_AR, by=three.you)
    three.out(REGISTER, 1, 0)
    assert three.reserved() == (0, EA_AR)
    assert (three.may(three.nexus), three.may(three.you)) == ("", "rw")
    three.out(REGISTER, 2, 0, by=three.you)
    assert three.reserved() is None


def test_the_holders_unregistration_releases(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE_RO)
    three.out(REGISTER, 1, 0)
    assert three.reserved() is None
    assert three.sense(READY, by=three.you) == RELEASED


def test_clear(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE)
    three.out(CLEAR, 2, by=three.you)
    assert (three.keys(), three.reserved()) == ([], None)
    assert three.sense(READY) == PREEMPTED
    assert three.good(READY, by=three.you) == b""


def test_preempting_the_holder(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE)
    three.out(PREEMPT, 2, 1, kind=EA, by=three.you)
    assert (three.keys(), three.reserved()) == ([2], (2, EA))
    assert three.sense(READY) == REGISTRATION_PREEMPTED
    assert three.may(three.nexus) == ""


def test_preempting_a_registrant_only(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE)
    three.out(REGISTER, new=3, by=three.other)
    three.out(PREEMPT, 1, 3, kind=EA)
    assert (sorted(three.keys()), three.reserved()) == ([1, 2], (1, WE))
    assert three.sense(READY, by=three.other) == REGISTRATION_PREEMPTED
    assert three.out_sense(PREEMPT, 1, 77, kind=WE) == CONFLICT
    assert three.out_sense(PREEMPT, 1, 0, kind=WE) == (ILLEGAL, 0x26, 0)


def test_preempting_all_registrants(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE_AR)
    three.out(REGISTER, new=3, by=three.other)
    three.out(PREEMPT, 1, 0, kind=EA)
    assert (three.keys(), three.reserved()) == ([1], (1, EA))
    assert three.sense(READY, by=three.you) == three.sense(READY, by=three.other) == REGISTRATION_PREEMPTED


def test_preempt_and_abort_drops_the_victims_tasks(three: Three) -> None:
    dropped: list[tuple[int, list[str]]] = []
    three.target.abort = lambda lun, nexuses: dropped.append((lun, [one.initiator_name[-3:] for one in nexuses]))
    three.out(RESERVE, 1, kind=WE)
    three.out(PREEMPT_AND_ABORT, 2, 1, kind=WE, by=three.you)
    assert dropped == [(0, [":me"])]


def test_the_generation_counts_changes_of_registrations_only(three: Three) -> None:
    def generation() -> int:
        return int.from_bytes(three.good(reserve_in(KEYS))[:4], "big")

    before = generation()
    three.out(RESERVE, 1, kind=WE)
    three.out(RELEASE, 1, kind=WE)
    assert generation() == before
    three.out(REGISTER, 1, 5)
    assert generation() == before + 1


def test_full_status_and_capabilities(three: Three) -> None:
    three.out(RESERVE, 1, kind=WE)
    data = three.good(reserve_in(FULL))
    first, second = data[8:], data[8 + 24 + int.from_bytes(data[28:32], "big") :]
    assert (int.from_bytes(first[:8], "big"), first[12], first[13]) == (1, 1, WE)
    assert (int.from_bytes(second[:8], "big"), second[12], second[13]) == (2, 0, 0)
    assert first[18:20] == b"\0\1"  # the relative target port
    name = b"iqn.2026-01.org.example:me,i,0x800000000001\0"
    assert first[24:28] == b"\x45\0\0" + bytes([len(name) + -len(name) % 4])
    assert first[28:].startswith(name)
    assert three.good(reserve_in(CAPABILITIES)) == bytes.fromhex("00080c80ea010000")


def test_lists_are_cut_to_the_allocation_length(three: Three) -> None:
    whole = three.good(reserve_in(KEYS))
    for room in range(len(whole) + 1):
        assert three.good(reserve_in(KEYS, room)) == whole[:room]


def test_registering_other_ports_and_all_ports() -> None:
    bench = Bench(TargetConfig(NAME, {0: Lun(RamMedium(4096))}))
    you = bench.enter("you")
    name = b"iqn.2026-01.org.example:you,i,0x800000000001\0\0\0\0"
    transport = b"\x45\0" + len(name).to_bytes(2, "big") + name
    listed = len(transport).to_bytes(4, "big") + transport
    cdb, data = reserve_out(REGISTER, new=4, flags=0x08, rest=listed)
    bench.good(cdb, data=data)
    cdb, data = reserve_out(RESERVE, 4, kind=WE)
    bench.good(cdb, data=data, by=you)
    for wrong in (b"", listed[:-4], listed[:3], b"\0\0\0\4" + b"\x05\0\0\x14", listed.replace(b",i,", b",x,")):
        cdb, data = reserve_out(REGISTER, 4, 5, flags=0x08, rest=wrong)
        assert bench.sense(cdb, data=data) == (ILLEGAL, 0x26, 0)


def test_register_and_move(three: Three) -> None:
    three.out(RESERVE, 1, kind=EA)
    name = b"iqn.2026-01.org.example:other,i,0x800000000001\0\0"
    transport = b"\x45\0" + len(name).to_bytes(2, "big") + name

    def words(key: int, group: int) -> tuple[bytes, bytes]:
        head = key.to_bytes(8, "big") + (9).to_bytes(8, "big") + b"\0\2" + group.to_bytes(2, "big")
        data = head + len(transport).to_bytes(4, "big") + transport
        return bytes([0x5F, MOVE, 0, 0, 0]) + len(data).to_bytes(4, "big"), data

    cdb, data = words(2, 1)
    assert three.sense(cdb, data=data, by=three.you) == CONFLICT
    cdb, data = words(1, 7)
    assert three.sense(cdb, data=data) == (ILLEGAL, 0x26, 0)
    cdb, data = words(1, 1)
    three.good(cdb, data=data)
    assert (sorted(three.keys()), three.reserved()) == ([2, 9], (9, EA))
    assert (three.may(three.nexus), three.may(three.other)) == ("", "rw")


@pytest.mark.parametrize("length", [0, 23, 25, 70000])
def test_parameter_lists_of_a_wrong_length(three: Three, length: int) -> None:
    assert three.sense(bytes([0x5F, RESERVE, WE, 0, 0]) + length.to_bytes(4, "big"))[:2] == (ILLEGAL, 0x1A)


def test_without_a_file_nothing_persists(three: Three) -> None:
    assert three.out_sense(REGISTER, 1, 1, flags=0x01) == (ILLEGAL, 0x26, 0)


def test_reserve_6_keeps_the_others_out(three: Three) -> None:
    for key, nexus in ((1, three.nexus), (2, three.you)):
        three.out(REGISTER, key, 0, by=nexus)
    three.good(bytes([0x16]))
    for cdb in (READY, read_10(0, 1), write_10(0, 1), bytes([0x16]), reserve_in(KEYS)):
        assert three.sense(cdb, by=three.you) == CONFLICT
    three.good(bytes([0x12, 0, 0, 0, 36]), by=three.you)
    three.good(bytes([0x17]), by=three.you)  # releases what it has: nothing
    assert three.may(three.you) == ""
    three.good(bytes([0x17]))
    assert three.may(three.you) == "rw"


@pytest.mark.parametrize("how", ["lost", "reset"])
def test_reserve_6_ends_with_the_nexus_and_with_a_reset(three: Three, how: str) -> None:
    for key, nexus in ((1, three.nexus), (2, three.you)):
        three.out(REGISTER, key, 0, by=nexus)
    three.good(bytes([0x16]))
    if how == "lost":
        three.target.lost(three.nexus.identity)
    else:
        three.target.reset_unit(0)
        assert three.sense(READY, by=three.you) == (6, 0x29, 3)
    assert three.may(three.you) == "rw"


def test_reserve_6_and_registrations_exclude_each_other(three: Three) -> None:
    assert three.sense(bytes([0x16])) == three.sense(bytes([0x17])) == CONFLICT
    for key, nexus in ((1, three.nexus), (2, three.you)):
        three.out(REGISTER, key, 0, by=nexus)
    three.good(bytes([0x16]))
    assert three.out_sense(REGISTER, 0, 5) == three.out_sense(REGISTER, 0, 5, by=three.you) == CONFLICT


def test_a_lun_that_two_targets_serve_has_one_reservation() -> None:
    lun = Lun(RamMedium(64 << 10), serial="shared")
    benches = [Bench(TargetConfig(NAME + str(number), {0: lun})) for number in range(2)]
    cdb, data = reserve_out(REGISTER, new=1)
    benches[0].good(cdb, data=data)
    cdb, data = reserve_out(RESERVE, 1, kind=EA)
    benches[0].good(cdb, data=data)
    assert benches[1].sense(read_10(0, 1)) == CONFLICT
    cdb, data = reserve_out(REGISTER, new=2)
    benches[1].good(cdb, data=data)
    cdb, data = reserve_out(CLEAR, 2)
    benches[1].good(cdb, data=data)
    assert benches[0].sense(READY) == PREEMPTED


def test_any_order_of_actions_leaves_a_table_that_holds_together() -> None:
    """A reservation has a holder who is registered; without registrations there is none."""
    actions = list(itertools.product(range(7), (0, 1), (0, 1, 2), (WE, EA_AR)))
    for first, second in itertools.product(actions[::3], actions[::5]):
        three = Three()
        for number, (action, key, new, kind) in enumerate((first, second)):
            cdb, data = reserve_out(action, key, new, kind=kind)
            assert three.run(cdb, data=data, by=three.you if number else None).status in (0, 2, 0x18)
            table = three.target.units[0].state.registry.table
            if table.kind == WE:
                assert table.holder in table.keys
            elif table.kind:
                assert table.holder is None
                assert table.keys
