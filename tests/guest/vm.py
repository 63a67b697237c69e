# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario in the small guest: `run("lvs -a", disks=[...])` boots qemu with raw files of this machine as virtio
disks, hands over a shell script, and gives back what it printed. KVM where /dev/kvm works, else emulation. Decides
nothing about what is run; reaches the network only by qemu's user mode (the host's 127.0.0.1 is 10.0.2.2 there).
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import initrd
import packages


@functools.cache
def accelerator() -> str:
    """`kvm` only where the guest's kernel runs to its end with it: a machine that is a guest itself may have a /dev/kvm
    on which nothing ever runs. Asked once for a cache folder; its file `accelerator` keeps the answer."""
    answer = packages.CACHE / "accelerator"
    if not answer.exists():
        usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and _boots("kvm")
        answer.write_text("kvm" if usable else "tcg,thread=multi")
    return answer.read_text().strip()


def _boots(with_: str) -> bool:
    """Without a root file system the kernel panics at the end of its boot: that it says so is what is waited for."""
    command = [*machine(256, with_), "-kernel", str(initrd.build()[0]), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run([*command, "-serial", "stdio"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return False
    return b"Kernel panic" in done.stdout


def machine(memory: int = 512, accelerated: str = "") -> list[str]:
    """The part of qemu's command line that all guests share."""
    return ["qemu-system-x86_64", "-accel", accelerated or accelerator(), "-cpu", "max", "-smp", "2", "-M", "q35",
            "-m", str(memory), "-nodefaults", "-display", "none", "-no-reboot",
            "-device", "virtio-rng-pci"]  # fmt: skip


def disk(path: Path, *, serial: str = "") -> list[str]:
    """A raw file as a virtio disk. What the guest has flushed is in the file."""
    drive = f"file={path},if=none,id={path.stem},format=raw,cache=writeback,discard=unmap,detect-zeroes=unmap"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={path.stem},serial={serial or path.stem}"]


NETWORK = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]


def run(script: str, *, disks: Sequence[Path] = (), files: Mapping[str, bytes] | None = None,
        network: bool = False, memory: int = 512, timeout: float = 300) -> str:  # fmt: skip
    """The output of `script`, run by busybox sh in a folder with `files`. Raises RuntimeError with the guest's words
    where it ends with another status than 0, or does not end in `timeout` seconds."""
    kernel, image = initrd.build()
    with tempfile.TemporaryDirectory(prefix="swd-guest-") as name:
        work = Path(name)
        scenario = work / "overlay" / "scenario"
        scenario.mkdir(parents=True)
        for path, content in {**(files or {}), "run.sh": script.encode()}.items():
            (scenario / path).write_bytes(content)
        initrd.pack(work / "overlay", work / "overlay.cpio")
        (work / "initrd").write_bytes(image.read_bytes() + (work / "overlay.cpio").read_bytes())
        command = [*machine(memory), "-kernel", str(kernel), "-initrd", str(work / "initrd")]
        # no_timer_check: emulated on a busy host, the ticks that the kernel checks its timer by may come late.
        command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"]
        command += ["-serial", f"file:{work / 'console'}", "-serial", f"file:{work / 'output'}"]
        command += [part for path in disks for part in disk(path)] + (NETWORK if network else [])
        try:
            said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
            complaint = said.stderr
        except subprocess.TimeoutExpired:
            complaint = f"the guest did not end in {timeout} s"
        output, _, status = _read(work / "output").rpartition("STATUS ")
        if complaint or status.strip() != "0":
            raise RuntimeError(f"{complaint}\n{output[-3000:]}\nstatus {status}\n{_read(work / 'console')[-1000:]}")
        return output


def _read(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""
