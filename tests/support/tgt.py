# SPDX-License-Identifier: Apache-2.0
"""Linux's user-space target tgtd: one process a fixture, on a free port, with a control socket of its own.

tgtd ignores SIGTERM and SIGINT. It ends by `tgtadm --mode system --op delete`, once no target is left; where that does
not help, its own process is killed. It logs a port that is taken and goes on without it, so the portal is asked for
after the start, and the start is tried again on another port.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.process import Watched, run
from swd.proto.portal import parse_portal
from swd.values import Chap, Portal

_ATTEMPTS = 5  # another process may take a port between our looking and tgtd's binding
_RETRIES = 50  # of a port that the connections of a killed process still hold
_READY = "bs_init"  # tgtd's last line before its event loop


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@dataclass
class Tgtd:
    """A running tgtd and its administration. LUN 0 of each target is tgtd's controller; disks begin at 1."""

    process: Watched
    portal: Portal
    socket: Path
    targets: dict[str, int] = field(default_factory=dict)  # name -> tid
    accounts: set[str] = field(default_factory=set)

    def admin(self, *words: str) -> str:
        """`tgtadm` with these words; what it printed."""
        return run("tgtadm", "--lld", "iscsi", *words, env={"TGT_IPC_SOCKET": str(self.socket)})

    def add_target(self, name: str, *, chap: Chap | None = None, admit: bool = True, **parameters: str) -> int:
        """A target that everybody may log in to who passes `chap`; parameters by their text keys. Returns its tid.

        `admit` False: nobody may until `admit` is called, so that no session meets a target that lacks its units yet.
        """
        tid = str(len(self.targets) + 1)
        self.admin("--mode", "target", "--op", "new", "--tid", tid, "--targetname", name)
        self.targets[name] = int(tid)
        for key, value in parameters.items():
            self.admin("--mode", "target", "--op", "update", "--tid", tid, "--name", key, "--value", value)
        if chap is not None:
            self._account(tid, chap.user, chap.secret)
            if chap.target_user is not None and chap.target_secret is not None:
                self._account(tid, chap.target_user, chap.target_secret, "--outgoing")
        if admit:
            self.admit(name)
        return int(tid)

    def admit(self, name: str) -> None:
        self.admin("--mode", "target", "--op", "bind", "--tid", str(self.targets[name]), "--initiator-address", "ALL")

    def _account(self, tid: str, user: str, secret: bytes, *outgoing: str) -> None:
        if user not in self.accounts:
            self.admin("--mode", "account", "--op", "new", "--user", user, "--password", secret.decode())
            self.accounts.add(user)
        self.admin("--mode", "account", "--op", "bind", "--tid", tid, "--user", user, *outgoing)

    def add_lun(self, name: str, lun: int, image: Path, block_size: int = 512, **identity: str) -> None:
        """A disk that stands on a file; the file may serve several targets. `identity`: scsi_id, scsi_sn."""
        where = ("--tid", str(self.targets[name]), "--lun", str(lun))
        medium = ("-b", str(image), "--blocksize", str(block_size))
        self.admin("--mode", "logicalunit", "--op", "new", *where, *medium)
        if identity:
            words = ",".join(f"{key}={value}" for key, value in identity.items())
            self.admin("--mode", "logicalunit", "--op", "update", *where, "--params", words)

    def sessions(self, name: str) -> dict[str, str]:
        """Of the live sessions of a target: session id -> initiator name."""
        described = self.described(name)
        return dict(re.findall(r"I_T nexus: (\d+)\n\s+Initiator: (\S+)", described))

    def kill(self) -> None:
        """SIGKILL: as a crash, with no word to anybody."""
        with contextlib.suppress(ProcessLookupError):
            self.process.signal(signal.SIGKILL)
        self.process.finish()

    def parameters(self, name: str) -> dict[str, str]:
        """What a target negotiates with, by text key."""
        said = self.admin("--mode", "target", "--op", "show", "--tid", str(self.targets[name]))
        return dict(re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE))

    def initiators(self, name: str) -> list[str]:
        """The initiator names of a target's live connections."""
        said = self.admin("--mode", "conn", "--op", "show", "--tid", str(self.targets[name]))
        return re.findall(r"Initiator: (\S+)", said)

    def described(self, name: str) -> str:
        """A target's paragraph in the list of all: nexuses, units, accounts."""
        said = self.admin("--mode", "target", "--op", "show")
        return next(part for part in re.split(r"^(?=Target )", said, flags=re.MULTILINE) if f": {name}\n" in part)

    def traffic(self, name: str, lun: int) -> tuple[int, int]:
        """Bytes read and written on a unit by the sessions that are alive."""
        said = self.admin("--mode", "target", "--op", "stat", "--tid", str(self.targets[name]))
        rows = [line.split() for line in said.splitlines()[1:]]
        mine = [row for row in rows if row[1] == str(lun)]
        return sum(int(row[5]) for row in mine), sum(int(row[9]) for row in mine)

    def stop(self, timeout: float = 5.0) -> None:
        """Ends it, gently if it listens, and takes its control socket away. Nothing is left of it."""
        try:
            self._ask_to_end(timeout)
        except (AssertionError, subprocess.TimeoutExpired):
            self.process.signal(signal.SIGKILL)  # it has ended by itself, or does not answer
        self.process.finish(timeout)
        for path in self.socket.parent.glob(f"{self.socket.name}.[0-9]*"):
            path.unlink()

    def _ask_to_end(self, timeout: float) -> None:
        env = {"TGT_IPC_SOCKET": str(self.socket)}
        for tid in self.targets.values():
            words = ("--mode", "target", "--op", "delete", "--force", "--tid", str(tid))
            run("tgtadm", "--lld", "iscsi", *words, timeout=timeout, env=env)
        run("tgtadm", "--mode", "system", "--op", "delete", timeout=timeout, env=env)


