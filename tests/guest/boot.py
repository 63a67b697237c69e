# SPDX-License-Identifier: Apache-2.0
"""A real boot: Debian with systemd as process 1, Python and swd in a qemu guest, and a target on this side of a wire.

    sudo .venv/bin/python tests/guest/boot.py [--watch] [--story]

Twice the same image starts: with a network card, and with none, so that the attempt at the network runs out of time.
What systemd says of each unit is judged here: pass 1 was silent and before network-pre.target, the phase was completed
after the attempt, pass 2 was before remote-fs.target, no unit of swd failed, and at shutdown the order was the other
way round. Needs root (a root file system with its owners), and the Python of the guest (3.11) for what was compiled.
Target, tap device and qemu live in a network namespace of their own. Logs go to stdout.
"""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import initrd
import packages
import vm

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "story"
HOME = packages.CACHE / "boot"
PACKAGES = ("systemd-sysv", "udev", "python3", "iproute2", "kmod", "mount", "util-linux", "dash", "coreutils", "grep",
            "base-files", "base-passwd", "passwd", "sed", "findutils", "libc-bin", "libstdc++6", "fuse3")  # fmt: skip
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "xfs", "af_packet", "fuse", "loop"]
PYTHON = (3, 11)
HOST, GUEST = "10.77.0.1", "10.77.0.2"
TARGETS = ("iqn.2026-01.org.example:one", "iqn.2026-01.org.example:two")
PORTS = (3260, 3261)
INSIDE = "SWD_GUEST_BOOT"
SWDCTL = str(Path(sys.executable).with_name("swdctl"))  # the installed one: -m swd would find this tree's sources


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--watch", action="store_true", help="swd-watch.service in place of the two passes' units")
    arguments.add_argument("--story", action="store_true", help="activate the golden group, check its file systems")
    options = arguments.parse_args()
    if os.geteuid() or sys.version_info[:2] != PYTHON:
        print("needs root, and a swd that was built for Python 3.11, which is the guest's", file=sys.stderr)
        return 2
    if os.environ.get(INSIDE) != os.readlink("/proc/self/ns/net"):
        base_system()  # what it fetches cannot be fetched from the namespace
        _enter()
    commit = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    print(f"commit {commit.stdout.strip()}, {vm.accelerator()}")
    with tempfile.TemporaryDirectory(prefix="swd-boot-") as folder:
        work = Path(folder)
        image = system(work, watch=options.watch, story=options.story)
        with wire(), targets(work):
            wrong = judge("with a network", boot(work, image, network=True), network=True, watch=options.watch)
        wrong += judge("without a network", boot(work, image, network=False), network=False, watch=options.watch)
    for line in wrong:
        print(f"WRONG: {line}")
    print("all is as it should be" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


def _enter() -> None:
    """Again, in a network namespace that is thrown away at the end."""
    command = [
        *("sh", "-c", f'{INSIDE}=$(readlink /proc/self/ns/net) exec "$@"', "sh"),
        *(sys.executable, __file__, *sys.argv[1:]),
    ]
    raise SystemExit(subprocess.run(["unshare", "-n", *command]).returncode)


# The guest's disk ----------------------------------------------------------------------------------------------------


def base_system() -> Path:
    """Debian's packages, unpacked once: systemd, Python, and the kernel's modules."""
    base = HOME / "root"
    stamp, made_of = HOME / "stamp", repr((PACKAGES, MODULES))
    if not stamp.exists() or stamp.read_text() != made_of:
        shutil.rmtree(HOME, ignore_errors=True)
        base.mkdir(parents=True)
        packages.unpack(packages.fetch(PACKAGES), base)
        initrd.build()
        boot = initrd.HOME / "kernel"
        version = next((boot / "lib" / "modules").iterdir()).name
        (base / "usr" / "lib" / "modules" / version).mkdir(parents=True, exist_ok=True)
        initrd.modules(boot, base, version, MODULES)
        stamp.write_text(made_of)
    return base


def system(work: Path, *, watch: bool, story: bool) -> Path:
    """An ext4 image of that with swd."""
    root = work / "root"
    subprocess.run(["cp", "-a", str(base_system()), str(root)], check=True)
    settle(root)
    install(root, watch=watch, story=story)
    image = work / "root.img"
    with image.open("wb") as new:
        new.truncate(1 << 30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image)], check=True)
    return image


