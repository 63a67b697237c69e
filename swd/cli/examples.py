# SPDX-License-Identifier: Apache-2.0
"""What a new user types: examples for each verb, shown by `--help` and in the manual page. A test parses every one."""

from __future__ import annotations

from typing import Final

_DEV: Final = "iscsi://192.0.2.10/iqn.2026-01.org.example:db/0"

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "discover": ("swdctl discover 192.0.2.10", "swdctl discover '[2001:db8::10]:3260' -O auth=none"),
    "scan": ("swdctl scan 192.0.2.10", "swdctl scan --target iqn.2026-01.org.example:db"),
    "list": ("swdctl list", "swdctl list --json"),
    "login": (f"swdctl login {_DEV} -O user=host1 -O secret_file=/etc/swd/db.secret",),
    "logout": ("swdctl logout iqn.2026-01.org.example:db", "swdctl logout iqn.2026-01.org.example:db --forget"),
    "info": (f"swdctl info {_DEV}", "swdctl info 255/0/0.0.0.0", "swdctl info --build"),
    "read": (
        f"swdctl read {_DEV} --length 1M | xxd | head",
        f"swdctl read {_DEV} --offset 512 --length 4K -o piece.img",
    ),
    "write": (
        f"swdctl write {_DEV} --offset 1M -i piece.img",
        f"zcat disk.img.gz | swdctl write {_DEV} --overwrite",
    ),
    "copy": (
        f"swdctl copy {_DEV} ./backup.img --verify",
        f"swdctl copy ./backup.img {_DEV} --verify --overwrite",
    ),
    "ioctl": (
        "swdctl ioctl --list",
        f"swdctl ioctl {_DEV} BLKGETSIZE64",
        f"swdctl ioctl {_DEV} SG_IO cdb=120000006000 data_in=96",
        f"swdctl ioctl {_DEV} BLKDISCARD offset=1G length=64M",
    ),
    "stats": (f"swdctl stats {_DEV}", "swdctl stats --all", "swdctl stats --format prometheus"),
    "trace": (f"swdctl trace login.pcap -- info {_DEV}", "tshark -r login.pcap -Y iscsi"),
    "fs detect": (f"swdctl fs detect {_DEV}",),
    "fs ls": (f"swdctl fs ls {_DEV} /etc",),
    "fs tree": (f"swdctl fs tree {_DEV}",),
    "fs cat": (f"swdctl fs cat {_DEV} /etc/hostname | cat",),
    "fs get": (f"swdctl fs get {_DEV} /etc/hostname", f"swdctl fs get -r {_DEV} /srv/data -o ./data"),
    "fs df": (f"swdctl fs df {_DEV}",),
    "vg scan": ("swdctl vg scan", f"swdctl vg scan --device {_DEV}"),
    "vg list": ("swdctl vg list",),
    "vg info": ("swdctl vg info vg00",),
    "vg activate": ("swdctl vg activate vg00",),
    "vg deactivate": ("swdctl vg deactivate vg00",),
    "lv list": ("swdctl lv list vg00",),
    "lv info": ("swdctl lv info vg00/data", "swdctl read lvm://vg00/data --length 1M -o piece.img"),
    "config show": ("swdctl config show", f"swdctl config show {_DEV}"),
    "config get": (f"swdctl config get timeout {_DEV}",),
    "config set": ("swdctl config set data_digest=crc32c --scope target/iqn.2026-01.org.example:db",),
    "config unset": ("swdctl config unset data_digest --scope target/iqn.2026-01.org.example:db",),
    "phase show": ("swdctl phase show",),
    "phase begin": ("swdctl phase begin",),
    "phase complete": ("swdctl phase complete",),
    "mount": (f"swdctl mount {_DEV} /mnt", f"swdctl mount '{_DEV}?partition=1' /mnt -o ro,noload"),
    "umount": ("swdctl umount /mnt", "swdctl umount --all"),
    "placement check": ("swdctl placement check", "swdctl placement check --root /sysroot"),
    "startup": ("swdctl startup --pass 1", "swdctl startup --pass 2", "swdctl startup --watch"),
    "startup install": ("swdctl startup install", "swdctl startup install --root /mnt/image --swdctl /usr/bin/swdctl"),
    "startup uninstall": ("swdctl startup uninstall",),
    "target serve": (
        "swdctl target serve --lun mem://1G --portal 127.0.0.1:3260",
        "swdctl target serve --lun ./disk.img --user host1 --secret-file ./secret",
        "swdctl target serve --lun mem://1G --faults ./plan.toml",
        "swdctl target serve --config ./targets.toml --state-file ./reservations.json",
    ),
    "target faults": ("swdctl target faults", "swdctl target faults ./plan.toml"),
    "bench": (
        f"swdctl bench {_DEV}",
        f"swdctl bench {_DEV} --profile iops --way batch --way asyncio --json",
        "swdctl bench mem://256M --write --seconds 1 --png bench.png",
    ),
    "demo": ("swdctl demo", f"swdctl demo {_DEV}"),
}
