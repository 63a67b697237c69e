# SPDX-License-Identifier: Apache-2.0
"""`swdctl mount -o rw` under load, little memory and faults: `tools/mount_soak.py [--seconds N] [--fs ext4,xfs]`.

For each file system: a target process, a mount, and fio writing with `verify=crc32c` in a cgroup whose memory is far
smaller than its files; the target is killed and started again every `--fault` seconds. Then fstrim, sums of all files,
umount, the file system's own check on the target's image, a read-only mount, and the sums once more. Root, FUSE, loop
devices, fio. With `--volume`: on a striped logical volume over two disks of two targets. Ends with 1 if anything is not
as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from support.process import environment, run  # noqa: E402
from support.served import Served, serving  # noqa: E402

MKFS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
CHECK = {"ext4": ("e2fsck", "-f", "-n"), "xfs": ("xfs_repair", "-n")}
SMALLEST = {"ext4": 64, "xfs": 304}  # MiB
GROUP = f"swd-mount-soak-{os.getpid()}"
PATIENCE = 300.0


class Failure(Exception):
    """Something is not as it should be; the text says what."""


def main() -> int:
    options = _arguments()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    say(f"swd {commit.stdout.strip() or 'of no commit'}, {now}, kernel {os.uname().release}, {os.cpu_count()} cores")
    status = 0
    os.chdir("/")  # programs that are started here shall find the installed swd, not the sources
    for fstype in options.fs.split(","):
        with tempfile.TemporaryDirectory(prefix="swd-mount-soak-") as name, contextlib.ExitStack() as stack:
            home = Path(name)
            _places(home)
            try:
                _one(stack, home, fstype, options)
            except (Failure, AssertionError, OSError, subprocess.SubprocessError) as error:
                say(f"FAILED                {error}")
                status = 1
    say("verdict: " + ("FAILED" if status else "all that was written came back"))
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a mount for writing under load, little memory and faults")
    parser.add_argument("--seconds", type=int, default=300, help="of load, each file system")
    parser.add_argument("--fs", default="ext4,xfs", help="a comma list of ext4 and xfs")
    parser.add_argument("--memory", type=int, default=64, metavar="MIB", help="limit of the load's cgroup")
    parser.add_argument("--files", type=int, default=384, metavar="MIB", help="what the load writes to, altogether")
    parser.add_argument(
        "--fault", type=float, default=60.0, metavar="S", help="kill the target each S seconds; 0: never"
    )
    parser.add_argument("--volume", action="store_true", help="on a striped volume over two disks of two targets")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


def _places(home: Path) -> None:
    """Run-time, state and configuration of this run's own, as the tests have them."""
    for name in ("run", "state"):
        (home / name).mkdir(mode=0o700)
    (home / "swd.toml").touch()
    os.environ |= {
        "SWD_RUNTIME_DIR": str(home / "run"),
        "SWD_STATE_DIR": str(home / "state"),
        "SWD_CONFIG": str(home / "swd.toml"),
    }


class Disk:
    """An image behind a target of its own, which can be killed and started again."""

    def __init__(self, stack: contextlib.ExitStack, image: Path) -> None:
        self._stack, self.image = stack, image
        self._served = self._start("127.0.0.1:0")
        self.portal, self.dev = str(self._served.portal), self._served.url()

    def _start(self, portal: str) -> Served:
        return self._stack.enter_context(serving("--portal", portal, "--lun", f"file://{self.image}"))

    def kill_and_restart(self) -> None:
        self._served.process.process.kill()
        self._served.process.finish()
        self._served = self._start(self.portal)