def settle(root: Path) -> None:
    """What the maintainer scripts would have done, and the network."""
    master = root / "usr" / "share" / "base-passwd"
    for name in ("passwd", "group"):
        shutil.copy(master / f"{name}.master", root / "etc" / name)
    for folder in ("proc", "sys", "dev", "run", "tmp", "mnt", "etc/swd", "var/lib", "var/log/journal"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    # srv stands for what is mounted over the network: _netdev puts it after remote-fs-pre.target.
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\ntmpfs /srv tmpfs _netdev 0 0\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").write_text("8d2f3c1a5b6e47d09a1b2c3d4e5f6071\n")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    network = root / "etc/systemd/network/wire.network"
    network.parent.mkdir(parents=True, exist_ok=True)
    network.write_text(f"[Match]\nType=ether\n[Network]\nAddress={GUEST}/24\nLinkLocalAddressing=no\n")
    limit = root / "etc/systemd/system/systemd-networkd-wait-online.service.d/limit.conf"
    limit.parent.mkdir(parents=True)
    limit.write_text(
        "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=60\n"
    )
    for unit in ("swd-early", "swd-complete"):  # an emulated machine may need half a minute to start Python
        patience = root / f"etc/systemd/system/{unit}.service.d/patience.conf"
        patience.parent.mkdir(parents=True)
        patience.write_text("[Service]\nTimeoutStartSec=600\n")
    report = root / "etc/systemd/system/guest-report.service"
    report.write_text(
        "[Unit]\nDescription=tell how the boot went, and end it\nAfter=multi-user.target remote-fs.target\n"
        "[Service]\nType=oneshot\nExecStart=/bin/sh /etc/guest-report\nStandardOutput=null\n"
        "[Install]\nWantedBy=default.target\n"
    )
    shutil.copy(HERE / "image" / "report", root / "etc/guest-report")
    for unit in ("systemd-networkd.service", "remote-fs.target", "guest-report.service"):
        subprocess.run(["chroot", str(root), "/bin/systemctl", "-q", "enable", unit], check=True)
    for unit in ("systemd-timesyncd.service", "getty@tty1.service", "apt-daily.timer"):
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    subprocess.run(["chroot", str(root), "/bin/systemctl", "-q", "set-default", "multi-user.target"], check=True)


def install(root: Path, *, watch: bool, story: bool) -> None:
    """swd as it is installed beside this Python, its configuration, and its units by its own verb."""
    place = root / "usr/local/lib/python3.11/dist-packages"
    for name in distributions():
        for path in importlib.metadata.distribution(name).files or []:
            if ".." not in path.parts and "__pycache__" not in path.parts:
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(path.locate()), target)
    command = root / "usr/local/bin/swdctl"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text("#!/usr/bin/python3\nimport sys\nfrom swd.cli.main import main\nsys.exit(main())\n")
    command.chmod(0o755)
    portals = ", ".join(f'"{HOST}:{port}"' for port in PORTS)
    names = ", ".join(f'"{name}"' for name in TARGETS)
    lines = ["[startup]", f"discover = [{portals}]", f"login = [{names}]", *(STORAGE if story else [])]
    (root / "etc/swd/swd.toml").write_text("\n".join(lines) + "\n")
    verb = ["startup", "install", "--root", str(root), "--swdctl", "/usr/local/bin/swdctl"] + ["--watch"] * watch
    done = subprocess.run([SWDCTL, *verb], capture_output=True, text=True)
    print(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit("startup install was refused")


def distributions() -> list[str]:
    """swd, what it requires, and what it takes for the watch and for file systems, where that is installed."""
    found = ["iscsi-swd"]
    for name in found:
        for line in importlib.metadata.requires(name) or []:
            extra = re.search(r"extra == ['\"](\w+)['\"]", line)
            required = re.split(r"[^\w.-]", line)[0]
            asked = ";" not in line if extra is None else name == "iscsi-swd" and extra[1] in ("net", "fs")
            if asked and required not in found and _installed(required):
                found.append(required)
    return found


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


STORAGE = ['volume_groups = ["story"]', 'filesystems = ["lvm://story/striped", "lvm://story/linear"]']


# This side of the wire -----------------------------------------------------------------------------------------------


@contextmanager
def wire() -> Iterator[None]:
    for command in (
        "link set lo up",
        "tuntap add dev tap0 mode tap",
        f"addr add {HOST}/24 dev tap0",
        "link set tap0 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", "tap0"], check=True)


