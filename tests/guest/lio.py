# SPDX-License-Identifier: Apache-2.0
"""LIO, the Linux kernel's own target, in the small guest: one unit on a raw file of this machine, one portal. Decides
what is set up there; who talks to it, and what is spoilt between, is others' affair (`make soak-plan ARGS="--target
lio"`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import vm

NAME = "iqn.2026-01.org.swd:lio"
ISCSI, CONTROL = 3260, 3261  # ports of the guest
SCENARIO = """
set -e
for module in configfs target_core_mod target_core_iblock iscsi_target_mod; do modprobe $module; done
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
mkdir -p /etc/target/pr /etc/target/alua /var/target/pr /var/target/alua
core=/sys/kernel/config/target/core/iblock_0/unit
mkdir -p $core
echo udev_path=/dev/vda >$core/control
echo 1 >$core/enable
echo swd-soak >$core/wwn/vpd_unit_serial
group=/sys/kernel/config/target/iscsi/{name}/tpgt_1
mkdir -p $group
mkdir -p $group/np/0.0.0.0:{port} $group/lun/lun_0
ln -s $core $group/lun/lun_0/unit
echo 0 >$group/attrib/authentication
echo 1 >$group/attrib/generate_node_acls
echo 1 >$group/attrib/cache_dynamic_acls
echo 0 >$group/attrib/demo_mode_write_protect
{params}
echo 1 >$group/enable
cat >/tmp/sessions <<'END'
#!/usr/bin/busybox sh
cat /sys/kernel/config/target/iscsi/{name}/fabric_statistics/iscsi_instance/sessions
END
chmod +x /tmp/sessions
while :; do busybox nc -ll -p {control} -e /tmp/sessions; done &
uname -r
echo READY
wait
"""


@contextmanager
def serving(image: Path, port: int, control: int, *, block_size: int, keys: Mapping[str, str]) -> Iterator[None]:
    """LIO on 127.0.0.1:`port`, LUN 0 of NAME on the file, with `keys` as what it offers and takes; until the end of
    the block. `control` is the port that `sessions` asks."""
    params = "\n".join(f"echo {value} >$group/param/{key}" for key, value in keys.items())
    script = SCENARIO.format(name=NAME, port=ISCSI, control=CONTROL, params=params)
    disk = vm.disk(image, block_size=block_size)
    with vm.serving(script, forwards={port: ISCSI, control: CONTROL}, devices=disk):
        yield


def sessions(control: int, patience: float = 10) -> int:
    """How many sessions it has. Where nobody listens in the guest yet (READY is said beside nc, and nc is started again
    when it ends), qemu takes the connection and closes it without a word: asked again, for `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (said := _asked(control)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the guest has not told its sessions in {patience} s")
        threading.Event().wait(0.05)
    return int(said)


def _asked(control: int) -> str:
    with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", control), timeout=10) as ask:
        return ask.makefile().readline()
    return ""
