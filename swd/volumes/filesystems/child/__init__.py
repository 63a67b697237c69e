# SPDX-License-Identifier: Apache-2.0
"""What runs in the child process: a reader library over a socket. Started by `swd.volumes.filesystems.helper` only.

`main` gives up all rights, then answers calls. A module for each library turns its objects into the few questions of
`base.Reader`; names come from the directories' own bytes where the library would only give Unicode.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """`arguments`: descriptor of the socket, kind of file system, bytes of memory, seconds of CPU."""
    from swd.volumes.filesystems.child.serve import serve

    serve(int(arguments[0]), arguments[1], int(arguments[2]), int(arguments[3]))