@contextmanager
def targets(work: Path) -> Iterator[None]:
    """The two disks of the golden group `story`, each a unit of a target of its own."""
    served = []
    try:
        for number, (name, port) in enumerate(zip(TARGETS, PORTS, strict=True)):
            disk = work / f"disk{number}"
            disk.write_bytes(lzma.decompress((GOLDEN / f"pv{number}.xz").read_bytes()))
            verb = ["target", "serve", "--public", "--portal", f"{HOST}:{port}", "--target", name, "--lun", f"file://{disk}"]
            served.append(subprocess.Popen([SWDCTL, *verb], stdout=subprocess.PIPE, text=True))
            stream = served[-1].stdout
            assert stream is not None
            print(f"host: {stream.readline().strip()}")
        yield
    finally:
        for process in served:
            process.terminate()
            process.wait(30)


def boot(work: Path, image: Path, *, network: bool) -> tuple[str, str]:
    """(console, report) of one boot, from power on to power off. The image stays as it is."""
    kernel, small = initrd.build()
    overlay, console, report = work / "overlay", work / "console", work / "report"
    overlay.mkdir(exist_ok=True)
    shutil.copy(HERE / "image" / "init-disk", overlay / "init")
    (overlay / "init").chmod(0o755)
    initrd.pack(overlay, work / "overlay.cpio")
    (work / "initrd").write_bytes(small.read_bytes() + (work / "overlay.cpio").read_bytes())
    settings = "console=ttyS0 panic=-1 mitigations=off no_timer_check systemd.log_target=console systemd.log_color=no"
    settings += " systemd.show_status=yes systemd.default_timeout_start_sec=900 systemd.journald.forward_to_kmsg=no"
    command = [*vm.machine(1024), "-kernel", str(kernel), "-initrd", str(work / "initrd"), "-append", settings]
    command += ["-serial", f"file:{console}", "-serial", f"file:{report}", *vm.disk(image), "-snapshot"]
    if network:
        command += ["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0"]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=1200)
    return tuple(path.read_text(errors="replace").replace("\r\n", "\n") for path in (console, report))  # type: ignore[return-value]


# What must be so -----------------------------------------------------------------------------------------------------


