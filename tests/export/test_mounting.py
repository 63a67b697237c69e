# SPDX-License-Identifier: Apache-2.0
"""The kernel's ext4 and XFS on disks of the embedded target: what is written is there, whatever dies meanwhile."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mount_rig import remains
from support.process import Watched, run
from support.schema import faults

from swd.driver import holders, phase
from swd.export import kernel, mountpoints
from swd.target import config
from swd.target.media import FileMedium
from swd.target.server import TargetServer

pytestmark = pytest.mark.fuse

Ctl = Callable[..., Any]
Lun = Callable[..., Any]
MIB = 1 << 20


def fill(folder: Path, files: int = 3, size: int = 2 * MIB + 777) -> dict[str, str]:
    """Files of random bytes, fsynced; their sums by name."""
    sums = {}
    for number in range(files):
        data = os.urandom(size)
        path = folder / f"f{number}"
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sums[path.name] = hashlib.sha256(data).hexdigest()
    return sums


def sums_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("f*")}


# The background job of a shell ignores SIGINT, and so does what it starts.
HEEDFUL = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from swd.cli.main import main; sys.exit(main())"
)


def has_sys_resource() -> bool:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")]
    return bool(int(line.split()[1], 16) >> 24 & 1)


def the_record() -> mountpoints.Record:
    (record,) = mountpoints.all_of_them()
    return record


def test_names_of_files_count_from_the_folder_of_who_mounts(
    lun: Lun, ctl: Ctl, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lun("ext4")
    monkeypatch.chdir(tmp_path)
    mounted = ctl("mount", "./image", directory.name)
    assert mounted.status == 0, mounted.err
    assert (directory / "lost+found").is_dir()
    assert ctl("umount", "./image").status == 0
    assert remains() == []


@pytest.mark.parametrize(("fstype", "block_size"), [("ext4", 512), ("xfs", 4096)])
def test_what_is_written_is_on_the_disk_and_comes_back(
    lun: Lun, ctl: Ctl, directory: Path, fstype: str, block_size: int
) -> None:
    disk = lun(fstype, block_size)
    mounted = json.loads(ctl("mount", disk.dev, str(directory), "-o", "rw", "--json").out)
    assert faults(mounted, "mount") == []
    assert (mounted["fstype"], mounted["read_only"], mounted["experimental"]) == (fstype, False, True)
    assert Path("/sys/block", Path(mounted["device"]).name, "loop/dio").read_text() == "1\n"
    assert run("blockdev", "--getss", mounted["device"]).strip() == str(block_size)
    sums = fill(directory)
    (directory / "gone").write_bytes(bytes(8 * MIB))
    kernel.sync_file_system(str(directory))
    before = disk.image.stat().st_blocks
    os.truncate(directory / "gone", 0)  # not unlinked: XFS would free the blocks when it sees fit
    kernel.sync_file_system(str(directory))  # ext4 lets go of the blocks when its journal has it
    run("fstrim", str(directory), timeout=60)
    assert ctl("umount", str(directory)).status == 0
    assert disk.image.stat().st_blocks < before - 8 * MIB // 512 + 2048  # a hole in the image
    disk.check()
    assert ctl("mount", disk.dev, str(directory)).status == 0
    assert sums_of(directory) == sums
    with pytest.raises(OSError) as caught:
        (directory / "f0").write_bytes(b"")
    assert caught.value.errno == errno.EROFS
    assert faults(json.loads(ctl("umount", disk.dev, "--json").out), "umount") == []  # by the DEV
    assert remains() == []
    assert holders.living() == []


class CountingMedium(FileMedium):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_an_fsync_reaches_the_medium_before_it_returns(lun: Lun, ctl: Ctl, directory: Path) -> None:
    medium = CountingMedium(str(lun().image))
    with TargetServer(
        [config.TargetConfig("iqn.2026-01.org.example:db", {0: config.Lun(medium)})], "127.0.0.1:0"
    ) as server:
        dev = f"iscsi://{server.portal}/iqn.2026-01.org.example:db/0"
        assert ctl("mount", dev, str(directory), "-o", "rw").status == 0
        for _ in range(3):
            before = medium.flushes
            fill(directory, 1, 4096)  # one fsync
            assert medium.flushes > before
        assert ctl("umount", str(directory)).status == 0
    medium.close()


def test_signals_do_not_end_it_and_a_busy_one_stays(lun: Lun, ctl: Ctl, directory: Path) -> None:
    disk = lun()
    assert ctl("mount", disk.dev, str(directory), "-o", "rw").status == 0
    pid = the_record().pid
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    status = Path(f"/proc/{pid}/status").read_text()
    assert "VmLck:\t       0 kB" not in status
    spared = "-1000\n" if has_sys_resource() else "0\n"  # some containers give root less than root
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == spared
    with (directory / "open").open("wb") as file:
        file.write(b"x")
        busy = ctl("umount", str(directory))
        assert (busy.status, "nothing was unmounted" in busy.err) == (errno.EBUSY, True)
        file.write(b"y")
    (holder,) = holders.living(disk.name)
    assert holder.pid == pid
    assert str(directory) in holder.what
    assert ctl("umount", str(directory)).status == 0
    assert not Path(f"/proc/{pid}").exists()


def test_logout_is_refused_while_it_is_mounted(lun: Lun, ctl: Ctl, directory: Path) -> None:
    disk = lun()
    assert ctl("login", disk.dev).status == 0
    assert ctl("mount", disk.dev, str(directory)).status == 0
    refused = ctl("logout", disk.name)
    assert refused.status == errno.EBUSY
    assert f"{the_record().pid} (mounts {disk.dev}" in refused.err
    assert ctl("umount", str(directory)).status == 0
    assert ctl("logout", disk.name).status == 0


def test_nothing_is_lost_when_the_target_is_killed_and_started_again(lun: Lun, ctl: Ctl, directory: Path) -> None:
    disk = lun()
    assert ctl("mount", disk.dev, str(directory), "-o", "rw", "-O", "default_time2wait=0").status == 0
    sums = fill(directory, 1)
    done: dict[str, str] = {}
    began = threading.Event()

    def write() -> None:
        began.set()
        done.update(fill(directory, 6))

    writer = threading.Thread(target=write)
    writer.start()
    began.wait()
    disk.kill()
    disk.restart()
    writer.join(60)
    assert not writer.is_alive()
    assert ctl("umount", str(directory)).status == 0
    disk.check()
    assert ctl("mount", disk.dev, str(directory)).status == 0
    assert sums_of(directory) == sums | done
    assert ctl("umount", str(directory)).status == 0


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_the_file_system_stops_when_the_daemon_is_killed_and_what_was_fsynced_is_there(
    lun: Lun, ctl: Ctl, directory: Path, fstype: str
) -> None:
    disk = lun(fstype)
    assert ctl("mount", disk.dev, str(directory), "-o", "rw").status == 0
    sums = fill(directory)
    os.kill(the_record().pid, signal.SIGKILL)
    with pytest.raises(OSError) as caught:
        fill(directory / ".", 1)
    assert caught.value.errno in {errno.EIO, errno.EROFS}
    ended = ctl("umount", str(directory))
    assert ended.status == errno.EIO
    assert "is unmounted, but the process behind it had been killed" in ended.err
    assert remains() == []
    look = {"ext4": "noload", "xfs": "norecovery"}[fstype]
    dirty = ctl("mount", disk.dev, str(directory))
    assert (dirty.status, f"-o ro,{look}" in dirty.err) == (errno.EBUSY, True)
    assert remains() == []
    assert ctl("mount", disk.dev, str(directory), "-o", f"ro,{look}").status == 0
    assert ctl("umount", str(directory)).status == 0
    assert ctl("mount", disk.dev, str(directory), "-o", "rw").status == 0  # replays the journal
    assert {name: sums_of(directory)[name] for name in sums if name != "f0"} == {
        name: value
        for name, value in sums.items()
        if name != "f0"  # f0 was being overwritten when it died
    }
    assert ctl("umount", str(directory)).status == 0
    disk.check()


def test_umount_says_when_not_all_is_safe(lun: Lun, ctl: Ctl, directory: Path) -> None:
    disk = lun()
    options = ("-O", "replacement_timeout=1", "-O", "timeout=2", "-O", "login_timeout=1")
    assert ctl("mount", disk.dev, str(directory), "-o", "rw", *options).status == 0
    (directory / "f0").write_bytes(b"never fsynced" * 1000)
    disk.kill()
    ended = ctl("umount", str(directory))
    assert ended.status == errno.EIO
    assert "is unmounted, but" in ended.err
    assert "not all that was written is on the disk" in ended.err
    assert remains() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_mount_that_is_ended_while_it_logs_in(ctl: Ctl, directory: Path, number: int, status: int) -> None:
    """It undoes what it did; and what it could not undo itself, `umount` does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dev = f"iscsi://127.0.0.1:{silent.getsockname()[1]}/iqn.2026-01.org.example:db/0"
        child = Watched(sys.executable, "-c", HEEDFUL, "mount", dev, str(directory))
        with silent.accept()[0]:  # the process behind the mount wants to log in
            pid = the_record().pid
            child.signal(number)
            assert child.finish() == status
            if number == signal.SIGKILL:
                assert remains() != []
                assert ctl("umount", str(directory)).status == 0
            assert remains() == []
            assert holders.living() == []
            assert not Path(f"/proc/{pid}/stat").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.parametrize("step", ["attach", "content", "mount"])
