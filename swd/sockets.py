# SPDX-License-Identifier: Apache-2.0
"""What both ends of a connection set on their socket."""

from __future__ import annotations

import contextlib
import socket

NEAR_SNDBUF = 512 << 10  # bytes; Linux doubles it


def bound_send_queue(sock: socket.socket) -> None:
    """Where the peer is on this host, no more than `NEAR_SNDBUF` is queued for it.

    There is no wire to fill, and what is queued beyond a CPU's cache is written to memory and read from it again:
    docs/fastpath.md has what that costs. A peer with another address may be far; there the kernel tunes the queue.
    """
    with contextlib.suppress(OSError):  # the peer has gone already, or the system has another limit
        if sock.getsockname()[0] == sock.getpeername()[0]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SNDBUF)
