# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario in the small guest: `run("lvs -a", disks=[...])` boots qemu with raw files of this machine as virtio
disks, hands over a shell script, and gives back what it printed; `serving` keeps it for as long as it is wanted. KVM
where /dev/kvm works, else emulation. Decides nothing about what is run; reaches the network only by qemu's user mode
(the host's 127.0.0.1 is 10.0.2.2 there, and ports of the guest can be made ports of that 127.0.0.1).
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


def disk(path: Path, *, serial: str = "", block_size: int = 512) -> list[str]:
    """A raw file as a virtio disk. What the guest has written is in the file, for other processes too."""
    drive = f"file={path},if=none,id={path.stem},format=raw,cache=writeback,discard=unmap,detect-zeroes=unmap"
    blocks = f"logical_block_size={block_size},physical_block_size={max(block_size, 512)}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={path.stem},serial={serial or path.stem},{blocks}"]


NETWORK = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]


def run(script: str, *, disks: Sequence[Path] = (), files: Mapping[str, bytes] | None = None,
        network: bool = False, memory: int = 512, timeout: float = 300) -> str:  # fmt: skip
    """The output of `script`, run by busybox sh in a folder with `files`. Raises RuntimeError with the guest's words
    where it ends with another status than 0, or does not end in `timeout` seconds."""
    with tempfile.TemporaryDirectory(prefix="swd-guest-") as name:
        work = Path(name)
        command = [*_booted(work, script, files, memory), "-serial", f"file:{work / 'output'}"]
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


@contextmanager
def serving(script: str, *, forwards: Mapping[int, int], devices: Sequence[str] = (), memory: int = 512,
            timeout: float = 120) -> Iterator[None]:  # fmt: skip
    """A guest whose `script` has said READY, until the end of the block; then it is switched off. `forwards`: ports of
    this machine's 127.0.0.1, each with the guest's port that it leads to. `devices`: more of qemu's arguments. Raises
    RuntimeError with the guest's words where READY does not come."""
    with tempfile.TemporaryDirectory(prefix="swd-guest-") as name:
        work = Path(name)
        ports = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards.items())
        command = [*_booted(work, script, None, memory), "-serial", "stdio", *devices]
        command += [NETWORK[0], NETWORK[1] + ports, *NETWORK[2:]]
        with (work / "complaints").open("wb") as complaints:
            guest = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        late = threading.Timer(timeout, guest.kill)
        late.start()
        try:
            assert guest.stdout is not None
            said = b""
            while not said.endswith(b"READY\n"):
                line = guest.stdout.readline().replace(b"\r", b"")
                said += line
                if not line:
                    words = f"{said.decode(errors='replace')}\n{_read(work / 'console')[-1000:]}"
                    raise RuntimeError(f"the guest did not become ready:\n{_read(work / 'complaints')}{words}")
            late.cancel()
            yield
            if guest.poll() is not None:
                raise RuntimeError(f"the guest has ended by itself ({guest.returncode})")
        finally:
            if guest.poll() is not None:
                print(_read(work / "console")[-4000:], _read(work / "complaints"), file=sys.stderr)
            late.cancel()
            guest.kill()
            guest.wait()


def _booted(work: Path, script: str, files: Mapping[str, bytes] | None, memory: int) -> list[str]:
    """qemu's command line of a guest with this script and its console in `work`; what the script says goes to the
    serial port that the caller adds."""
    kernel, image = initrd.build()
    scenario = work / "overlay" / "scenario"
    scenario.mkdir(parents=True)
    for path, content in {**(files or {}), "run.sh": script.encode()}.items():
        (scenario / path).write_bytes(content)
    initrd.pack(work / "overlay", work / "overlay.cpio")
    (work / "initrd").write_bytes(image.read_bytes() + (work / "overlay.cpio").read_bytes())
    command = [*machine(memory), "-kernel", str(kernel), "-initrd", str(work / "initrd")]
    # no_timer_check: emulated on a busy host, the ticks that the kernel checks its timer by may come late.
    command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"]
    return [*command, "-serial", f"file:{work / 'console'}"]


def _read(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""