def judge(title: str, said: tuple[str, str], *, network: bool, watch: bool) -> list[str]:
    """Print what the boot said, and give back what is wrong with it."""
    console, report = said
    facts = {
        name: dict(pair.split("=", 1) for pair in words.split())
        for name, words in re.findall(r"^UNIT (\S+) (.*)$", report, re.MULTILINE)
    }
    stopped = [line for line in console.splitlines() if re.search(r"OK.*(Stopped|Unmounted)", line)]
    print(f"==== {title}\n{table(facts)}")
    print("\n".join(line for line in report.splitlines() if not line.startswith("UNIT ")))
    print("---- the way down\n" + "\n".join(re.sub(r"\x1b\[\S*?[mK]", "", line) for line in stopped))
    wrong = []

    def must(what: str, so: bool) -> None:
        if not so:
            wrong.append(f"{title}: {what}")

    def at(unit: str, event: str) -> int:
        return int(facts.get(unit, {}).get(event, "0"))

    last = "swd-watch.service" if watch else "swd-startup.service"
    early_done = at("swd-early.service", "ActiveEnterTimestampMonotonic")
    must("pass 1 ran", early_done > 0)
    must("pass 1 ended with the errno of the phase", facts.get("swd-early.service", {}).get("ExecMainStatus") == "101")
    network_pre = at("network-pre.target", "ActiveEnterTimestampMonotonic")
    must("pass 1 came before network-pre.target", 0 < early_done <= network_pre)
    must("pass 1 was silent", not re.search(r"^LOG .*swdctl\[.*$", _part(report, "swd-early.service"), re.MULTILINE))
    if not watch:
        attempt = max(at("systemd-networkd-wait-online.service", "ExecMainExitTimestampMonotonic"), 1)
        ended = at("swd-complete.service", "ExecMainStartTimestampMonotonic")
        must("the phase was completed after the attempt", attempt <= ended)
        must("pass 2 came after that", ended <= at(last, "ExecMainStartTimestampMonotonic"))
    passed, remote = at(last, "ExecMainExitTimestampMonotonic"), at("remote-fs.target", "ActiveEnterTimestampMonotonic")
    if watch:  # it stays: pass 2 is done when it says so
        passed = at(last, "ActiveEnterTimestampMonotonic")
    must("pass 2 was over before remote-fs.target", 0 < passed <= remote)
    must("the phase is NETWORK_ATTEMPTED", re.search(r"^phase:.*network-attempted", report, re.MULTILINE) is not None)
    failed = set(re.findall(r"^FAILED (\S+)", report, re.MULTILINE))
    if network:
        must(f"no unit failed, but {failed}", not failed)
        must("pass 2 ended with 0", facts.get(last, {}).get("ExecMainStatus") == "0")
    else:  # the attempt itself has failed, and is told; of swd only who runs pass 2 and ends with its status
        told = failed - {"systemd-networkd-wait-online.service"}
        must(f"pass 2 told its failure, and nothing else failed: {failed}", told == (set() if watch else {last}))
        must("pass 2 ended with ENXIO", watch or facts.get(last, {}).get("ExecMainStatus") == str(errno.ENXIO))
        must("it said why", "ENXIO" in _part(report, last))
    down = ["Unmounted srv.mount", f"Stopped {last}", "Stopped systemd-networkd.service"]
    if not network and not watch:
        del down[1]  # it failed, so there is nothing to stop
    order = [next((number for number, line in enumerate(stopped) if words in line), -1) for words in down]
    must(f"the way down is {down}: {order}", -1 not in order and order == sorted(order))
    return wrong


def table(facts: dict[str, dict[str, str]]) -> str:
    """When each unit began and was there, in seconds since the kernel started, by systemd's monotonic clock."""
    lines = [f"{'unit':42} {'begins':>8} {'done':>8}  state    status"]
    for name, fact in facts.items():
        begins, done = (
            int(fact.get(f"{event}TimestampMonotonic", "0")) / 1e6 for event in ("InactiveExit", "ActiveEnter")
        )
        done = done or int(fact.get("ExecMainExitTimestampMonotonic", "0")) / 1e6
        status = fact.get("ExecMainStatus", "-")
        lines.append(f"{name:42} {begins:8.1f} {done:8.1f}  {fact['ActiveState']:8} {status}")
    return "\n".join(lines)


def _part(report: str, unit: str) -> str:
    """The lines of the journal that are the unit's."""
    return "\n".join(line for line in report.splitlines() if line.startswith(f"LOG {unit} "))


if __name__ == "__main__":
    sys.exit(main())
