# SPDX-License-Identifier: Apache-2.0
"""Give storage back to the host: the one door to Linux's hole punching, for files and for anonymous memory.

Both functions promise zeros afterwards or say False, and then the caller writes zeros. Other systems always get False.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """The C library's fallocate with 64-bit offsets; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        function.restype = ctypes.c_int
    return function


def punch_file(fd: int, offset: int, length: int) -> bool:
    """Deallocate bytes of a file; they read as zeros. False: the file system cannot (nothing was changed)."""
    function = _fallocate()
    return function is not None and function(fd, _KEEP_SIZE_AND_PUNCH, offset, length) == 0


def punch_memory(memory: mmap.mmap, offset: int, length: int) -> bool:
    """Give pages of a private anonymous mapping back; they read as zeros. `offset`, `length`: page multiples."""
    if not sys.platform.startswith("linux"):
        return False  # elsewhere MADV_DONTNEED is a hint and the old bytes may stay
    memory.madvise(mmap.MADV_DONTNEED, offset, length)
    return True
