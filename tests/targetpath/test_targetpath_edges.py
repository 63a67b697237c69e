# SPDX-License-Identifier: Apache-2.0
"""A path without a server, at the edges of what has come: the first bytes lie in its ring before it runs, so that what
comes with one receive and what comes with the next is not left to chance."""

from __future__ import annotations

import concurrent.futures
import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from target_server.raw_initiator import write_10

from swd._targetpath import Flat, Gate, TargetPath
from swd.proto import pdu
from swd.values import Negotiated

RING = 1 << 19
STALE = 0xEE  # what lies in the ring behind what has come
BLOCK = bytes(range(256)) * 2
WRITE = pdu.ScsiCommand(
    itt=7, cdb=write_10(0, 1).ljust(16, b"\0"), cmd_sn=1, write=True, expected_data_transfer_length=len(BLOCK)
).pack()
PING = pdu.NopOut(itt=9, cmd_sn=2).pack()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: that of the path, and the initiator's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname(), timeout=5)
        near, _ = listener.accept()
    with near, far:
        yield near, far


class Place:
    """A path whose ring holds `came`, and a disk of eight blocks."""

    def __init__(self, near: socket.socket, agreed: Negotiated, came: bytes, fd: int = -1) -> None:
        self.memory = bytearray(4096)
        ring = bytearray([STALE]) * RING
        ring[: len(came)] = came
        self.fd = near.fileno() if fd < 0 else fd
        self.path = TargetPath(self.fd, ring, 0, len(came), agreed, 32, 65536, Gate(), (b"wrong", b"order"))
        self.path.position = (1, 0, 1, 32)
        self.path.admit(Gate().passed, [(0, Flat(self.memory, bytearray(1), 4096), 8, 512, 8, True, True)])


@pytest.mark.parametrize("words", [1, 255])
@pytest.mark.parametrize("open_write", [True, False])
def test_a_header_has_all_come_before_its_data_is_placed(
    pair: tuple[socket.socket, socket.socket], words: int, open_write: bool
) -> None:
    """Of a Data-Out with additional header segments 48 bytes have come, the rest comes later: what lies in the ring
    behind them is not its data."""
    near, far = pair
    header = bytearray(pdu.DataOut(itt=7, ttt=1 if open_write else 0xBEEF).pack())
    header[4], header[5:8] = words, len(BLOCK).to_bytes(3, "big")
    place = Place(near, Negotiated(), WRITE + bytes(header))
    far.sendall(bytes(4 * words) + BLOCK + PING)
    odd = place.path.run()
    assert odd is not None
    assert odd[0] == PING
    assert place.memory[: len(BLOCK)] == (BLOCK if open_write else bytes(len(BLOCK)))
    assert not any(place.memory[len(BLOCK) :])
    with far.makefile("rb") as stream:
        assert stream.read(48)[0] == 0x31  # the R2T
        assert not open_write or stream.read(48)[:4] == b"\x21\x80\0\0"


@pytest.mark.parametrize("behind", [len(PING), RING - len(PING)])
def test_what_came_behind_a_long_answer_is_taken_up_when_that_has_gone(
    pair: tuple[socket.socket, socket.socket], behind: int
) -> None:
    """An answer of Python's beyond the high water, which the socket takes at once: the path must not wait for more to
    come before it looks at what has come, nor take a full ring for the end."""
    near, far = pair
    came = (PING * (2 + behind // len(PING)))[: len(PING) + behind]
    place = Place(near, Negotiated(data_digest=True), came)
    assert place.path.run() is not None
    answer = bytes(5 << 18)  # above 1 MiB, and less than the send buffer of a loopback connection holds
    place.path.append(answer)
    with ThreadPoolExecutor(1) as pool, far.makefile("rb") as stream:
        odd = pool.submit(place.path.run)
        try:
            assert stream.read(len(answer)) == answer
            assert odd.result(5) == (PING, 96, 96)
        finally:
            near.shutdown(socket.SHUT_RDWR)  # wakes it up


def test_a_closed_descriptor_under_unsent_bytes_ends_the_path(pair: tuple[socket.socket, socket.socket]) -> None:
    """It does not look for ever at a descriptor of which poll says only that there is none."""
    near, _ = pair
    place = Place(near, Negotiated(), b"", fd=fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 500))  # which nobody else takes
    place.path.append(bytes(16 << 20))
    place.path.flush()
    assert place.path.unsent
    os.close(place.fd)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(place.path.run)
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                ended.result(5)
        finally:
            if not ended.done():
                with socket.socket() as unconnected:
                    os.dup2(unconnected.fileno(), place.fd)  # which ends it at last
                concurrent.futures.wait([ended])
                os.close(place.fd)


NO_MEMORY = """
import ctypes, errno, resource, socket, sys
from test_targetpath_edges import WRITE, Place
from swd.values import Negotiated

near, far = socket.socketpair()
place = Place(near, Negotiated(), WRITE)
place.path.append(bytes(65536 - 40))  # too little is left of the first chunk for a header
answer = bytes(1 << 17)
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
allocate = ctypes.CDLL(None).malloc
allocate.restype = ctypes.c_void_p
while allocate(1 << 16):  # nothing is left that a chunk would fit into, but enough to say so
    pass
try:
    if sys.argv[1] == "run":
        place.path.run()
    else:
        place.path.append(answer)
        place.path.drain()
except MemoryError:
    print("MemoryError")
except OSError as error:
    print(errno.errorcode[error.errno])
far.setblocking(False)
try:
    print(len(far.recv(64)))
except BlockingIOError:
    print(0)
"""


@pytest.mark.parametrize(("what", "said"), [("run", "MemoryError"), ("drain", "ENOMEM")])
def test_without_memory_for_an_answer_the_path_ends_and_sends_no_part(what: str, said: str) -> None:
    """It does not ask for the data of a write without end, and the peer gets no answers in which bytes are missing."""
    command = [sys.executable, "-c", NO_MEMORY, what]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert (done.stdout.split(), done.stderr) == ([said, "0"], "")
