# SPDX-License-Identifier: Apache-2.0
"""Every way in which a connection ends, each reached by a stream written by hand, and what must not have happened."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from engine_hand import Hand
from engine_rig import LUN
from fault_cases import CASES, LONG, spoiled
from model.wire import FINAL, RESERVED, STATUS, UNDERFLOW

from swd._engine import FAULTS
from swd.errors import BadDescriptor, ConnectionLost, DigestMismatch, ProtocolViolation, SwdError

# Those that take a descriptor or a lack of memory have tests of their own; by the start of their words.
ELSEWHERE = ("the session is closed", "the target closed the connection", "the connection broke", "no memory for")


def meaning(error: SwdError) -> list[int]:
    """The entries of FAULTS whose words, numbers aside, are those of the error."""
    patterns = {code: re.sub(r"\\\{.+?\\\}", "[0-9a-f]+", re.escape(words)) for code, (_, _, words) in FAULTS.items()}
    return [code for code, pattern in patterns.items() if re.match(pattern, error.reason)]


@pytest.mark.parametrize("name", CASES)
def test_fault(name: str) -> None:
    case, words = CASES[name]
    hand, pdus = case()
    with pytest.raises(SwdError, match=re.escape(words)) as caught:
        hand.feed(*pdus)
    (code,) = meaning(caught.value)
    kind, clause, _ = FAULTS[code]
    assert type(caught.value) is kind
    assert getattr(caught.value, "clause", "") == (clause if kind is ProtocolViolation else "")
    assert all(guarded.intact() for guarded in hand.buffers.values())


def test_every_fault_has_a_case() -> None:
    reached = set()
    for case, _ in CASES.values():
        hand, pdus = case()
        with pytest.raises(SwdError) as caught:
            hand.feed(*pdus)
        reached.update(meaning(caught.value))
    missed = [words for code, (_, _, words) in FAULTS.items() if code not in reached]
    assert [words for words in missed if not words.startswith(ELSEWHERE)] == []


def test_every_violation_names_its_clause() -> None:
    for kind, clause, words in FAULTS.values():
        assert kind in (ProtocolViolation, DigestMismatch, ConnectionLost, BadDescriptor), words
        if kind is ProtocolViolation:
            assert re.fullmatch(r"\d+(\.\d+)*", clause), words


@pytest.mark.parametrize("data_digest", [False, True])
def test_no_payload_is_placed_before_its_header_is_good(data_digest: bool) -> None:
    hand = Hand(header_digest=True, data_digest=data_digest)
    itt = hand.read(1024)
    hand.refuses(spoiled(hand.data_in(itt, LONG), "header"), kind=DigestMismatch, match="the header digest is")
    assert hand.buffers[itt].view == b"\xee" * 1024


@pytest.mark.parametrize(
    "changes", [{"sn": 1}, {"offset": 4}, {"offset": 0xFFFFFFFF}, {"itt": RESERVED}, {"flags": FINAL | 0x40}]
)
def test_no_payload_is_placed_by_a_header_that_breaks_a_rule(changes: dict[str, int]) -> None:
    hand = Hand()
    itt = hand.read(1024)
    hand.refuses(hand.data_in(**{"itt": itt, "data": LONG[:512], **changes}), match="RFC 7143")  # type: ignore[arg-type]
    assert hand.buffers[itt].view == b"\xee" * 1024


def test_a_data_digest_that_has_not_arrived_yet_is_waited_for() -> None:
    hand = Hand(data_digest=True)
    itt = hand.read(5)
    stream = hand.frame(hand.data_in(itt, b"abcde", status=True))
    for n in range(len(stream)):
        hand.engine.feed(stream[n : n + 1])
        assert hand.engine.fault is None
        assert bool(hand.ended()) == (n == len(stream) - 1)
    assert hand.buffers[itt].view == b"abcde"


def test_padding_is_covered_by_the_data_digest() -> None:
    hand = Hand(data_digest=True)
    itt = hand.read(5)
    stream = bytearray(hand.frame(hand.data_in(itt, b"abcde", status=True)))
    stream[48 + 6] ^= 1
    with pytest.raises(DigestMismatch):
        hand.engine.feed(stream)
    assert hand.ended() == {}


def test_after_a_fault_nothing_is_sent_or_taken_and_each_task_is_left_over_once() -> None:
    hand = Hand(max_cmd_sn=11)
    first, second = hand.read(512), hand.read(512)
    last = [hand.engine.submit(LUN, bytes([0x28, n]), bytes(8)) for n in range(3)]  # these wait for the window
    error = hand.refuses(hand.response(first, n24=5), match="StatSN")
    assert hand.engine.output() == b""
    assert hand.engine.completions() == []
    with pytest.raises(ProtocolViolation, match="StatSN"):
        hand.read(1)
    left = hand.engine.leftover()
    assert left.reason == str(error)
    assert (left.cmd_sn, left.exp_stat_sn, left.max_cmd_sn) == (12, 100, 11)
    assert [task.itt for task in left.tasks] == [first, second, *last], "by CmdSN, then as queued"
    assert [task.cmd_sn for task in left.tasks[:2]] == [10, 11]
    assert left.tasks[0].lun == int.from_bytes(LUN, "big")
    assert left.tasks[-1].cdb[:2] == b"\x28\x02"


def test_the_first_fault_is_the_one_that_counts() -> None:
    hand = Hand()
    itt = hand.read(512)
    first = hand.refuses(hand.response(itt, n24=5), match="StatSN is 5")
    with pytest.raises(ProtocolViolation, match="StatSN is 5"):
        hand.feed(hand.made(0x2A, status=False))
    assert str(hand.engine.fault) == str(first)


@pytest.mark.parametrize("status", [0x02, 0x08, 0x18, 0x28])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", b"\0\x12\x70", b"\xff\xff" + bytes(20)])
def test_a_bad_status_is_an_outcome_whatever_its_sense_looks_like(status: int, data: bytes) -> None:
    """Missing, short and wrongly measured sense data are handed out as they came (11.4.7)."""
    hand = Hand()
    itt = hand.read(512)
    hand.feed(hand.response(itt, data=data, byte3=status))
    end = hand.ended()[itt]
    assert (end.status, end.received, end.data) == (status, 0, data)


def test_a_response_that_is_no_completion_is_an_outcome() -> None:
    hand = Hand()
    itt = hand.read(512)
    hand.feed(hand.response(itt, byte2=1))
    assert hand.ended()[itt].response == 1


def test_data_in_with_status_and_no_data_ends_its_command() -> None:
    hand = Hand()
    itt = hand.read(512)
    hand.feed(hand.data_in(itt, LONG[:512]), hand.data_in(itt, b"", 512, 1, status=True))
    end = hand.ended()[itt]
    assert (end.status, end.received, end.residual) == (0, 512, 0)


def test_a_short_read_with_the_right_residual_is_an_outcome() -> None:
    hand = Hand()
    itt = hand.read(1024)
    hand.feed(hand.data_in(itt, LONG[:36], status=True, flags=FINAL | STATUS | UNDERFLOW, n44=988))
    end = hand.ended()[itt]
    assert (end.underflow, end.residual, end.received) == (True, 988, 36)
    assert hand.buffers[itt].view[:36] == LONG[:36]


NO_MEMORY = """
import dataclasses, resource
from swd._engine import Engine
from swd.errors import ConnectionLost
from swd.values import Negotiated
engine = Engine(Negotiated(max_recv_data_segment_length=(1 << 24) - 1))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
header = bytearray(48)
header[0], header[5] = 0x24, 0xFF
try:
    engine.feed(header)
except ConnectionLost as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures its address space in /proc")
def test_no_memory_for_a_segment_ends_the_connection() -> None:
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (
        "no memory for 16711680 bytes of a PDU: the connection is closed\n", "", 0
    )  # fmt: skip
