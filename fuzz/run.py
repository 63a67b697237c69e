# SPDX-License-Identifier: Apache-2.0
"""Fuzz swd for FUZZ_SECONDS (600) in one niced process at a time; keep what the search found worth keeping.

Python is led by atheris (the extra `fuzz`), compiled modules by a build of their own with clang: libFuzzer in an
interpreter, with AddressSanitizer and UndefinedBehaviorSanitizer (`embed.c`). Without clang they are fuzzed blind.

    fuzz/run.py [TARGET...]     the named targets of harness/table.py, else all; adds to STATS and corpus/
    fuzz/run.py --short         all in one process, blind where coverage needs a build, and nothing is written: for CI
    fuzz/run.py --one TARGET FILE...    only these inputs, as a finding is looked into

FUZZ_PAUSE: seconds for which everything may be stopped from outside, so that limits of time are longer by them.
Status 1 if an input broke what must hold; it is then in .build/fuzz/findings, with the log beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import corpus
import native
from harness.table import ALL, BY_NAME, TARGETS, Target

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".build" / "fuzz"
STATS = HERE / "STATS"
# Seconds for which all of this may be stopped from outside (a frozen container): no input is slow by that.
PAUSE = round(float(os.environ.get("FUZZ_PAUSE", "0")))
FLAGS = (f"-timeout={10 + PAUSE}", f"-report_slow_units={10 + PAUSE}", "-rss_limit_mb=2048", "-detect_leaks=0")
TALK = ("-print_final_stats=1", "-close_fd_mask=0")
MERGE_SECONDS = 120 + PAUSE


class Outcome(NamedTuple):
    """What one run of one target says of itself."""

    executions: int
    seconds: int
    edges: int
    findings: list[Path]
    engine: str


def atheris() -> None:
    """Installs the extra `fuzz` into this environment, if it is not there."""
    try:
        metadata.distribution("atheris")
    except metadata.PackageNotFoundError:
        wanted = [line.partition(";")[0] for line in metadata.requires("iscsi-swd") or [] if 'extra == "fuzz"' in line]
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", *wanted])
        if done.returncode:
            sys.exit(f"fuzz: {' '.join(wanted)} cannot be had for this Python and machine: take another (PYTHON=...)")


def command(target: Target, build: Path | None) -> tuple[list[str], dict[str, str], str]:
    """The words, the environment and the name of the engine that fuzzes a target."""
    env = {**os.environ, "SWD_FUZZ_TARGET": target.name, "PYTHONPATH": str(HERE)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # libFuzzer starts one.py by its name
    if target.native and build is not None:
        return [str(build / native.PROGRAM)], env | native.environment(build, HERE), "libFuzzer, ASan, UBSan"
    return [str(HERE / "one.py")], env, "blind" if target.native else "atheris"


def fuzz(target: Target, seconds: float, folder: Path, build: Path | None) -> Outcome:
    """Runs one target over a folder, which grows."""
    words, env, engine = command(target, build)
    findings = WORK / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    dictionary = [f"-dict={HERE / 'words.dict'}"] if not target.native else []
    limits = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={target.longest}"]
    prefix = f"-artifact_prefix={findings}/{target.name}-"
    began = time.monotonic()
    done = subprocess.run(
        [*words, *FLAGS, *TALK, *dictionary, *limits, prefix, str(folder)], env=env, capture_output=True, text=True,
        errors="replace", timeout=seconds + 120 + PAUSE,
    )  # fmt: skip
    log = done.stdout + done.stderr
    (WORK / f"{target.name}.log").write_text(log)
    found = sorted(set(findings.iterdir()) - before)
    for path in found:
        shutil.copy(WORK / f"{target.name}.log", f"{path}.log")
    if done.returncode and not found:
        sys.exit(f"fuzz: {target.name} did not run (status {done.returncode}):\n{log[-2000:]}")
    executed = re.search(r"number_of_executed_units: (\d+)", log)
    edges = [int(number) for number in re.findall(r"\bcov: (\d+)", log)]
    ran = int(executed[1]) if executed else 0
    return Outcome(ran, round(time.monotonic() - began), max(edges, default=0), found, engine)


def minimised(target: Target, folder: Path, build: Path | None) -> Path:
    """The smallest inputs of a folder that together reach what all of them reach."""
    words, env, _ = command(target, build)
    small = WORK / "small" / target.name
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir(parents=True)
    flags = ("-merge=1", *FLAGS, f"-max_len={target.longest}")
    subprocess.run([*words, *flags, small, folder], env=env, capture_output=True, timeout=MERGE_SECONDS)
    return small if any(small.iterdir()) else folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--one", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    chosen = [BY_NAME[name] for name in arguments.targets] or ([ALL] if arguments.short else list(TARGETS))
    if arguments.one:
        for path in arguments.one:
            chosen[0].run(path.read_bytes())
        return 0
    atheris()
    wanted = not arguments.short and any(target.native for target in chosen)
    build = native.build(WORK / "native") if wanted else None
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    shares = sum(target.share for target in chosen)
    failures = 0
    for target in chosen:
        folder = WORK / ("short" if arguments.short else "corpus") / target.name
        if target is ALL:
            shutil.rmtree(folder, ignore_errors=True)
            for number, row in enumerate(TARGETS):
                corpus.unpack(row.name, folder, prefix=bytes([number]))
        else:
            corpus.unpack(target.name, folder)
        outcome = fuzz(target, seconds * target.share / shares, folder, build)
        failures += len(outcome.findings)
        if not arguments.short:
            small = minimised(target, folder, build)
            inputs, size = corpus.pack(target.name, small)
            corpus.account(STATS, target.name, outcome, inputs, size)
        print(
            f"{target.name:16} {outcome.executions:9} in {outcome.seconds:4} s, {outcome.edges:6} edges, "
            f"{len(outcome.findings)} findings ({outcome.engine})",
            flush=True,
        )
        for path in outcome.findings:
            print(f"    {path}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