def _one(stack: contextlib.ExitStack, home: Path, fstype: str, options: argparse.Namespace) -> None:
    size = max(SMALLEST[fstype], options.files * 3 // 2) << 20
    made = home / "made"
    _sparse(made, size)
    run(*MKFS[fstype], str(made), timeout=PATIENCE)
    if options.volume:
        disks, dev, image_of = _volume(stack, home, made)
    else:
        disks = [Disk(stack, made)]
        dev, image_of = disks[0].dev, lambda: made
    directory = home / "mnt"
    directory.mkdir()
    stack.callback(_cleanup, directory)
    say("")
    say(f"file system           {fstype} of {size >> 20} MiB on {dev}")
    ctl("mount", dev, str(directory), "-o", "rw", "-O", "default_time2wait=0")
    pid = _daemon(home)
    faults = _load(directory, disks, options)
    say(f"faults                {faults} kills of the target")
    say(f"process behind it     {_memory(pid)}")
    say(f"its log               {_log(home)}")
    sums = _sums(directory)
    say(f"fstrim                {run('fstrim', '-v', str(directory), timeout=PATIENCE).strip().rpartition(': ')[2]}")
    if _sums(directory) != sums:
        raise Failure("the sums differ after fstrim")
    ctl("umount", str(directory))
    run(*CHECK[fstype], str(image_of()), timeout=PATIENCE)
    say(f"{CHECK[fstype][0]:<22}clean")
    ctl("mount", dev, str(directory))
    if _sums(directory) != sums:
        raise Failure("the sums differ after a remount")
    ctl("umount", str(directory))
    say(f"remount               {len(sums)} files with the same SHA-256")


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _volume(stack: contextlib.ExitStack, home: Path, made: Path) -> tuple[list[Disk], str, Callable[[], Path]]:
    """A striped volume made by LVM itself on two loop devices; `made` is copied to it."""
    half = made.stat().st_size // 2 + (64 << 20)
    images = [home / f"pv{number}" for number in (1, 2)]
    (home / "lvm").mkdir()
    (home / "lvm" / "lvm.conf").write_text(
        'devices { scan = [ "/dev" ]\n use_devicesfile = 0\n filter = [ "a|^/dev/loop|", "r|.*|" ] }\n'
        "global { use_lvmpolld = 0\n locking_type = 1 }\nactivation { udev_sync = 0\n udev_rules = 0 }\n"
    )
    env = {"LVM_SYSTEM_DIR": str(home / "lvm"), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    loops = []
    for image in images:
        _sparse(image, half)
        loops.append(run("losetup", "--find", "--show", str(image)).strip())
    try:
        no = ("--driverloaded", "n")
        for loop in loops:
            run("pvcreate", *no, "-y", loop, env=env)
        run("vgcreate", *no, "soak", *loops, env=env)
        extents = made.stat().st_size >> 22
        run(
            "lvcreate",
            *no,
            "-an",
            "-Zn",
            "-Wn",
            "-y",
            "-l",
            str(extents),
            "-i",
            "2",
            "-I",
            "64k",
            "-n",
            "lv",
            "soak",
            env=env,
        )
    finally:
        for loop in loops:
            run("losetup", "--detach", loop)
    disks = [Disk(stack, image) for image in images]
    devices = [word for disk in disks for word in ("--device", disk.dev)]
    ctl("vg", "activate", "soak", "--rw", *devices)
    ctl("copy", str(made), "lvm://soak/lv", "--overwrite")

    def image_of() -> Path:
        ctl("read", "lvm://soak/lv", "-o", str(home / "read"))
        return home / "read"

    return disks, "lvm://soak/lv", image_of


def ctl(*words: str) -> str:
    return run(sys.executable, "-m", "swd", *words, timeout=PATIENCE)


def _cleanup(directory: Path) -> None:
    if os.path.ismount(directory):
        subprocess.run([sys.executable, "-m", "swd", "umount", str(directory)], env=environment())


def _load(directory: Path, disks: list[Disk], options: argparse.Namespace) -> int:
    """fio in its cgroup, buffered and direct, until its time is over; how often a target was killed meanwhile."""
    each = options.files // 4
    command = [
        *("fio", "--output-format=normal", f"--directory={directory}", f"--size={each}M", "--rw=randwrite"),
        *("--bsrange=4k-128k", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=32", "--time_based"),
        *(f"--runtime={options.seconds}", "--fsync=64", "--end_fsync=1", "--group_reporting"),
        *("--name=buffered", "--ioengine=psync", "--numjobs=2", "--new_group"),
        *("--name=direct", "--ioengine=libaio", "--iodepth=8", "--direct=1", "--bsrange=4k-128k", "--numjobs=2"),
    ]
    with _little_memory(options.memory) as (enter, account):
        load = subprocess.Popen(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ended, faults = threading.Event(), [0]
        breaker = threading.Thread(target=_break, args=(disks, options.fault, ended, faults))
        breaker.start()
        try:
            output, _ = load.communicate(timeout=options.seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            load.kill()
            raise Failure(f"the load did not end {PATIENCE:.0f} s after its time") from None
        finally:
            ended.set()
            breaker.join()
        for line in re.findall(r"^\s*(?:read|write): IOPS.*$|^.*err= *[1-9].*$|^.*verify.*$", output, re.MULTILINE):
            say(f"  fio                 {line.strip()}")
        say(f"memory limit          {account()}")
    if load.returncode:
        raise Failure(f"fio ended with {load.returncode}: {output.strip()[-500:]}")
    return faults[0]


def _break(disks: list[Disk], every: float, ended: threading.Event, faults: list[int]) -> None:
    while every and not ended.wait(every):
        disks[faults[0] % len(disks)].kill_and_restart()
        faults[0] += 1


@contextlib.contextmanager
def _little_memory(mebibytes: int) -> Iterator[tuple[list[str], Callable[[], str]]]:
    """A cgroup with that limit, of either version: the words before a command that put it there, and what it counted.

    Without one: says so.
    """
    limit = mebibytes << 20
    two, one = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
    if (two / "cgroup.controllers").exists() and "memory" in (two / "cgroup.controllers").read_text().split():
        group, names, version = two / GROUP, ("memory.max", "memory.peak", "memory.events"), 2
    elif (one / "memory.limit_in_bytes").exists():
        group, version = one / GROUP, 1
        names = ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt")
    else:
        yield [], (lambda: "none: this host has no memory controller that can be used")
        return
    group.mkdir()
    try:
        (group / names[0]).write_text(str(limit))
        yield _entering(group), (lambda: _account(group, names, mebibytes, version))
    finally:
        group.rmdir()


def _entering(group: Path) -> list[str]:
    return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs")]


def _account(group: Path, names: tuple[str, str, str], mebibytes: int, version: int) -> str:
    def text(name: str) -> str:
        return (group / name).read_text() if (group / name).exists() else "?"

    peak, hits = text(names[1]).strip(), " ".join(text(names[2]).split())
    shown = f"{int(peak) >> 20} MiB" if peak.isdigit() else peak
    return f"{mebibytes} MiB (cgroup v{version}): at most {shown} used, {names[2]}: {hits}"


def _daemon(home: Path) -> int:
    import json

    (record,) = (home / "run").glob("mounts/*/record")
    return int(json.loads(record.read_text())["pid"])


def _memory(pid: int) -> str:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    wanted = ("VmHWM", "VmRSS", "VmLck", "VmSwap", "Threads")
    return ", ".join(f"{name} {' '.join(fields[name].split())}" for name in wanted)


def _log(home: Path) -> str:
    lines = [line for log in (home / "run").glob("mounts/*/log") for line in log.read_text().splitlines()]
    return f"{len(lines)} lines" + (f", the last: {lines[-1]}" if lines else "")


def _sums(directory: Path) -> dict[str, str]:
    """The sums of all files, as they are on the disk: nothing of them is in a cache when they are read."""
    run("sync", "-f", str(directory), timeout=PATIENCE)
    Path("/proc/sys/vm/drop_caches").write_text("1")
    found = {}
    for path in sorted(directory.glob("*.*")):
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        found[path.name] = digest.hexdigest()
    if not found:
        raise Failure("the load left no files")
    return found


if __name__ == "__main__":
    if os.geteuid() != 0 or shutil.which("fio") is None:
        sys.exit("needs root and fio")
    sys.exit(main())
