# SPDX-License-Identifier: Apache-2.0
"""Volume groups and file systems in the passes: on local files, and on targets of which one is dead."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.golden import unpack

from swd.cli.main import run
from swd.driver import phase, registry, volumes
from swd.target import Lun, TargetConfig, TargetServer
from swd.target.media import FileMedium
from swd.values import Portal

NAME = "iqn.2026-01.org.example:pv"


@pytest.fixture(scope="module")
def pvs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The two physical volumes of the volume group `story`: ext4 on its volume `striped`, XFS on `linear`."""
    return unpack("story", tmp_path_factory.mktemp("story"))


def configure(**keys: Any) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    Path(os.environ["SWD_CONFIG"]).write_text("\n".join(["[startup]", *lines, "[all]", "login_timeout = 3"]))


def second(capsys: pytest.CaptureFixture[str], number: int = 2) -> tuple[int, dict[str, dict[str, Any]]]:
    """Status, and the steps by name."""
    status = run(["--json", "startup", "--pass", str(number)])
    out = capsys.readouterr().out
    return status, {step["name"]: step for step in json.loads(out)["steps"]} if out else {}


def test_a_group_on_listed_devices(pvs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    configure(devices=[*map(str, pvs)], volume_groups=["story"])
    for _ in range(2):  # again: it is active already
        status, steps = second(capsys)
        assert (status, steps["story"]["result"]) == (0, "done")
        assert steps["story"]["detail"] == "2 physical volumes, for reading"
        assert [one.name for one in volumes.active(registry.host())] == ["story"]


def test_a_missing_physical_volume(pvs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    configure(devices=[str(pvs[0])], volume_groups=["story"])
    status, steps = second(capsys)
    assert (status, steps["story"]["result"]) == (errno.ENXIO, "failed")
    configure(devices=[str(pvs[0])], volume_groups=["story?partial=yes"])
    status, steps = second(capsys)
    assert (status, steps["story"]["detail"]) == (0, "1 physical volumes, 1 missing, for reading")


def test_for_writing(pvs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    configure(devices=[*map(str, pvs)], volume_groups=["story?rw=yes"])
    assert second(capsys)[1]["story"]["detail"].endswith("for writing")


def test_before_the_network_what_is_local_is_done(pvs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """And what is not fails quietly, the volume group included that may be anywhere."""
    phase.begin()
    configure(devices=[*map(str, pvs)], volume_groups=["story"], discover=["192.0.2.1"])
    assert second(capsys, 1) == (errno.ENETUNREACH, {})
    assert [one.name for one in volumes.active(registry.host())] == ["story"]
    configure(volume_groups=["story"], filesystems=["lvm://story/linear"])
    assert second(capsys, 1) == (errno.ENETUNREACH, {})
    assert run(["startup", "--pass", "1"]) == errno.ENETUNREACH
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("dev", "number", "words"),
    [("mem://1M", errno.EOPNOTSUPP, "no file system"), ("/nowhere/at/all", errno.ENXIO, "nowhere")],
)
def test_what_is_no_file_system(dev: str, number: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(filesystems=[dev])
    status, steps = second(capsys)
    assert (status, steps[dev]["result"]) == (number, "failed")
    assert words in steps[dev]["detail"]


@contextlib.contextmanager
def served(path: Path, number: int) -> Iterator[TargetServer]:
    medium = FileMedium(str(path))
    with TargetServer([TargetConfig(f"{NAME}{number}", {0: Lun(medium, serial=path.name)})]) as server:
        yield server
    medium.close()


def test_a_dead_target_does_not_hold_up_a_group_on_others(
    pvs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is silent for all of login_timeout, which is 3 s, and its unit is known from before."""
    with (
        served(pvs[0], 0) as first,
        served(pvs[1], 1) as other,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        dead = f"iscsi://127.0.0.1:{silent.getsockname()[1]}/{NAME}2/0"
        number = registry.host().instance(f"{NAME}2", Portal("127.0.0.1", silent.getsockname()[1]))
        registry.host().remember(number, 0, "naa.6001405000000000000000000000dead", True, 1 << 20, 512)
        devs = [f"iscsi://{one.portal}/{NAME}{n}/0" for n, one in enumerate((first, other))]
        configure(login=[dead, *devs], volume_groups=["story"], filesystems=["lvm://story/linear"])
        began = time.monotonic()
        status, steps = second(capsys)
        assert (status, steps[dead]["result"]) == (errno.ENXIO, "failed")
        assert (steps["story"]["result"], steps["lvm://story/linear"]["detail"]) == ("done", "xfs, clean")
        assert steps["lvm://story/linear"]["seconds"] < 2.5 < steps[dead]["seconds"]
        assert time.monotonic() - began < 10
