# SPDX-License-Identifier: Apache-2.0
"""Build swd from a clean copy of its sources and install it into `.venv`, when something changed since the last time.

The copy (`.build/src`) holds what git would commit, so a stale `build/`, a forgotten file or an old `.so` can hide
nothing. The installation is an ordinary one, not an editable one: what the tests import is what a user gets. The whole
output goes to `.build/build.log`; a Cython "performance hint" in it fails the build, because it marks a function
without the GIL that takes it again at each call to look for an exception.

    tools/build.py              build into .venv if need be; run it with the Python that `tools/preflight` names
    tools/build.py --copy DIR   only the clean copy, of the whole tree
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
WORK = ROOT / ".build"
LOG = WORK / "build.log"
STAMP = VENV / "swd.stamp"
EXTRAS = "all,dev,bench"
HINT = "performance hint"

PARTS_OF_THE_BUILD = ("swd", "man", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
NOT_SOURCES = {".git", ".venv", ".build", "build", "dist", "htmlcov", "__pycache__"}
NOT_SOURCE_NAMES = (".so", ".pyc", ".egg-info", "_cache", ".hypothesis")


def listed_by_git() -> list[Path] | None:
    """Tracked files and untracked ones that are not ignored; None where ROOT is not the top of a git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        return None
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, or a checkout that belongs to somebody else
    return [Path(os.fsdecode(name)) for name in listing.split(b"\0") if name]


def listed_by_walk() -> list[Path]:
    """The same without git: everything but what builds and tools leave behind (an unpacked archive has little of
    it)."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in NOT_SOURCES and not name.endswith(NOT_SOURCE_NAMES)]
        found += [Path(folder, name).relative_to(ROOT) for name in names if not name.endswith(NOT_SOURCE_NAMES)]
    generated = {path.with_suffix(".c") for path in found if path.suffix == ".pyx"}
    return [path for path in found if path not in generated]


def sources() -> list[Path]:
    """All files of the tree, relative to ROOT, in order; a file that git knows but that is deleted is not one."""
    listed = listed_by_git()
    return sorted(path for path in (listed_by_walk() if listed is None else listed) if (ROOT / path).is_file())


def copy_clean(destination: Path, paths: list[Path]) -> None:
    """Make `destination` hold exactly `paths`."""
    shutil.rmtree(destination, ignore_errors=True)
    for path in paths:
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, destination / path)


def fingerprint(paths: list[Path]) -> str:
    """A digest of everything that decides what ends up in .venv: Python, extras, names and bytes."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {EXTRAS} {os.environ.get('CC', '')}".encode())
    for path in paths:
        content = (ROOT / path).read_bytes()
        digest.update(f"\n{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def run(*command: str | Path) -> None:
    """Run a step with its output in the log; its last lines are shown when it fails."""
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(map(str, command))}\n")
        log.flush()
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=WORK
        ).returncode
    if status:
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-25:])
        sys.exit(f"{tail}\nbuild: failed (status {status}); the whole output is in {LOG.relative_to(ROOT)}")


def hints(log: str) -> list[str]:
    """The lines of a build's output that carry Cython's performance hint."""
    return [line for line in log.splitlines() if HINT in line]


def build(paths: list[Path]) -> None:
    """A new environment with swd and what `make` needs in it. The old one goes: it may be of another Python."""
    WORK.mkdir(exist_ok=True)
    LOG.write_text("")
    STAMP.unlink(missing_ok=True)
    copy_clean(WORK / "src", paths)
    python = VENV / "bin" / "python"
    if not same_python(python):
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
    # Without isolation the log has Cython's and the compiler's words, and a rebuild fetches nothing.
    run(python, "-m", "pip", "install", "--progress-bar=off", *build_requirements())
    run(python, "-m", "pip", "install", "--progress-bar=off", "-v", "--no-build-isolation", f"{WORK / 'src'}[{EXTRAS}]")
    found = hints(LOG.read_text(errors="replace"))
    if found:
        sys.exit(
            "\n".join(
                [*found, f"build: Cython gave a {HINT}: declare the function noexcept, or give it an error value"]
            )
        )


def same_python(python: Path) -> bool:
    """Whether .venv exists and was made with the Python that runs this."""
    probe = [str(python), "-c", "import sys; print(sys.version, sys.base_prefix)"]
    try:
        answer = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer == f"{sys.version} {sys.base_prefix}"


def build_requirements() -> list[str]:
    """`build-system.requires` of pyproject.toml; read by eye, since Python 3.10 has no TOML reader."""
    line = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("requires = "))
    return [word for word in line.split('"')[1::2] if word]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--copy", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    everything = sources()
    if arguments.copy:
        copy_clean(arguments.copy.resolve(), everything)
        return
    paths = [path for path in everything if path.parts[0] in PARTS_OF_THE_BUILD]
    wanted = fingerprint(paths)
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    began = time.monotonic()
    print(f"building swd into {VENV.name} with {sys.executable} ...", flush=True)
    build(paths)
    STAMP.write_text(wanted)
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
