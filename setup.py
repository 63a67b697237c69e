# SPDX-License-Identifier: Apache-2.0
"""The extension modules, and nothing else: everything that is plain data stands in pyproject.toml.

No flag names a CPU: one binary serves every machine of an architecture, and the CRC kernels choose at run time.
`SWD_COVERAGE=1` builds with line tracing, for `make cover`; with CYTHON_CACHE_DIR set, what Cython made of the same
sources before is used again.
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

COVERAGE = os.environ.get("SWD_COVERAGE") == "1"

SOURCES = {
    "swd._crc32c": ["swd/_crc32c.pyx", *(f"swd/_crc32c_{part}.c" for part in ("kernels", "sse42", "avx512", "armv8"))],
    "swd._engine": ["swd/_engine.pyx"],
    "swd._fastpath": ["swd/_fastpath.pyx"],
    "swd._asyncqueue": ["swd/_asyncqueue.pyx"],
    "swd._targetpath": ["swd/_targetpath.pyx"],
    "swd._rangelock": ["swd/_rangelock.pyx"],
    "swd._straight": ["swd/_straight.pyx"],
    "swd._asyncdisk": ["swd/_asyncdisk.pyx"],
}
FLAGS = [
    "-O1" if COVERAGE else "-O3",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    # What Cython generates for every module, and no reader of ours can mend.
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]
DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "linetrace": COVERAGE,
}
MACROS: list[tuple[str, str | None]] = [("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else []


def extension(name: str, sources: list[str]) -> Extension:
    """One extension module; a change of any header or declaration file builds it again."""
    return Extension(
        name,
        sources,
        include_dirs=["swd"],
        extra_compile_args=FLAGS,
        define_macros=MACROS,
        depends=sorted(str(path) for pattern in ("*.pxd", "*.pxi", "*.h") for path in Path("swd").glob(pattern)),
    )


modules = [extension(name, sources) for name, sources in SOURCES.items() if Path(sources[0]).exists()]
setup(
    ext_modules=cythonize(modules, compiler_directives=DIRECTIVES, cache="CYTHON_CACHE_DIR" in os.environ),
    data_files=[("share/man/man1", ["man/swdctl.1"])],
)
