#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One target under atheris: libFuzzer, led by the coverage of swd's Python lines. `run.py` starts it.

The environment has the target's name, for libFuzzer starts this program again with flags of its own when it merges.
"""

from __future__ import annotations

import os
import sys

import atheris

with atheris.instrument_imports(include=["swd"]):
    from harness.table import BY_NAME

if __name__ == "__main__":
    atheris.Setup(sys.argv, BY_NAME[os.environ["SWD_FUZZ_TARGET"]].run)
    atheris.Fuzz()
