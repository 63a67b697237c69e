# SPDX-License-Identifier: Apache-2.0
"""A build of swd's compiled modules for libFuzzer: clang's coverage and sanitizers, and an interpreter around them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
PROGRAM = "swd-fuzz"
SANITIZERS = "address,undefined"
FLAGS = f"-g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=undefined -fsanitize=fuzzer-no-link,{SANITIZERS}"


def build(work: Path) -> Path | None:
    """The folder with the program and the modules; None, and a word why, where this machine cannot make them."""
    library = sysconfig.get_config_var("LDLIBRARY") or ""
    if shutil.which("clang") is None or not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        print("fuzz: compiled modules are fuzzed blind: coverage needs clang and a Python with a shared library")
        return None
    work.mkdir(parents=True, exist_ok=True)
    python = [sys.executable, str(TOP / "tools" / "build.py")]
    subprocess.run([*python, "--copy", str(work / "src")], check=True)
    clang = os.environ.get("FUZZ_CC", "clang")
    link = f"clang -shared -fsanitize=fuzzer-no-link,{SANITIZERS}"
    env = {**os.environ, "CC": clang, "CFLAGS": FLAGS, "LDSHARED": link}
    run([sys.executable, "setup.py", "build_ext", "--inplace"], work / "src", env)
    place, name = sysconfig.get_config_var("LIBDIR"), library.removeprefix("lib").partition(".so")[0]
    words = ["clang", "-g", "-O1", f"-fsanitize=fuzzer,{SANITIZERS}", f"-I{sysconfig.get_path('include')}"]
    words += [str(HERE / "embed.c"), "-o", PROGRAM, f"-L{place}", f"-l{name}", f"-Wl,-rpath,{place}", "-rdynamic"]
    run(words, work, dict(os.environ))
    return work


def run(words: list[str], where: Path, env: dict[str, str]) -> None:
    done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"fuzz: {' '.join(words[:3])} ... failed:\n{(done.stdout + done.stderr)[-2000:]}")


def environment(work: Path, harness: Path) -> dict[str, str]:
    """What the program needs to find: the instrumented swd first, then the harness, then what swd stands on.

    Every object is an allocation of its own, so that AddressSanitizer sees its bounds.
    """
    places = [work / "src", harness, sysconfig.get_path("purelib")]
    return {
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
