# SPDX-License-Identifier: Apache-2.0
"""Micro benches, run by `make bench-micro` and by nothing else: pytest-benchmark times, these say what is timed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # bench/crc.py
