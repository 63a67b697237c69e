# SPDX-License-Identifier: Apache-2.0
"""What takes a process of its own: Ctrl-C, fork, exit. The test plays the target for it, over a socket pair."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pump_peer import AGREED, Peer, content

from swd.proto import pdu

HERE = Path(__file__).parent
PREAMBLE = """
import errno, gc, os, signal, socket, sys, threading, time, warnings
warnings.simplefilter("ignore")  # fork with threads about: that is what is tested
sys.path.insert(0, sys.argv[2])
from pump_peer import AGREED, BLOCK, CANARY, READ_ONE, TEST_UNIT_READY
from swd._engine import Engine
from swd._fastpath import Pump
pump = Pump(Engine(AGREED), int(sys.argv[1]))
def say(*words): print(*words, flush=True)
"""


@contextlib.contextmanager
def program(source: str) -> Iterator[tuple[subprocess.Popen[str], Peer]]:
    """Runs the source with a pump of its own, whose peer is given; nothing may be left on its standard error."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + source, str(ours.fileno()), str(HERE)],
        pass_fds=[ours.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ours.close()
    peer = Peer(theirs, AGREED)
    try:
        yield process, peer
        assert process.wait(20) == 0, process.stderr and process.stderr.read()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
        peer.file.close()
        theirs.close()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that the program says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def tell(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words + "\n")
    process.stdin.flush()


def silent(peer: Peer) -> bool:
    """Whether there is nothing to read: no byte, and no end of the stream."""
    peer.sock.setblocking(False)
    try:
        peer.sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        peer.sock.settimeout(20)
    return False


INTERRUPTED = """
buffer = bytearray(1 << 20)
say("reads")
try:
    pump.blocks(False, 0, 0, 2048, buffer)
except KeyboardInterrupt:
    buffer[:] = CANARY * (1 << 20)
    say("interrupted")
sys.stdin.readline()
say(pump.command(0, TEST_UNIT_READY), buffer == CANARY * (1 << 20))
buffer += b"it can be resized"
small = bytearray(BLOCK)
say(pump.command(0, READ_ONE, None, small), small.hex() == sys.stdin.readline().strip())
pump.close()
"""


def test_ctrl_c_in_the_middle_of_a_long_segment() -> None:
    with program(INTERRUPTED) as (process, peer):
        assert line(process) == "reads"
        stream = peer.packed(pdu.DataIn(itt=peer.command().itt, status_present=True), content(0, 2048))
        peer.sock.sendall(stream[: 1 << 19])  # more than the socket holds: most of it is in the buffer already
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert line(process) == "interrupted"
        assert time.monotonic() - began < 1
        tell(process, "go on")
        peer.sock.sendall(stream[1 << 19 :])
        peer.good(peer.command())
        assert line(process) == "None True"
        peer.answer(peer.command())
        tell(process, content(7, 1).hex())
        assert line(process) == "None True"


def test_ctrl_c_while_the_target_is_silent() -> None:
    source = """
say("waits")
try:
    pump.command(0, TEST_UNIT_READY, timeout=600)
except KeyboardInterrupt:
    say("interrupted")
"""
    with program(source) as (process, peer):
        assert line(process) == "waits"
        peer.command()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert line(process) == "interrupted"
        assert time.monotonic() - began < 1


FORKED = """
import array
submitted = bytearray(BLOCK)
command = pump.submit(0, READ_ONE, None, submitted)
other = bytearray(BLOCK)
thread = threading.Thread(target=lambda: say("thread", pump.command(0, READ_ONE, None, other)))
thread.start()
sys.stdin.readline()
child = os.fork()
if child == 0:
    calls = {
        "command": lambda: pump.command(0, TEST_UNIT_READY),
        "blocks": lambda: pump.blocks(False, 0, 0, 1, bytearray(BLOCK)),
        "batch": lambda: pump.batch(False, 0, array.array("q", [1]), 1, bytearray(BLOCK)),
        "submit": lambda: pump.submit(0, TEST_UNIT_READY),
        "control": lambda: pump.control(bytes(48), answer=0x20),
        "service": pump.service,
        "wait": command.wait,
    }
    for name, call in calls.items():
        try:
            call()
            say(name, 0)
        except OSError as error:
            say(name, error.errno)
    say("alive", pump.alive)
    pump.cmd_sn_of(command.itt), pump.forget(command.itt), pump.fail(OSError("no")), command.cancel()
    if EXPLICIT:
        pump.close()
    del pump, command
    gc.collect()
    sys.exit(0)
say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.stdin.readline()
thread.join()
say("submitted", command.wait(), submitted == other)
pump.close()
"""


def forked(explicit: bool) -> None:
    with program(f"EXPLICIT = {explicit}\n" + FORKED) as (process, peer):
        commands = [peer.command(), peer.command()]
        tell(process, "fork now")
        said = [line(process) for _ in range(9)]
        names = ["command", "blocks", "batch", "submit", "control", "service", "wait"]
        assert said[:7] == [f"{name} {errno.EBADF}" for name in names]
        assert said[7:] == ["alive False", "child 0"]
        assert silent(peer), "the child sent something, or shut the connection down"
        for command in commands:
            peer.answer(command)
        tell(process, "go on")
        assert line(process) == "thread None"
        assert line(process) == "submitted None True"
        assert peer.receive() is None


def test_fork_with_commands_under_way_and_a_child_that_closes() -> None:
    forked(explicit=True)


def test_fork_with_commands_under_way_and_a_child_that_just_ends() -> None:
    forked(explicit=False)


def test_exit_with_commands_under_way_takes_no_time() -> None:
    source = """
buffer = bytearray(BLOCK)
threading.Thread(target=lambda: pump.command(0, READ_ONE, None, bytearray(BLOCK)), daemon=True).start()
command = pump.submit(0, READ_ONE, None, buffer)
sys.stdin.readline()
say("exits")
"""
    with program(source) as (process, peer):
        peer.command(), peer.command()
        tell(process, "exit now")
        assert line(process) == "exits"
        began = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 2
        assert peer.receive() is None


def test_a_cycle_through_pump_and_command_is_collected_without_harm() -> None:
    source = """
class Holder: pass
for _ in range(3):
    holder = Holder()
    holder.buffer = bytearray(BLOCK)
    holder.me, holder.pump, holder.command = holder, pump, pump.submit(0, READ_ONE, None, holder.buffer)
    del holder
    gc.collect()
say(pump.command(0, TEST_UNIT_READY), pump.statistics()["open_tasks"])
del pump
gc.collect()
say("closed")
"""
    with program(source) as (process, peer):
        commands = [peer.command() for _ in range(4)]
        for command in commands[:3]:
            peer.answer(command)
        peer.good(commands[3])
        assert line(process) == "None 0"
        assert line(process) == "closed"
        assert peer.receive() is None, "a pump that nobody holds closes its descriptor"