def test_a_failure_at_any_step_leaves_nothing(
    lun: Lun, ctl: Ctl, directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    disk = lun()

    def fail(*words: object, **more: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(kernel, step, fail)
    assert ctl("mount", disk.dev, str(directory)).status == errno.ENOMEM
    assert remains() == []
    assert holders.living() == []


def test_what_cannot_be_mounted_is_said_and_leaves_nothing(lun: Lun, ctl: Ctl, directory: Path) -> None:
    disk = lun("")
    cases = [
        ((disk.dev, str(directory)), errno.EINVAL, "there is nothing to mount"),
        ((disk.dev, str(directory), "-t", "ext4"), errno.EINVAL, "could not mount ext4"),
        ((disk.dev, str(directory), "-t", "nosuchfs"), errno.ENODEV, "this kernel has no such file system"),
        ((disk.dev.rpartition("/")[0] + "/9", str(directory)), errno.ENXIO, ""),
        ((disk.dev, str(directory / "no")), errno.ENOENT, "make it first"),
        ((disk.dev, str(disk.image)), errno.ENOTDIR, "is no folder"),
        ((disk.dev, "/var"), errno.EINVAL, "network initialisation uses it"),
        ((disk.dev, "/proc"), errno.EBUSY, "is a mount point already"),
    ]
    for words, number, text in cases:
        ended = ctl("mount", *words)
        assert (ended.status, text in ended.err) == (number, True), (words, ended)
        assert remains() == []
    assert ctl("umount", str(directory)).status == errno.EINVAL


def test_a_disk_has_one_writer_and_a_directory_one_disk(lun: Lun, ctl: Ctl, directory: Path, tmp_path: Path) -> None:
    disk = lun()
    other = tmp_path / "other"
    other.mkdir()
    assert ctl("mount", disk.dev, str(directory), "-o", "rw").status == 0
    second = ctl("mount", disk.dev, str(other))
    assert (second.status, "for writing" in second.err) == (errno.EBUSY, True)
    assert ctl("mount", disk.dev, str(directory)).status == errno.EBUSY
    assert len(mountpoints.all_of_them()) == 1
    assert ctl("umount", str(directory)).status == 0


def test_all_are_unmounted_but_the_one_that_is_in_use(lun: Lun, ctl: Ctl, directory: Path, tmp_path: Path) -> None:
    disk = lun()
    other = tmp_path / "other"
    other.mkdir()
    assert ctl("mount", disk.dev, str(directory)).status == 0
    assert ctl("mount", disk.dev, str(other)).status == 0
    held = os.open(directory, os.O_RDONLY)
    try:
        ended = ctl("umount", "--all", "--json")
        assert (ended.status, [one["directory"] for one in json.loads(ended.out)]) == (errno.EBUSY, [str(other)])
        assert str(directory) in ended.err
    finally:
        os.close(held)
    assert ctl("umount", "--all").out == f"{disk.dev} is off {directory}\n"
    assert (ctl("umount", "--all").status, mountpoints.all_of_them()) == (0, [])
    assert ctl("umount").status == ctl("umount", "--all", str(directory)).status == 2


def test_before_the_network_it_is_silent_and_umount_is_not_gated(ctl: Ctl, directory: Path) -> None:
    phase.begin()
    ended = ctl("mount", "iscsi://127.0.0.1:1/iqn.2026-01.org.example:db/0", str(directory))
    assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", "")
    assert ctl("umount", str(directory)).status == errno.EINVAL
