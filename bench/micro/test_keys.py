# SPDX-License-Identifier: Apache-2.0
"""Text keys: what login says and is told."""

from __future__ import annotations

from typing import Any

from swd.proto import negotiate, text
from swd.proto.options import Options

ANSWERS = (
    b"HeaderDigest=CRC32C\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=262144\0"
    b"FirstBurstLength=65536\0MaxOutstandingR2T=4\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0"
    b"DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0MaxRecvDataSegmentLength=65536\0"
)


def test_decode(benchmark: Any) -> None:
    assert len(benchmark(text.decode, ANSWERS)) == 14


def test_encode(benchmark: Any) -> None:
    assert benchmark(text.encode, text.decode(ANSWERS)) == ANSWERS


def test_answer_an_offer(benchmark: Any) -> None:
    offered, mine = text.decode(ANSWERS), negotiate.wanted(Options())
    assert benchmark(negotiate.answer, offered, mine).pairs
