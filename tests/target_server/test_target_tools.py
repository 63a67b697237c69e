# SPDX-License-Identifier: Apache-2.0
"""Other people's initiators against the embedded target: libiscsi's tools and QEMU's block driver."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from conftest import NAME, SIZE, Serve

from swd.target import TargetServer
from swd.values import Chap

CHAP = Chap("reader", "a-secret-of-16by")


def run(*command: str, status: int = 0, **environment: str) -> str:
    """Standard output of a program that must end with `status` within 30 seconds."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, env={**os.environ, **environment}
    )
    output = done.stdout.decode("utf-8", "replace")
    assert done.returncode == status, output + done.stderr.decode("utf-8", "replace")
    return output


@pytest.mark.libiscsi
def test_iscsi_ls_finds_target_and_units(server: TargetServer) -> None:
    found = run("iscsi-ls", "-s", f"iscsi://{server.portal}")
    assert f"Target:{NAME} Portal:{server.portal},1" in found
    assert len(re.findall(r"Lun:[01] +Type:DIRECT_ACCESS", found)) == 2


@pytest.mark.libiscsi
@pytest.mark.parametrize("digest", ["none", "crc32c"])
def test_iscsi_inq_with_each_header_digest(serve: Serve, digest: str) -> None:
    server = serve(header_digest=(digest,))
    assert "Vendor:SWD" in run("iscsi-inq", f"iscsi://{server.portal}/{NAME}/0")
    assert bool(server.statistics["header_digests_checked"]) == (digest == "crc32c")


@pytest.mark.libiscsi
def test_iscsi_inq_reads_the_pages(url: str) -> None:
    assert "Designator Type:(3) NAA" in run("iscsi-inq", "-e", "1", "-c", str(0x83), url)
    assert "lbprz:1" in run("iscsi-inq", "-e", "1", "-c", str(0xB2), url)


@pytest.mark.libiscsi
def test_iscsi_readcapacity16(url: str) -> None:
    assert f"Total size:{SIZE}" in run("iscsi-readcapacity16", url)


@pytest.mark.libiscsi
def test_chap_by_libiscsi(serve: Serve) -> None:
    server = serve(chap=CHAP)
    where = f"{server.portal}/{NAME}/0"
    assert "Vendor:SWD" in run("iscsi-inq", f"iscsi://reader%{CHAP.secret.decode()}@{where}")
    assert server.statistics["logins"] == 1
    done = subprocess.run(["iscsi-inq", f"iscsi://reader%not-the-secret-x@{where}"], capture_output=True, timeout=30)
    assert done.returncode != 0
    assert server.statistics["login_failures"] == 1


@pytest.mark.libiscsi
def test_iscsi_perf_runs(server: TargetServer, url: str) -> None:
    assert "finished" in run("iscsi-perf", "-t", "1", "-b", "128", "-m", "8", url)
    assert server.statistics["bytes_out"] > SIZE


@pytest.mark.qemu
def test_qemu_writes_and_reads_an_image(server: TargetServer, url: str, tmp_path: Path) -> None:
    """Through both block sizes and back; `convert` uses WRITE SAME, UNMAP and FUA as it likes."""
    data = random.Random(1).randbytes(SIZE - (3 << 20)) + bytes(2 << 20) + b"\x01" * (1 << 20)
    (tmp_path / "in").write_bytes(data)
    for lun in ("0", "1"):
        where = url[:-1] + lun
        assert f"({SIZE} bytes)" in run("qemu-img", "info", "-f", "raw", where)
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(tmp_path / "in"), where)
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", where, str(tmp_path / f"out{lun}"))
        assert (tmp_path / f"out{lun}").read_bytes() == data
    assert server.statistics["protocol_errors"] == 0


@pytest.mark.qemu
@pytest.mark.parametrize("how", [[], ["-w", "--flush-interval=50"]], ids=["read", "write"])
def test_qemu_bench(url: str, how: list[str]) -> None:
    assert "Run completed" in run("qemu-img", "bench", "-f", "raw", "-c", "400", "-d", "16", "-s", "16384", *how, url)
