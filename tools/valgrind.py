# SPDX-License-Identifier: Apache-2.0
"""Run a part of the suite under valgrind: the engine, the pump, the CRC kernels, the event loop's queue, streams, the
straight ways of reading, the target's data path.

Status 1 where memory is misused, or definitely lost, with a frame of swd's compiled modules on the stack; what CPython
and NumPy do among themselves is counted, not judged, so that no list of suppressions has to follow their versions. The
SSE 4.2 kernel is named, since valgrind has no AVX-512. Every object is an allocation of its own (PYTHONMALLOC=malloc).

    tools/valgrind.py [ARGUMENT...]     arguments of pytest; without any the files of WHAT. Takes a quarter of an hour
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".build" / "valgrind"
OURS = "/swd/_"  # in the path of the object file of a frame
# An int of value 0 has no digit; CPython reads the one that is not there and multiplies it by 0. Whatever was made from
# such memory looks undefined ever after.
OF_CPYTHON = "_PyLong_New"
LOST = "Leak_DefinitelyLost"
JUDGED = {
    *("InvalidRead", "InvalidWrite", "InvalidJump", "InvalidFree", "MismatchedFree", "InvalidMemPool", "Overlap"),
    *("UninitCondition", "UninitValue", "SyscallParam", "ClientCheck", "FishyValue", LOST),
}
WHAT = (
    *("engine/test_data_out.py", "engine/test_faults.py", "engine/test_golden.py", "engine/test_letting_go.py"),
    *("engine/test_put_off.py", "engine/test_restart.py", "engine/test_unasked.py", "engine/test_window.py"),
    *("pump/test_commands.py", "pump/test_batch.py", "pump/test_submitted.py", "pump/test_threads.py"),
    *("pump/test_pump_streams.py", "test_streams.py"),
    *("crc/test_kernels.py", "asyncqueue/test_turns.py", "asyncqueue/test_trouble.py"),
    *("straight/test_straight.py", "straight/test_straight_writes.py", "rangelock/test_rangelock.py"),
    *("asyncdisk/test_reads.py", "asyncdisk/test_writes.py", "asyncdisk/test_writes_in_trouble.py"),
    *("targetpath/test_targetpath_units.py", "targetpath/test_targetpath_settings.py"),
)
# What cannot run here, and why.
LEFT_OUT = {
    "crc/test_kernels.py::test_swd_crc_with_a_wrong_name_says_which_there_are": "its child outside has AVX-512 as well",
    "rangelock/test_rangelock.py::test_an_abandoned_entry_lives_as_long_as_it_is_held_and_no_longer": (
        "it abandons one, and the lock with it"
    ),
}
VALGRIND = (
    *("--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", "--num-callers=40"),
    *("--track-origins=yes", "--child-silent-after-fork=yes"),
    "--fair-sched=try",  # one thread runs at a time: none may starve
)


def faults(report: Path) -> tuple[list[str], Counter[str]]:
    """What is ours, as text, and what is not, by kind."""
    ours: list[str] = []
    others: Counter[str] = Counter()
    for error in ET.parse(report).getroot().iter("error"):
        kind = error.findtext("kind", "")
        frames = [f"{words['fn']} ({words['file'] or words['obj']}:{words['line']})" for words in of(error)]
        theirs = kind.startswith("Uninit") and any(words["fn"] == OF_CPYTHON for words in of(error))
        if kind in JUDGED and not theirs and any(OURS in words["obj"] for words in of(error)):
            what = error.findtext("what") or error.findtext("xwhat/text", "")
            ours.append("\n    ".join([f"{kind}: {what}", *frames[:20]]))
        else:
            others[kind] += 1
    return ours, others


def of(error: ET.Element) -> list[dict[str, str]]:
    """The frames of all stacks of an error."""
    return [{name: frame.findtext(name, "") for name in ("fn", "file", "obj", "line")} for frame in error.iter("frame")]


def main() -> int:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind: there is none here; run: apt-get install valgrind")
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what nohup begins ignores this; tests send both
    WORK.mkdir(parents=True, exist_ok=True)
    report = WORK / "report.xml"
    report.unlink(missing_ok=True)
    (WORK / "path").mkdir(exist_ok=True)
    if not (WORK / "path" / "tests").exists():
        (WORK / "path" / "tests").symlink_to(ROOT / "tests")
    env = {**os.environ, "PYTHONMALLOC": "malloc", "SWD_CRC": "sse42", "SWD_TEST_HOME": str(ROOT / ".venv")}
    env["SWD_TEST_SLOWER"] = "25"
    out = [f"--deselect=tests/{name}" for name in LEFT_OUT]  # as pytest names them, from its rootdir
    chosen = sys.argv[1:] or [*(str(ROOT / "tests" / name) for name in WHAT), *out]
    words = ["valgrind", *VALGRIND, "--xml=yes", f"--xml-file={report}", sys.executable, "-m", "pytest"]
    words += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "no:cacheprovider", "--timeout=1200"]
    env["PYTHONPATH"] = str(WORK / "path")
    status = subprocess.run([*words, *chosen], cwd=WORK / "path", env=env).returncode
    for name, why in LEFT_OUT.items():
        print(f"valgrind: left out: {name}: {why}")
    if not report.exists():
        sys.exit("valgrind: no report was written")
    ours, others = faults(report)
    print("\n".join(ours))
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items())) or "none"
    print(f"valgrind: {len(ours)} faults with a frame of swd; of others: {seen}; pytest's status {status}")
    print(f"valgrind: {time.monotonic() - began:.0f} s")
    return 1 if ours or status else 0


if __name__ == "__main__":
    sys.exit(main())
