# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel's own initiator against swd's embedded target: `.venv/bin/python tests/guest/initiator.py`.

In the guest iscsi_tcp and open-iscsi log in to a target on this side (by qemu's user network), without digests and with
both; they make ext4 and XFS on the unit, write, sync, mount again, compare, and trim. On this side the file behind the
unit is then looked at: e2fsck finds nothing, and what was trimmed holds no blocks. Once more with a unit in memory,
which the compiled data path serves. The log goes to stdout.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import vm

SWDCTL = str(Path(sys.executable).with_name("swdctl"))  # the installed one: -m swd would find this tree's sources
NAME = "iqn.2026-01.org.example:swd"
SIZE = 400 << 20
SCENARIO = r"""
set -e
modprobe iscsi_tcp; modprobe sd_mod; modprobe crc32c_generic; modprobe ext4; modprobe xfs
echo "InitiatorName=iqn.2026-01.org.example:kernel" >/etc/iscsi/initiatorname.iscsi
iscsid -f >/tmp/iscsid.log 2>&1 &
node="iscsiadm -m node -T $NAME -p 10.0.2.2:$PORT"
until $node -o new >/dev/null 2>&1; do sleep 0.2; done
for digest in None CRC32C; do
    for key in HeaderDigest DataDigest; do $node -o update -n "node.conn[0].iscsi.$key" -v $digest; done
    $node -l >/dev/null
    until [ -b /dev/sda ]; do sleep 0.1; done
    iscsiadm -m session -P 3 | grep -E 'Digest|State|MaxRecv|MaxBurst|FirstBurst|ImmediateData|InitialR2T|Attached'
    grep -H . /sys/block/sda/queue/discard_max_bytes /sys/block/sda/device/vendor /sys/block/sda/device/model
    for system in ext4 xfs; do
        case $system in ext4) mkfs.ext4 -q -F /dev/sda ;; xfs) mkfs.xfs -q -f /dev/sda ;; esac
        mount /dev/sda /mnt
        mkdir /mnt/a
        n=0; while [ $n -lt 40 ]; do head -c $((n * 9973)) /dev/urandom >/mnt/a/$n; n=$((n + 1)); done
        dd if=/dev/urandom of=/mnt/large bs=1M count=24 conv=fsync 2>/dev/null
        ( cd /mnt && find . -type f | sort | xargs sha256sum ) >/tmp/before
        umount /mnt; echo 3 >/proc/sys/vm/drop_caches
        mount /dev/sda /mnt
        ( cd /mnt && sha256sum -c /tmp/before >/tmp/compared ) || { grep -v OK /tmp/compared; exit 1; }
        echo "COMPARED $digest $system $(grep -c OK /tmp/compared) files"
        rm /mnt/large; sync
        echo "TRIMMED $digest $system $(fstrim -v /mnt)"
        umount /mnt
    done
    mkfs.ext4 -q -F /dev/sda
    mount /dev/sda /mnt; echo "$digest was here" >/mnt/note; umount /mnt
    $node -u >/dev/null
    until [ ! -b /dev/sda ]; do sleep 0.1; done
done
dmesg | grep -iE 'iscsi|sd [0-9]|I/O error|ext4-fs error|xfs.*corrupt' | tail -n 40
! dmesg | grep -iE 'I/O error|connection[0-9:]+ detected conn error|EXT4-fs error|XFS.*orruption'
"""


def main() -> int:
    commit = subprocess.run(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()  # fmt: skip
    print(f"commit {commit}, {vm.accelerator()}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="swd-initiator-") as folder:
        lun = Path(folder, "lun")
        with lun.open("wb") as new:
            new.truncate(SIZE)
        right = _play(f"file://{lun}")
        checked = subprocess.run(["e2fsck", "-fn", str(lun)], capture_output=True, text=True)
        print(checked.stdout + checked.stderr)
        held = lun.stat().st_blocks * 512
        print(f"the file holds {held} of {lun.stat().st_size} bytes")
    right = _play(f"mem://{SIZE}") and right  # whose data path is compiled
    right = right and checked.returncode == 0
    print("all is as it should be" if right else "WRONG")
    return 0 if right else 1


def _play(dev: str) -> bool:
    """The scenario with a unit on that DEV; whether all of it was seen."""
    print(f"\na unit on {dev.partition(':')[0]}:")
    verb = ["target", "serve", "--portal", "127.0.0.1:0", "--target", NAME, "--lun", dev, "--json"]
    target = subprocess.Popen([SWDCTL, *verb], stdout=subprocess.PIPE, text=True)
    try:
        port = _port(target)
        said = vm.run(f"NAME={NAME} PORT={port}\n{SCENARIO}", network=True, timeout=1500)
    finally:
        target.terminate()
        counted = target.communicate(timeout=30)[0]
    print(f"{said}\n{counted}")
    steps = [len(re.findall(f"^{step} ", said, re.MULTILINE)) for step in ("COMPARED", "TRIMMED")]
    digests = [len(re.findall(rf"{kind}Digest: {name}$", said, re.MULTILINE))
               for kind in ("Header", "Data") for name in ("None", "CRC32C")]  # fmt: skip
    checks = [int(count) for count in re.findall(r'_digests_checked": (\d+)', counted)]
    return steps == [4, 4] and digests == [1, 1, 1, 1] and len(checks) == 2 and all(checks)


def _port(target: subprocess.Popen[str]) -> str:
    """The port that it took, from the record that it prints when it is ready."""
    assert target.stdout is not None
    for line in target.stdout:
        print(line, end="")
        if found := re.search(r"127\.0\.0\.1:(\d+)", line):
            return found[1]
    raise SystemExit("the target did not start")


if __name__ == "__main__":
    sys.exit(main())
