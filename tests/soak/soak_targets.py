# SPDX-License-Identifier: Apache-2.0
"""The targets of the chaos run: each serves one file, or its bytes in memory, and can be stopped, and with a file
killed and started again in its place.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import Protocol

from support.process import Watched
from support.tgt import free_port, start_at

import swd
from swd.values import Portal

HERE = Path(__file__).parent
TGT_NAME = "iqn.2026-01.org.swd:soak"
TGT_KEYS = {"DefaultTime2Wait": "0", "DefaultTime2Retain": "0", "HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
LIO_KEYS = {"FirstBurstLength": "16384", "MaxBurstLength": "65536", "MaxOutstandingR2T": "2"}
BLOCK_SIZE = 4096


class SoakTarget(Protocol):
    port: int
    process: Watched

    def url(self, port: int) -> str:
        """Of the unit, as it is reached by this port of the loopback."""

    def start(self) -> None:
        """Also after `kill`: same port, same file, same identity."""

    def kill(self) -> None:
        """SIGKILL."""


class Embedded:
    """`python -m swd.target` on the file."""

    def __init__(self, image: Path, medium: str = "") -> None:
        self._lun = ("--lun", medium or f"file://{image}", "--block-size", str(BLOCK_SIZE), "--default-time2wait", "0")
        self.port = 0
        self._path = ""
        self.start()

    def url(self, port: int) -> str:
        return f"iscsi://127.0.0.1:{port}/{self._path}"

    def start(self) -> None:
        self.process = Watched(sys.executable, "-m", "swd.target", "--portal", f"127.0.0.1:{self.port}", *self._lun)
        self._read_url()

    def _read_url(self) -> None:
        try:
            ready = self.process.wait_for("^ready ")
        except AssertionError:
            self.kill()
            raise
        portal, _, self._path = ready.partition("iscsi://")[2].partition("/")
        self.port = int(portal.rpartition(":")[2])

    def kill(self) -> None:
        _kill(self.process)


class Ram(Embedded):
    """The embedded target with the unit in memory, which compiled code serves; killed, it has nothing left."""

    def __init__(self, image: Path) -> None:
        super().__init__(image, f"mem://{image.stat().st_size}")

    def load(self, image: Path) -> None:
        with swd.open(self.url(self.port), "r+b") as disk:
            disk.pwrite(image.read_bytes(), 0)

    def save(self, image: Path) -> None:
        with swd.open(self.url(self.port)) as disk:
            image.write_bytes(disk.pread(disk.size, 0))


class Liar(Embedded):
    """The embedded target on a medium that lies."""

    def __init__(self, image: Path, lie: str) -> None:
        self._words = (sys.executable, str(HERE / "soak_liar.py"), lie, str(image))
        super().__init__(image)

    def start(self) -> None:
        self.process = Watched(*self._words)
        self._read_url()


class Tgt:
    """tgtd on the file. The target is opened to initiators when its unit is there, not before."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self.port = free_port()
        self.start()

    def url(self, port: int) -> str:
        return f"iscsi://127.0.0.1:{port}/{TGT_NAME}/1"

    def start(self) -> None:
        self._tgtd = start_at(self._image.parent, Portal("127.0.0.1", self.port))
        self.process = self._tgtd.process
        try:
            self._tgtd.add_target(TGT_NAME, admit=False, **TGT_KEYS)
            self._tgtd.add_lun(TGT_NAME, 1, self._image, BLOCK_SIZE)
            self._tgtd.admit(TGT_NAME)
        except BaseException:
            self.kill()
            raise

    def sessions(self) -> dict[str, str]:
        """Those that tgtd has, by id."""
        return self._tgtd.sessions(TGT_NAME)

    def kill(self) -> None:
        self._tgtd.kill()


class Lio:
    """The Linux kernel's target, in a guest that has the file as a disk."""

    def __init__(self, image: Path) -> None:
        sys.path.append(str(HERE.parent / "guest"))
        import lio

        self._lio = lio
        self._guest = contextlib.ExitStack()
        self.port, self._control = free_port(), free_port()
        serving = lio.serving(image, self.port, self._control, block_size=BLOCK_SIZE, keys=TGT_KEYS | LIO_KEYS)
        self._guest.enter_context(serving)

    def url(self, port: int) -> str:
        return f"iscsi://127.0.0.1:{port}/{self._lio.NAME}/0"

    def sessions(self) -> int:
        count: int = self._lio.sessions(self._control)
        return count

    def kill(self) -> None:
        self._guest.close()


def _kill(process: Watched) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.signal(signal.SIGKILL)
    process.finish()


class Proxy:
    """soak_proxy.py in front of a target's port."""

    def __init__(self, target: int) -> None:
        self.process = Watched(sys.executable, str(HERE / "soak_proxy.py"), str(target), stdin=True)
        self.port = int(self.process.wait_for("^ready ").split()[1])
        self._spoilt = {"in": 0, "out": 0}

    def spoil(self, way: str) -> None:
        """Returns when one byte that came this way ("in" or "out") has been flipped."""
        self._spoilt[way] += 1
        assert self.process.process.stdin is not None
        self.process.process.stdin.write(f"{way}\n")
        self.process.process.stdin.flush()
        self.process.wait_for(f"^spoilt {way}$", count=self._spoilt[way])

    def close(self) -> None:
        assert self.process.process.stdin is not None
        self.process.process.stdin.close()
        self.process.finish()
