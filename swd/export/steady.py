# SPDX-License-Identifier: Apache-2.0
"""What a process needs that memory pressure may depend on: pages that stay, allocations that do not wait for itself,
and nobody who ends it. The one door to what only Linux has of that.

A process behind a kernel file system is asked to write when memory is short. If it then had to wait for a page to be
freed, and that for a write through itself, both would wait for ever. Hence: memory is locked and a stock of it kept in
the heap, the kernel is told that this process does I/O for others (PR_SET_IO_FLUSHER), and the OOM killer that it is to
be spared.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from pathlib import Path
from typing import Final

from swd.errors import SwdError

STACK: Final = 1 << 20  # bytes of a thread's stack: all of it is locked

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_IO_FLUSHER = 57  # Linux 5.6; threads that are started later have it, too
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_KEEP = 64 << 20  # bytes of free heap that are kept rather than given back


def environment() -> dict[str, str]:
    """For the process's start: what cannot be set any more once it runs."""
    return {"FUSE_THREAD_STACK": str(STACK)}


def unstoppable() -> None:
    """Block the signals that ask a process to end, in this thread and in all that it starts. SIGKILL remains."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def spared() -> list[str]:
    """Ask the OOM killer to spare this process, and the kernel not to wait for our own I/O when we need memory.

    Gives what was refused, in words: both need CAP_SYS_RESOURCE, which a container's root may lack.
    """
    refused = []
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    except OSError as error:
        refused.append(f"the OOM killer may end this process (oom_score_adj: {error.strerror})")
    try:
        _call("prctl", _PR_SET_IO_FLUSHER, 1, 0, 0, 0)
    except OSError as error:
        refused.append(f"allocations may wait for this mount's own writes (PR_SET_IO_FLUSHER: {error.strerror})")
    return refused


def locked(stock: int) -> None:
    """Lock all memory, now and later, and keep `stock` bytes of heap at hand. SwdError if the kernel refuses.

    For a process that has done its imports and started few threads: what is allocated from here on comes out of the
    stock, unless more is in use at once.
    """
    threading.stack_size(STACK)
    libc = ctypes.CDLL(None)
    for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _KEEP // 2), (_M_TRIM_THRESHOLD, _KEEP)):
        libc.mallopt(option, value)
    try:
        _call("mlockall", _MCL_CURRENT | _MCL_FUTURE)
    except OSError as error:
        raise SwdError(
            f"memory could not be locked ({error.strerror}): give the process CAP_IPC_LOCK or a larger RLIMIT_MEMLOCK",
            errno=error.errno,
        ) from error
    del [bytearray(1 << 20) for _ in range(stock >> 20)][:]  # touched once, then free, and the heap keeps it


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
