# SPDX-License-Identifier: Apache-2.0
"""How much longer than elsewhere a test may take: under valgrind and sanitizers programs are many times slower."""

from __future__ import annotations

import os

SLOWER = float(os.environ.get("SWD_TEST_SLOWER", "1"))
