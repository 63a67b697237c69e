# SPDX-License-Identifier: Apache-2.0
"""Bounded reading of what a target sent: integers that may lie beyond the end, and text that may hold anything."""

from __future__ import annotations

from swd.errors import ProtocolViolation


def number(data: bytes, offset: int, size: int) -> int:
    """A big-endian unsigned integer; 0 where the data ends before it does (an older, shorter page)."""
    field = data[offset : offset + size]
    return int.from_bytes(field, "big") if len(field) == size else 0


def byte(data: bytes, offset: int) -> int:
    return data[offset] if offset < len(data) else 0


def text(data: bytes) -> str:
    """Printable ASCII without padding; every other byte as \\xNN, so that a target cannot write to a terminal."""
    trimmed = data.rstrip(b"\0 ").lstrip(b" ")
    return "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in trimmed)


def need(data: bytes, length: int, what: str) -> None:
    """Raise ProtocolViolation unless there are at least `length` bytes of `what`."""
    if len(data) < length:
        reason = f"{what} has {len(data)} bytes, at least {length} are needed; the target is at fault"
        raise ProtocolViolation(reason, clause="SPC-4")
