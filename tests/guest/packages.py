# SPDX-License-Identifier: Apache-2.0
"""Decides which Debian packages a guest is made of, and unpacks them: a name's whole closure is resolved by apt as if
nothing were installed, so a guest does not depend on what this machine happens to have. Maintainer scripts are not run;
who needs what they would have made (users, links) makes it. Knows nothing of kernels, images or qemu.

Needs apt-get and dpkg-deb, and package lists (`apt-get update`); no root. Downloads are kept in `.build/guest`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SWD_GUEST_CACHE", ROOT / ".build" / "guest"))
NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/bash-completion")


def _apt(*arguments: str, downloads: Path = CACHE / "debs") -> str:
    """What apt-get says, with a state of its own in which no package is installed."""
    (downloads / "partial").mkdir(parents=True, exist_ok=True)
    (CACHE / "status").touch()
    options = {
        "Dir::State::status": CACHE / "status",
        "Dir::Cache::archives": downloads,
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
    }
    command = ["apt-get", "-q", "-y", "--no-install-recommends"]
    command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    done = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip()}\nnext: apt-get update, as root")
    return done.stdout


def fetch(names: Iterable[str]) -> list[Path]:
    """The .deb files of `names` (a trailing `-` keeps a package out) and of all that they depend on."""
    wanted = list(names)
    listed = _apt("--print-uris", "install", *wanted, downloads=CACHE / "none")  # it leaves out what is there already
    files = [unquote(line.split()[1]) for line in listed.splitlines() if line.startswith("'")]
    _apt("--download-only", "install", *wanted)
    return [_kept(name) for name in files]


def _kept(name: str) -> Path:
    """apt keeps an epoch's colon as %3a."""
    path = CACHE / "debs" / name
    return path if path.exists() else CACHE / "debs" / name.replace(":", "%3a")


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Unpack into `root`, whose /bin, /sbin and /lib are links into /usr as Debian has them; without documentation."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        stream = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        extract = ["tar", "-xf", "-", "--keep-directory-symlink", "-C", str(root)]
        subprocess.run(extract, stdin=stream.stdout, check=True)
        if stream.wait():
            raise SystemExit(f"{deb}: dpkg-deb cannot read it; next: remove the file and run again")
    for folder in NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)


def kernel() -> str:
    """The package that `linux-image-cloud-amd64` stands for today."""
    found = re.search(r"linux-image-6\.1\S*-cloud-amd64", _apt("--simulate", "install", "linux-image-cloud-amd64"))
    if found is None:
        raise SystemExit("no linux-image-6.1*-cloud-amd64 in the package lists")
    return found.group()
