# SPDX-License-Identifier: Apache-2.0
"""Hold the stubs (`swd/*.pyi`) to the installed compiled modules, by mypy's stubtest. Run with the Python of `.venv`.

Whole modules are compared, so a parameter that was renamed, a default that changed or a function that lacks in either
is an error.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What Cython adds to modules and classes, and no reader of a stub needs.
CYTHON_NAMES = r"""
swd\._\w+\.__test__
swd\._\w+\.__pyx_\w+
swd\._\w+(\.\w+)*\.__(reduce|setstate)_cython__
swd\._\w+(\.\w+)*\.__(reduce|setstate|getstate)__
swd\._\w+(\.\w+)*\.__pyx_vtable__
"""


def compiled_modules() -> list[str]:
    """The modules that have a stub beside the source of an extension module."""
    return [f"swd.{path.stem}" for path in sorted((ROOT / "swd").glob("_*.pyi"))]


def main() -> None:
    modules = compiled_modules()
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if lacking:
        sys.exit(f"stubs: {', '.join(lacking)}: a stub, but no compiled module in this Python")
    with tempfile.TemporaryDirectory() as folder:
        allowed = Path(folder, "allowed")
        allowed.write_text(CYTHON_NAMES)
        # Elsewhere than in ROOT: there `swd` would be the sources, which hold no compiled module.
        command = [
            sys.executable,
            "-m",
            "mypy.stubtest",
            "--concise",
            "--ignore-unused-allowlist",
            "--allowlist",
            str(allowed),
        ]
        done = subprocess.run([*command, *modules], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}stubs: the stub or the module is wrong")


if __name__ == "__main__":
    main()
