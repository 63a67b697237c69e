# SPDX-License-Identifier: Apache-2.0
"""The load on a mount in short: seconds of fio under a memory limit, the target killed once, everything checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.process import environment


@pytest.mark.fuse
@pytest.mark.slow
def test_what_fio_wrote_under_a_memory_limit_comes_back(root: Path) -> None:
    words = ("--seconds", "3", "--fs", "ext4", "--memory", "48", "--files", "96", "--fault", "2")
    command = [sys.executable, str(root / "tools" / "mount_soak.py"), *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: all that was written came back" in done.stdout
    assert "4 files with the same SHA-256" in done.stdout
