# SPDX-License-Identifier: Apache-2.0
"""What a target says of the processes that shared a unit of its: how many sessions, and whether any was taken away."""

from __future__ import annotations

from pathlib import Path

from soak_sharing import PROCESSES, SESSIONS, SIZE, Outcome, share
from support import served, tgt

NAME = "iqn.2026-01.org.swd:shared"
ALL = PROCESSES * SESSIONS

Verdict = tuple[str, list[str]]  # a line for people, and what is wrong


def by_embedded(folder: Path, seconds: float) -> Verdict:
    """Judged by its counters: as many logins and logouts as sessions, none reinstated, nobody else's PDU."""
    with served.serving("--lun", f"mem://{SIZE}") as target:
        outcome = share(target.url(), seconds)
        counts = target.stop()
    expected = {"accepts": ALL, "logins": ALL, "reinstatements": 0, "protocol_errors": 0, "sessions_open": 0}
    seen = {name: counts[name] for name in expected}
    logouts = counts["pdus_in"]["LOGOUT_REQUEST"]
    wrong = [] if (seen, logouts) == (expected, ALL) else [f"embedded target: {seen}, {logouts} logouts; {expected}"]
    return _line("embedded", outcome, f"{seen}, {logouts} logouts"), wrong + _complaints(outcome)


def by_tgtd(folder: Path, seconds: float) -> Verdict:
    """Judged by its list of sessions: the same ids at the beginning and at the end."""
    image = folder / "shared.img"
    image.write_bytes(bytes(SIZE))
    seen: list[dict[str, str]] = []
    with tgt.serving(folder) as tgtd:
        tgtd.add_target(NAME)
        tgtd.add_lun(NAME, 1, image)
        url = f"iscsi://{tgtd.portal}/{NAME}/1"
        outcome = share(url, seconds, lambda: seen.append(tgtd.sessions(NAME)))
        left = tgtd.sessions(NAME)
    good = seen[0] == seen[1] and len(seen[0]) == ALL and not left
    wrong = [] if good else [f"tgtd: sessions at first {seen[0]}, then {seen[1]}, at the end {left}"]
    ids = ", ".join(sorted(seen[0], key=int))
    return _line("tgtd", outcome, f"session ids {ids} all the time"), wrong + _complaints(outcome)


def _line(target: str, outcome: Outcome, words: str) -> str:
    return f"{target:12} {PROCESSES} processes, {ALL} sessions, {outcome.ios} I/Os: {words}"


def _complaints(outcome: Outcome) -> list[str]:
    return outcome.complaints if outcome.ios else ["nothing was done", *outcome.complaints]
