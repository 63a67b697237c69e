# SPDX-License-Identifier: Apache-2.0
"""What an initiator may cost the embedded target: a mebibyte of garbage for a key, a request that is never whole; and a
target whose process has no descriptor, no thread, no memory or no disk left."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits_rig import MIB
from support.process import Watched, environment
from support.served import Served, serving
from target_server.raw_initiator import RawInitiator

import swd
from swd.errors import NoSuchDevice, SwdError
from swd.proto import keys, pdu
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.connection import Connection
from swd.values import RESERVED_TAG

KEYS = (*keys.BY_NAME, "X-org.example.x")  # each that there is, and one that there is not
GARBAGE = b"\xa7g" * (MIB // 2)
SEGMENT = 8192


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://1M") as target:
        yield target


def resident(served: Served) -> int:
    """Bytes of the target's process."""
    status = Path(f"/proc/{served.process.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.parametrize("key", KEYS)
def test_garbage_for_one_key_in_login(served: Served, key: str) -> None:
    """Refused as an initiator's error when it is longer than a login may be; other sessions go on."""
    data, before = key.encode() + b"=" + GARBAGE, resident(served)
    with swd.open(served.url()) as disk, RawInitiator(served.portal) as raw:
        response = None
        for at in range(0, len(data), SEGMENT):
            raw.send(pdu.LoginRequest(isid=raw.isid, continued=True, cmd_sn=1, itt=1), data[at : at + SEGMENT])
            response = raw.receive().header
            assert isinstance(response, pdu.LoginResponse)
            if response.status_class:
                break
        assert (response.status_class, response.status_detail) == (2, 0)
        assert at < 2 * 65536
        assert raw.closed()
        assert disk.pread(512, 0) == bytes(512)
    assert resident(served) - before < 4 * MIB


@pytest.mark.parametrize("key", KEYS)
def test_garbage_for_one_key_in_a_text_request(served: Served, key: str) -> None:
    """Rejected, and the session goes on."""
    data, before = key.encode() + b"=" + GARBAGE, resident(served)
    with RawInitiator(served.portal) as raw:
        assert raw.login(None).status_class == 0
        tag, ttt = raw.tag(), RESERVED_TAG
        for at in range(0, len(data), SEGMENT):
            request = pdu.TextRequest(final=False, continued=True, itt=tag, ttt=ttt, cmd_sn=raw.cmd_sn)
            raw.cmd_sn += 1
            raw.send(request, data[at : at + SEGMENT])
            answer = raw.receive().header
            if isinstance(answer, pdu.Reject):
                break
            assert isinstance(answer, pdu.TextResponse)
            ttt = answer.ttt
        assert isinstance(answer, pdu.Reject)
        assert at < 2 * 65536
        raw.send(pdu.NopOut(immediate=True, itt=raw.tag(), cmd_sn=raw.cmd_sn), b"alive")
        assert raw.receive().data == b"alive"
    assert resident(served) - before < 4 * MIB


def test_a_header_and_then_nothing_costs_no_segment(served: Served) -> None:
    """64 connections that promise the longest data segment and send a part of it: a buffer each, and no more."""
    before = resident(served)
    raws = [RawInitiator(served.portal, isid=b"\x80\0\0\0\1" + bytes([number])) for number in range(64)]
    try:
        for raw in raws:
            assert raw.login(served.name).status_class == 0
            promise = bytearray(pdu.NopOut(immediate=True, itt=1, cmd_sn=1).pack())
            promise[5:8] = MIB.to_bytes(3, "big")
            raw.sock.sendall(bytes(promise) + bytes(1000))
        with swd.open(served.url()) as disk:
            assert disk.pread(512, 0) == bytes(512)
        assert resident(served) - before < len(raws) * 2 * MIB  # a segment and a ring of 256 KiB each are 80 MiB
    finally:
        for raw in raws:
            raw.sock.close()


def refusing(lack: Exception, start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """`Thread.start` where there is no room for one that serves a connection."""

    def begin(thread: threading.Thread) -> None:
        if thread.name == "swd-target-connection":
            raise lack
        start(thread)

    return begin


def worked(process: subprocess.Popen[str]) -> float:
    """Seconds of CPU of a process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_descriptor_is_left_to_accept_with() -> None:
    """Sessions go on, nothing spins, it is said once, and who waits is served when there is a descriptor again."""
    target = Watched(sys.executable, "-m", "swd", "target", "serve", "--lun", "mem://1M", "--portal", "127.0.0.1:0")
    try:
        url = target.wait_for(r"iscsi://").split("iscsi://")[1].split()[0]
        portal, name, _ = url.split("/")
        with swd.open(f"iscsi://{url}") as disk, ThreadPoolExecutor(1) as pool:
            pid = target.process.pid
            used, before = len(os.listdir(f"/proc/{pid}/fd")), resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
            began = worked(target.process)
            with pytest.raises(NoSuchDevice) as caught:
                swd.connect(portal, name, login_timeout=0.7)
            assert caught.value.errno == errno.ENXIO
            assert worked(target.process) - began < 0.3
            waiting = pool.submit(swd.connect, portal, name, login_timeout=10)
            assert disk.pread(512, 0) == bytes(512)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            with waiting.result(10) as session:
                assert session.luns() == [0]
    finally:
        target.process.terminate()
        target.finish()
    said = [line for line in target.lines if "Too many open files" in line]
    assert len(said) == 1, target.lines
    assert "SWD_LOG_TARGET_SHORT" in said[0]
    assert not any("Traceback" in line for line in target.lines)


def test_without_memory_nobody_new_is_taken_and_the_others_go_on() -> None:
    """A thread that dies of it before it says that it lives would have been waited for, for ever."""
    ends = set()
    with serving("--lun", "mem://64M") as target, swd.open(target.url(), "r+b") as disk:
        pid = target.process.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        # Below nothing there is none for anything, but for the stack of a thread that has ended.
        for spare in (-16 * MIB, 0, 256 << 10, 1 * MIB, 4 * MIB, 9 * MIB, 17 * MIB, 64 * MIB):
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(pid, resource.RLIMIT_AS, (used + spare, before[1]))
            for _ in range(3):
                try:
                    swd.open(target.url(), login_timeout=5).close()
                except SwdError as error:
                    ends.add(error.errno)
                else:
                    ends.add(0)
            disk.pwrite(bytes([spare >> 18 & 255]) * 512, 0)
            assert disk.pread(512, 0) == bytes([spare >> 18 & 255]) * 512
            resource.prlimit(pid, resource.RLIMIT_AS, before)
            with swd.open(target.url(), login_timeout=5) as other:
                assert other.pread(512, 0) == bytes([spare >> 18 & 255]) * 512
        lines = list(target.process.lines)
    assert ends == {0, errno.ENXIO}
    assert len(lines) == 1, lines


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_connection_that_there_is_no_room_for(lack: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed; the others go on, and the next is taken."""
    name = "iqn.2026-01.org.example:limits"
    with TargetServer([TargetConfig(name, {0: Lun(RamMedium(MIB))})]) as server:
        url = f"iscsi://{server.portal}/{name}/0"
        with swd.open(url) as disk:
            with monkeypatch.context() as patch:
                if isinstance(lack, MemoryError):
                    patch.setattr(Connection, "__init__", lambda *_: (_ for _ in ()).throw(lack))
                else:
                    patch.setattr(threading.Thread, "start", refusing(lack, threading.Thread.start))
                with pytest.raises(SwdError) as caught:
                    swd.connect(str(server.portal), name, login_timeout=1)
                assert caught.value.errno == errno.ENXIO
            assert disk.pread(512, 0) == bytes(512)
            with swd.connect(str(server.portal), name) as session:
                assert session.luns() == [0]
        assert server.statistics["login_failures"] == 0
    assert server.statistics["sessions_open"] == 0


FULL_DISK = """
import errno, os, sys
import swd
from swd.target import Lun, TargetConfig, TargetServer
from swd.target.media import FileMedium

NAME = "iqn.2026-01.org.example:full"
medium = FileMedium(sys.argv[1] + "/image", size=1 << 20, create=True)
with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server:
    with swd.open(f"iscsi://{server.portal}/{NAME}/0", "r+b") as disk:
        disk.pwrite(b"k" * 4096, 0)
        try:
            disk.pwrite(os.urandom(512 << 10), 65536)
        except swd.SwdError as error:
            print(errno.errorcode[error.errno], "space allocation" in str(error).lower())
        print(disk.pread(4096, 0) == b"k" * 4096, len(disk.pread(1 << 20, 0)))
        disk.discard(offset=65536, length=512 << 10)
        disk.pwrite(b"n" * 4096, 65536)
        disk.flush()
        print(disk.pread(4096, 65536) == b"n" * 4096)
medium.close()
"""


@pytest.mark.netns  # who may make namespaces may mount
def test_a_sparse_file_on_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """ENOSPC, as from a thin pool; what was there stays, and there is room again when blocks are given back."""
    mounted = 'mount -t tmpfs -o size=64k small "$1" && shift && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=30)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == ["ENOSPC True", "True 1048576", "True"]
