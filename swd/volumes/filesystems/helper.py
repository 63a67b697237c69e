# SPDX-License-Identifier: Apache-2.0
"""The child process that runs a reader library, seen from here: started when it is needed, answered when it asks for
bytes of the disk, killed when it is late, and replaced when it has died. Knows no format.

A hostile image may own the child. It gets a socket to us and nothing else: no other descriptor, no environment, no
rights (a root drops them), little memory, little CPU; what it says is checked here, and its death is EIO for one call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Final

from swd.errors import BadDescriptor, FileSystemError, SwdError, Unsupported
from swd.volumes.filesystems import channel
from swd.volumes.filesystems.cache import BlockCache
from swd.volumes.filesystems.channel import Broken, Channel

DEADLINE: Final = 30.0  # seconds that a call may take beside the disk's own time
REQUESTS: Final = 100_000  # block requests of one call
RECYCLE: Final = 30.0  # seconds of calls after which a new child takes over: well below the child's limit of CPU time
MEMORY: Final = 1 << 30  # bytes of address space
CPU: Final = 90  # seconds

_START: Final = (
    "import sys; sys.path[:] = sys.argv[5:]; from swd.volumes.filesystems.child import main; main(sys.argv[1:5])"
)


class Helper:
    """`call(operation, ...)` runs in the child. Many threads may use one; they take turns."""

    def __init__(self, kind: str, cache: BlockCache, *, deadline: float = DEADLINE) -> None:
        self.kind = kind
        self.cache = cache
        self.deadline = deadline
        self.started = 0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._busy = 0.0
        self._owner = os.getpid()
        self._closed = False
        self._idle = True  # the child waits for a call

    def call(self, operation: str, **arguments: object) -> Any:
        """The child's answer: JSON, or bytes. Raises FileSystemError (EIO; or what the child says), Unsupported, and
        what reading the disk raises.
        """
        if os.getpid() != self._owner:
            raise BadDescriptor("the file system was opened before a fork: open it again")
        with self._lock:
            if self._closed:
                raise BadDescriptor("the file system is closed: open it again")
            if self._busy > RECYCLE:
                self._end()
            try:
                return self._ask(self._running(), {"op": operation, **arguments})
            except (Broken, TimeoutError) as error:
                raise FileSystemError(self._obituary(error, operation)) from error
            except BaseException:
                self._end_unless_idle()
                raise

    def close(self) -> None:
        """Ends the child. Twice is nothing; in a child after fork, only our copy of the socket is closed."""
        if os.getpid() != self._owner:
            if self._channel is not None:
                self._channel.sock.close()
            return
        with self._lock:
            self._closed = True
            self._end()

    @property
    def pid(self) -> int | None:
        """Of the child that runs now."""
        return None if self._child is None else self._child.pid

    def _ask(self, to: Channel, message: dict[str, object]) -> Any:
        """Send the call, then serve the child's requests for blocks until it answers."""
        self._idle = False
        began, served, failure = time.monotonic(), 0.0, None
        to.sock.settimeout(self.deadline)
        to.say(channel.CALL, message)
        for _ in range(REQUESTS):
            left = began + served + self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            to.sock.settimeout(left)
            kind, payload = to.receive()
            if kind == channel.WANT:
                start = time.monotonic()
                failure = self._serve(to, payload) or failure
                served += time.monotonic() - start
                continue
            self._idle = True
            self._busy += time.monotonic() - began - served
            return self._answer(kind, payload, failure)
        raise Broken("it asks for blocks without end")

    def _serve(self, to: Channel, payload: bytes) -> SwdError | None:
        """Send one range of the disk; or that there is none, and return why."""
        if len(payload) != channel.RANGE.size:
            raise Broken("a block request of a wrong length")
        offset, length = channel.RANGE.unpack(payload)
        if length > channel.LARGEST:
            raise Broken(f"a block request of {length} bytes")
        try:
            data = self.cache.read(offset, length)
        except SwdError as error:
            to.send(channel.FAILED, b"")
            return error
        to.send(channel.BLOCK, data)
        return None

    def _answer(self, kind: bytes, payload: bytes, failure: SwdError | None) -> Any:
        if kind == channel.DATA:
            return payload
        if kind == channel.REPLY:
            return channel.words(payload)
        if kind != channel.ERROR:
            raise Broken(f"a frame of kind {kind!r}")
        if failure is not None:
            raise failure  # the reader's words would only say that it could not read
        said = channel.words(payload)
        unsupported, text = said.get("unsupported"), str(said.get("text"))[:300]
        raise (Unsupported if unsupported is True else FileSystemError)(_printable(text))

    def _running(self) -> Channel:
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._channel is None:
            self._start()
        assert self._channel is not None
        return self._channel

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            arguments = [str(theirs.fileno()), self.kind, str(MEMORY), str(CPU)]
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, *arguments, *_path()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                cwd="/",
                start_new_session=True,  # Ctrl-C is ours to judge
            )
        self._channel, self._busy = Channel(ours), 0.0
        self.started += 1
        self._ask(self._channel, {"op": "open", "size": self.cache.size})

    def _obituary(self, error: Exception, operation: str) -> str:
        """What to say of a child that did not answer; ends it."""
        child, late = self._child, isinstance(error, TimeoutError)
        status = self._end()
        if late:
            why = f"it did not answer for {self.deadline:g} s and was ended"
        elif status is not None and status < 0 and status != -signal.SIGKILL:
            why = (
                f"it died of {signal.Signals(-status).name}"
                if -status in signal.valid_signals()
                else f"it died ({status})"
            )
        else:
            why = f"it broke off: {error}"
        assert child is not None
        return (
            f"the reader of {self.kind} failed at {operation}: {why}.\n"
            "The file system is damaged, or made to do harm; other files of it may be readable."
        )

    def _end_unless_idle(self) -> None:
        """After Ctrl-C or the like in the middle of a call: the child would answer the wrong question next."""
        if not self._idle:
            self._end()

    def _end(self) -> int | None:
        """Ends the child; returns how it ended if it had by itself."""
        child, self._child = self._child, None
        if self._channel is not None:
            self._channel.sock.close()
            self._channel = None
        if child is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)  # a crash is on its way; an idle child ends by itself, since its socket is closed
        child.kill()
        return child.wait()


def _path() -> list[str]:
    """Where modules are found, for a child whose working directory is another."""
    return [os.path.abspath(place) for place in sys.path]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
