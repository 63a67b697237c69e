# SPDX-License-Identifier: Apache-2.0
"""CRC32C as Python calls it, ours beside the packages of PyPI. bench/crc.py makes the table of a report of it."""

from __future__ import annotations

from typing import Any

import crc
import pytest


@pytest.mark.parametrize("size", crc.SIZES[:-1])
@pytest.mark.parametrize("name", crc.implementations())
def test_crc32c(benchmark: Any, name: str, size: int) -> None:
    data, implementations = bytes(range(256)) * (size // 256) or bytes(size), crc.implementations()
    assert benchmark(implementations[name], data) == implementations["swd"](data)