@contextlib.contextmanager
def serving(folder: Path, *, portal: str | None = None, enter: tuple[str, ...] = ()) -> Iterator[Tgtd]:
    """tgtd on a free port of the loopback, its control socket in `folder`; stopped at the end. `portal`: there instead,
    in the network namespace that the words `enter` lead to.
    """
    tgtd = _start(folder) if portal is None else _try(folder, parse_portal(portal), enter)
    assert tgtd is not None, f"tgtd does not listen on {portal}"
    try:
        yield tgtd
    finally:
        tgtd.stop()


def _start(folder: Path) -> Tgtd:
    for _ in range(_ATTEMPTS):
        tgtd = _try(folder, Portal("127.0.0.1", free_port()))
        if tgtd is not None:
            return tgtd
    raise AssertionError(f"tgtd got none of {_ATTEMPTS} free ports")


def start_at(folder: Path, portal: Portal) -> Tgtd:
    """tgtd at the portal of one that was killed, whose port may be taken for a moment. The caller ends it."""
    for path in folder.glob("tgt.[0-9]*"):
        path.unlink()  # the control socket of the one that was killed
    for _ in range(_RETRIES):
        tgtd = _try(folder, portal)
        if tgtd is not None:
            return tgtd
    raise AssertionError(f"tgtd did not get its port {portal.port} back")


def _try(folder: Path, portal: Portal, enter: tuple[str, ...] = ()) -> Tgtd | None:
    """None if another process has the port."""
    control = folder / "tgt"
    words = (*enter, "tgtd", "-f", "--iscsi", f"portal={portal}")
    tgtd = Tgtd(Watched(*words, env={"TGT_IPC_SOCKET": str(control)}), portal, control)
    try:
        tgtd.process.wait_for(_READY)
        if f"Portal: {portal}," in tgtd.admin("--mode", "portal", "--op", "show"):
            return tgtd
    except BaseException:
        tgtd.stop()
        raise
    tgtd.stop()
    return None
