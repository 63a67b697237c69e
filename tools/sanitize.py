# SPDX-License-Identifier: Apache-2.0
"""Run the suite on a build of swd with AddressSanitizer and UndefinedBehaviorSanitizer, in an environment of its own.

The interpreter is a small program with the sanitizers in it around the shared library of this Python, so that no other
program that a test starts is touched, as LD_PRELOAD would; whatever a test starts as `sys.executable` has them too.
Every object is an allocation of its own (PYTHONMALLOC=malloc), so that its bounds are seen. CPython's own leaks at exit
are not looked for. Reports of all processes are collected: status 1 if there is one, or if a test fails.

    tools/sanitize.py [tests/FOLDER...]     those, or all of the suite, but for what LEFT_OUT names: a process a folder
    tools/sanitize.py ARGUMENT...           anything else: the arguments of one pytest
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from build import copy_clean, sources

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".build" / "sanitize"
VENV = WORK / "venv"
REPORTS = WORK / "reports"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
PATIENCE = 600  # seconds of a test; they are several times slower here

# What is other in the copy that is built here: the sanitizer takes terabytes of address space, of which the readers of
# file systems have a fixed limit.
LOOSENED = {"swd/volumes/filesystems/helper.py": ("MEMORY: Final = 1 << 30", "MEMORY: Final = 1 << 47")}

# What cannot run here, and why.
LEFT_OUT = {
    "tests/packaging": "builds and installs swd anew, without sanitizers",
    "tests/guest": "machines of their own: scripts, no tests",
    "tests/export/test_mounting.py::test_signals_do_not_end_it_and_a_busy_one_stays": "mlockall does nothing there",
    "tests/volumes/test_fs_hostile.py::test_the_child_has_nothing_but_its_socket": "it asks for the limit itself",
    "tests/targetpath/test_targetpath_edges.py::test_without_memory_for_an_answer_the_path_ends_and_sends_no_part": (
        "it leaves no memory at all, and the sanitizer needs some"
    ),
    "tests/pump/test_allocations.py": "its counter stands before the heap, where the sanitizer's own has to stand",
    "tests/limits/test_limits_target.py::test_without_memory_nobody_new_is_taken_and_the_others_go_on": "the same",
}

MAIN = """
#include <Python.h>
int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
"""


def run(words: list[str | Path], where: Path, **env: str) -> None:
    done = subprocess.run(words, cwd=where, env={**os.environ, **env}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"sanitize: {' '.join(map(str, words[:4]))} ... failed:\n{(done.stdout + done.stderr)[-3000:]}")


def interpreter() -> Path:
    """A virtual environment whose Python has the sanitizers."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        sys.exit("sanitize: this Python has no shared library to build an interpreter around; take another (PYTHON=)")
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", "--without-pip", VENV], ROOT)
    (WORK / "main.c").write_text(MAIN)
    python, place = VENV / "bin" / "python", sysconfig.get_config_var("LIBDIR")
    library = sysconfig.get_config_var("LDLIBRARY").removeprefix("lib").partition(".so")[0]
    python.unlink()
    words = [*compiler(), *FLAGS.split(), f"-I{sysconfig.get_path('include')}", "main.c", "-o", str(python)]
    run([*words, f"-L{place}", f"-l{library}", f"-Wl,-rpath,{place}"], WORK)
    return python


def compiler() -> list[str]:
    return os.environ.get("SANITIZE_CC", "gcc").split()


