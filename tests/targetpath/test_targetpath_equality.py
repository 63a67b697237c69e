# SPDX-License-Identifier: Apache-2.0
"""The compiled data path and the session in Python answer the same bytes to the same, and leave the same disks."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from twins import Twins, twins

from swd.target import Limits

STAGES, PARTS = 6, 30

DIGESTS = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
SMALL = {"MaxRecvDataSegmentLength": "512", "MaxBurstLength": "1024", "FirstBurstLength": "1024"}
CASES = {
    "plain": ({}, Limits()),
    "digests": (DIGESTS, Limits()),
    "small": (SMALL, Limits(max_outstanding_r2t=2)),
    "small-digests": ({**SMALL, **DIGESTS}, Limits()),
    "odd-segments": ({"MaxRecvDataSegmentLength": "1001", "DataDigest": "CRC32C"}, Limits()),
    "r2t": ({"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": "4096"}, Limits(max_outstanding_r2t=1)),
    "many-r2t": ({"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": "512"}, Limits(max_outstanding_r2t=20)),
    "immediate": ({"InitialR2T": "Yes"}, Limits(max_recv_data_segment_length=4096)),
    "unsolicited": ({"ImmediateData": "No", "FirstBurstLength": "8192"}, Limits(max_outstanding_r2t=3)),
}


def talk(pair: Twins, seed: int, cut: int) -> None:
    """Some stages of random requests; each is sent in pieces, `cut` bytes long on average."""
    stream = pair.stream(seed)
    chance = random.Random(seed)
    for _ in range(STAGES):
        data, ping = stream.stage(PARTS)
        pair.tell(data, chance.sample(range(len(data)), len(data) // cut))
        stream.expect(pair.answers(ping))


def settled(pair: Twins) -> tuple[dict[str, object], dict[str, object]]:
    """The counts of both servers, once their connections have ended."""
    pair.end()
    for side in (pair.compiled, pair.plain):
        side.server.stop()
    return dict(pair.compiled.server.statistics), dict(pair.plain.server.statistics)


@pytest.mark.parametrize("case", CASES)
def test_same_bytes_for_random_requests(case: str) -> None:
    keys, limits = CASES[case]
    for seed in range(3):
        with twins(limits, depth=64, **keys) as pair:
            talk(pair, seed, cut=20000)
            pair.assert_same_media()
            one, other = settled(pair)
            assert one == other


def test_same_bytes_for_pieces_of_any_size() -> None:
    for seed, cut in enumerate((40, 400, 4000)):
        with twins(**SMALL) as pair:
            talk(pair, seed, cut)
            pair.assert_same_media()


def test_most_of_it_was_answered_by_the_compiled_path() -> None:
    """Otherwise the two would agree because they are one."""
    with twins(InitialR2T="Yes") as pair:
        connection = next(iter(pair.compiled.server._connections))
        assert next(iter(pair.plain.server._connections))._path is None
        talk(pair, 1, cut=20000)
        assert connection._path is not None
        answered = Counter({name: n for name, n in connection._path.counts().items() if name.startswith("out.")})
        for kind in ("out.DATA_IN", "out.SCSI_RESPONSE", "out.R2T"):
            assert answered[kind] >= 5, answered


def test_a_byte_at_a_time() -> None:
    with twins(**DIGESTS) as pair:
        stream = pair.stream(4)
        data, ping = stream.stage(6)
        pair.tell(data[:4000], range(1, min(len(data), 4000)))
        pair.tell(data[4000:])
        pair.answers(ping)


@pytest.mark.parametrize(("case", "seed"), [*itertools.product(("plain", "digests"), range(12))])
def test_same_end_for_damaged_requests(case: str, seed: int) -> None:
    """Bits of headers, data and digests are turned over. What was sent before the end may be lost with it."""
    keys, limits = CASES[case]
    chance = random.Random(seed)
    with twins(limits, **keys) as pair:
        stream = pair.stream(seed)
        for _ in range(2):
            data, ping = stream.stage(10)
            pair.tell(data)
            stream.expect(pair.answers(ping))
        damaged = bytearray(stream.stage(20)[0])
        for _ in range(chance.choice((1, 1, 3))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        pair.tell(bytes(damaged))
        one, other = pair.end()
        shorter, longer = sorted((one, other), key=len)
        one_counts, other_counts = settled(pair)
        if one_counts["protocol_errors"] or one_counts["digest_errors"]:
            assert longer.startswith(shorter)
        else:
            assert one == other
        for event in ("protocol_errors", "digest_errors"):
            assert one_counts[event] == other_counts[event]
