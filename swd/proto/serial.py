# SPDX-License-Identifier: Apache-2.0
"""Serial-number arithmetic on 32 bits (RFC 1982, as RFC 7143 4.2.2.1 asks for CmdSN, StatSN and their kin).

Numbers are taken modulo 2**32, so callers may pass sums that ran over. Two numbers exactly 2**31 apart are not
comparable (RFC 1982 3.2): neither is less than the other.
"""

from __future__ import annotations

BITS = 32
MODULUS = 1 << BITS
HALF = 1 << (BITS - 1)


def add(number: int, step: int) -> int:
    """The serial number `step` after `number` (before it, when negative)."""
    return (number + step) % MODULUS


def distance(start: int, end: int) -> int:
    """Steps from `start` to `end` by the shorter way: -2**31 <= distance < 2**31, negative when `end` lies behind."""
    return (end - start + HALF) % MODULUS - HALF


def lt(left: int, right: int) -> bool:
    """Whether `left` comes before `right`."""
    return 0 < (right - left) % MODULUS < HALF


def le(left: int, right: int) -> bool:
    """Whether `left` is `right` or comes before it."""
    return (right - left) % MODULUS < HALF