def install(python: Path) -> None:
    """A clean copy of the sources, built by the ordinary Python, installed into the other; what swd stands on comes
    from `.venv`, which is looked at after the other's own packages.
    """
    copy_clean(WORK / "src", [path for path in sources() if path.parts[0] != "tests"])
    for name, (old, new) in LOOSENED.items():
        text = (WORK / "src" / name).read_text()
        assert text.count(old) == 1, f"{name} has changed: LOOSENED must follow"
        (WORK / "src" / name).write_text(text.replace(old, new))
    env = {"CC": " ".join(compiler()), "CFLAGS": FLAGS, "LDSHARED": " ".join([*compiler(), "-shared", FLAGS])}
    pip = [sys.executable, "-m", "pip", "-q"]
    shutil.rmtree(WORK / "wheel", ignore_errors=True)
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", WORK / "wheel", WORK / "src"], WORK, **env)
    wheel = next((WORK / "wheel").glob("*.whl"))
    run([*pip, "--python", python, "install", "--no-deps", wheel], WORK, ASAN_OPTIONS="detect_leaks=0")
    site = VENV / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")


def environment() -> dict[str, str]:
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    reports = f"log_path={REPORTS}/report"
    return {
        **os.environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(WORK / "path"),
        "PYTHONMALLOC": "malloc",
        "SWD_TEST_HOME": str(VENV),
        "SWD_TEST_SLOWER": "5",
        # Little is kept of what was freed, for the sake of the tests that measure memory.
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=8:{reports}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:{reports}",
    }


def reported() -> list[Path]:
    """Reports of any process that are about a fault; an allocation that was refused is answered by whoever asked."""
    texts = {path: path.read_text(errors="replace") for path in sorted(REPORTS.iterdir())}
    return [path for path, text in texts.items() if "ERROR:" in text or "runtime error:" in text]


def parts() -> list[list[str]]:
    """The suite, a folder at a time: a process that runs all of it would keep all that the sanitizer remembers."""
    out = [f"--deselect={name}" if "::" in name else f"--ignore={ROOT / name}" for name in LEFT_OUT]
    files = [path for path in sources() if path.parts[0] == "tests" and path.name.startswith("test_")]
    folders = dict.fromkeys(path.parts[1] for path in files)
    return [[str(ROOT / "tests" / name), *out] for name in folders if f"tests/{name}" not in LEFT_OUT]


def chosen(arguments: list[str]) -> list[list[str]]:
    """Arguments of pytest, a run each. What is not there is said before anything is built."""
    for name in arguments:
        if name.startswith("tests/") and not (ROOT / name.split("::")[0]).exists():
            sys.exit(f"sanitize: there is no {name}")
    wanted = {str(ROOT / name) for name in arguments}
    folders = [part for part in parts() if not wanted or part[0] in wanted]
    return folders if len(folders) >= len(wanted) else [arguments]


def suite(python: Path, arguments: list[str], env: dict[str, str]) -> int:
    """One run of pytest; its status, and a line about it."""
    began = time.monotonic()
    words = [python, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    words += ["--durations=0", "--durations-min=60", f"--timeout={PATIENCE}", *arguments]
    status = subprocess.run(words, cwd=WORK / "path", env=env).returncode
    print(f"sanitize: {arguments[0]}: status {status}, {time.monotonic() - began:.0f} s", flush=True)
    return status


def main() -> int:
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what nohup begins ignores this; tests send both
    runs = chosen(sys.argv[1:])
    WORK.mkdir(parents=True, exist_ok=True)
    python = interpreter()
    install(python)
    print(f"sanitize: built in {time.monotonic() - began:.0f} s", flush=True)
    # As `make test` does it: the suite stands in a folder that holds no swd.
    (WORK / "path").mkdir(exist_ok=True)
    if not (WORK / "path" / "tests").exists():
        (WORK / "path" / "tests").symlink_to(ROOT / "tests")
    env = environment()
    status = 0
    for words in runs:
        status = suite(python, words, env) or status
    for name, why in LEFT_OUT.items():
        print(f"sanitize: left out: {name}: {why}")
    found = reported()
    for path in found:
        print(f"sanitize: {path}:\n{path.read_text(errors='replace')[:3000]}")
    print(f"sanitize: {len(found)} reports, pytest's status {status}, {time.monotonic() - began:.0f} s")
    return 1 if found or status else 0


if __name__ == "__main__":
    sys.exit(main())
