# SPDX-License-Identifier: Apache-2.0
"""Makes `vmlinuz` and `initrd` of a small guest: Debian's cloud kernel with the modules named here, busybox, and the
real lvm2, dmsetup, thin tools, mkfs, open-iscsi. Decides what the guest holds; what it does is a scenario's
(`vm.py`). Rebuilt when this file, `packages.py` or `image/init` changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import packages

HERE = Path(__file__).resolve().parent
HOME = packages.CACHE / "small"
TOOLS = ("busybox-static", "lvm2", "dmsetup", "thin-provisioning-tools", "e2fsprogs", "xfsprogs", "fdisk", "gdisk",
         "open-iscsi", "sg3-utils", "util-linux-extra", "mount", "util-linux", "coreutils", "iproute2")  # fmt: skip
MODULES = [
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "af_packet", "loop", "sd_mod", "sg", "iscsi_tcp"),
    *("crc32c_generic", "crc32c-intel", "dm_mod", "dm_mirror", "dm_log", "dm_snapshot", "dm_thin_pool", "dm_raid"),
    *("raid0", "raid1", "raid10", "raid456", "dm_cache", "dm_cache_smq", "dm_writecache", "dm_integrity", "dm_zero"),
    *("dm_crypt", "dm_bufio", "ext4", "xfs", "vfat", "nls_ascii"),
    *("configfs", "target_core_mod", "target_core_iblock", "iscsi_target_mod"),
]
# Found in the closure and never run here; emulated machines feel each MiB. The same holds for compression.
UNUSED = ("usr/share/*", "usr/lib/x86_64-linux-gnu/perl*", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/udev", "boot",
          "usr/lib/python3*", "usr/lib/locale", "usr/lib/x86_64-linux-gnu/libicu*", "usr/lib/x86_64-linux-gnu/libperl*",
          "usr/bin/python3*", "usr/bin/perl*", "usr/sbin/xfs_scrub", "usr/lib/systemd")  # fmt: skip


def build() -> tuple[Path, Path]:
    """(vmlinuz, initrd), made if need be."""
    HOME.mkdir(parents=True, exist_ok=True)
    kernel, image, stamp = HOME / "vmlinuz", HOME / "initrd", HOME / "stamp"
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_of = [Path(__file__), Path(packages.__file__), HERE / "image" / "init"]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            _build(kernel, image)
            stamp.write_text(digest)
    return kernel, image


def _build(kernel: Path, image: Path) -> None:
    root, boot = HOME / "root", HOME / "kernel"
    for folder in (root, boot):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    name = packages.kernel()
    files = packages.fetch([name])
    packages.unpack([path for path in files if path.name.startswith(name)], boot)
    packages.unpack(packages.fetch(TOOLS), root)
    for pattern in UNUSED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    version = next((boot / "lib" / "modules").iterdir()).name
    shutil.copy(boot / "boot" / f"vmlinuz-{version}", kernel)
    modules(boot, root, version, MODULES)
    for folder in ("proc", "sys", "dev", "tmp", "run", "mnt", "etc/lvm", "var/lib/iscsi"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\ndisk:x:6:\n")
    shutil.copy(HERE / "image" / "init", root / "init")
    (root / "init").chmod(0o755)
    pack(root, image)


def modules(boot: Path, root: Path, version: str, wanted: list[str]) -> None:
    """Copy `wanted` with all that they need. A name that this kernel has not ends the build."""
    subprocess.run(["depmod", "-b", str(boot), version], check=True)
    for name in wanted:
        command = ["modprobe", "-d", str(boot), "-S", version, "--show-depends", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the kernel has no module {name}: {done.stderr.strip()}")
        for line in done.stdout.splitlines():
            if line.startswith("insmod "):
                path = Path(line.split()[1])
                target = root / "usr" / "lib" / path.relative_to(boot / "lib")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    for path in (boot / "lib" / "modules" / version).glob("modules.[ob]*"):
        shutil.copy(path, root / "lib" / "modules" / version)
    subprocess.run(["depmod", "-b", str(root), version], check=True)


def pack(root: Path, image: Path) -> None:
    """A cpio of `root`. The kernel reads several of them one after another."""
    command = "find . -print0 | cpio -o0 -H newc --quiet -R 0:0"
    with image.open("wb") as out:
        subprocess.run(["sh", "-c", command], cwd=root, stdout=out, check=True)


if __name__ == "__main__":
    print(*build())
