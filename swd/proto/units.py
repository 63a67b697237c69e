# SPDX-License-Identifier: Apache-2.0
"""Sizes as people write them: K, M, G and T are powers of 1024."""

from __future__ import annotations

import re

from swd.errors import InvalidArgument

_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
MAX_SIZE = (1 << 63) - 1  # what a file offset holds


def parse_size(text: str) -> int:
    """Bytes in `512`, `64M`, `1g`, `2TiB`. Raises InvalidArgument."""
    found = re.fullmatch(r"([0-9]{1,19})([KMGT]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    size = int(found[1]) << _POWERS[found[2]] if found else -1
    if not 0 <= size <= MAX_SIZE:
        raise InvalidArgument(f"{text[:40]!r} is no size: write bytes, or a number with K, M, G or T (powers of 1024)")
    return size


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back exactly."""
    for suffix in ("T", "G", "M", "K"):
        if size and size % (1 << _POWERS[suffix]) == 0:
            return f"{size >> _POWERS[suffix]}{suffix}"
    return str(size)
