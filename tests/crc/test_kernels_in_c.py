# SPDX-License-Identifier: Apache-2.0
"""The kernels as C, without Python: on this processor, and those of ARMv8 under emulation."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from swd._crc32c import kernels

HERE = Path(__file__).resolve().parent


def checked(root: Path, tmp_path: Path, *cc: str, runner: tuple[str, ...] = ()) -> list[str]:
    """Names of the kernels that the check, compiled by `cc` and started by `runner`, found right."""
    program = tmp_path / "check"
    sources = sorted((root / "swd").glob("_crc32c_*.c"))
    command = [*cc, "-O2", "-Wall", "-Wextra", "-Werror", f"-I{root / 'swd'}", HERE / "kernels_check.c", *sources]
    subprocess.run([*command, "-o", program], check=True, timeout=100)
    done = subprocess.run([*runner, program], stdout=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    return done.stdout.split()


def test_kernels_of_this_processor(root: Path, tmp_path: Path) -> None:
    cc = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    assert tuple(checked(root, tmp_path, *shlex.split(cc))) == kernels()


@pytest.mark.arm64
def test_kernels_of_armv8(root: Path, tmp_path: Path) -> None:
    emulator = ("qemu-aarch64", "-cpu", "max")
    assert checked(root, tmp_path, "aarch64-linux-gnu-gcc", "-static", runner=emulator) == ["armv8", "slice8"]

