# SPDX-License-Identifier: Apache-2.0
"""`startup install`: what systemd says to the units, what the rc scripts do, and that nothing else is touched."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from swd.cli.main import run
from swd.driver import phase
from swd.startup import install
from swd.values import Phase

SYSTEMD = "etc/systemd/system"
SWDCTL = Path(sys.executable).parent / "swdctl"
DEFAULT = {"swd-early.service", "swd-complete.service", "swd-startup.service", "swd-umount.service"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The top of a host that has swdctl where this one has it, and a root disk of its own."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
    program = tmp_path / str(SWDCTL).lstrip("/")
    program.parent.mkdir(parents=True)
    program.symlink_to(SWDCTL)
    return tmp_path


def tree(top: Path) -> dict[str, str]:
    """Every file and link below `top`, with its content or where it leads."""
    found = {}
    for path in sorted(top.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(top))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(top))] = path.read_text()
    return found


def installed(image: Path, *words: str) -> dict[str, str]:
    before = tree(image)
    assert run(["startup", "install", "--root", str(image), "--swdctl", str(SWDCTL), *words]) == 0
    return {name: text for name, text in tree(image).items() if name not in before}


def settings(text: str) -> dict[str, list[str]]:
    """The settings of a unit, by section.key; a key may stand several times."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def test_the_default_is_four_units_and_their_links(image: Path) -> None:
    new = installed(image)
    assert set(new) == {f"{SYSTEMD}/{name}" for name in DEFAULT} | {
        f"{SYSTEMD}/sysinit.target.wants/swd-early.service",
        f"{SYSTEMD}/multi-user.target.wants/swd-complete.service",
        f"{SYSTEMD}/multi-user.target.wants/swd-startup.service",
        f"{SYSTEMD}/multi-user.target.wants/swd-umount.service",
    }
    for name, text in new.items():
        assert not re.search(r"@[A-Z_]+@", text), name
        if text.startswith("->"):
            assert (image / name).resolve() == (image / SYSTEMD / Path(name).name).resolve()


@pytest.mark.parametrize(("profile", "number"), [("11iv1", errno.ENETUNREACH), ("11iv3", errno.ENXIO)])
def test_the_errno_of_the_phase_is_no_failure(image: Path, profile: str, number: int) -> None:
    (image / "etc/swd").mkdir()
    (image / "etc/swd/swd.toml").write_text(f'errno_profile = "{profile}"\n')
    early = settings(installed(image)[f"{SYSTEMD}/swd-early.service"])
    assert early["Service.SuccessExitStatus"] == [str(number)]
    assert early["Service.ExecStart"] == [f"{SWDCTL} phase begin", f"{SWDCTL} startup --pass 1"]


def test_the_order_of_the_units(image: Path) -> None:
    """What a real boot shows (docs/startup.md) stands in these lines; each has its reason beside it in the unit."""
    new = installed(image)
    early, complete, second = (
        settings(new[f"{SYSTEMD}/swd-{name}.service"]) for name in ("early", "complete", "startup")
    )
    assert early["Unit.DefaultDependencies"] == ["no"]
    assert early["Unit.Conflicts"] == ["shutdown.target"]
    assert set(early["Unit.Before"][0].split()) == {"network-pre.target", "shutdown.target"}
    assert complete["Unit.Wants"] == ["network-online.target"]
    assert "network-online.target" in complete["Unit.After"][0].split()
    assert {"remote-fs-pre.target", "remote-fs.target"} <= set(second["Unit.Before"][0].split())
    assert "swd-complete.service" in second["Unit.After"][0].split()
    last = settings(new[f"{SYSTEMD}/swd-umount.service"])
    assert (last["Service.ExecStop"], "Service.ExecStart" in last) == ([f"{SWDCTL} umount --all"], False)
    assert "network.target" in last["Unit.After"][0].split(), "at shutdown: before the network goes"
    assert not [key for unit in (early, complete, second) for key in unit if "Requires" in key and "Mounts" not in key]


@pytest.mark.systemd
@pytest.mark.parametrize("words", [[], ["--watch"]])
def test_systemd_has_nothing_to_say(image: Path, words: list[str]) -> None:
    new = installed(image, *words)
    units = [str(image / name) for name in new if "/multi-user" not in name and "/sysinit" not in name]
    assert verify(image, units) == ""


@pytest.mark.systemd
def test_systemd_would_have_said_so(image: Path) -> None:
    """It says on stderr what it does not know, and ends with 0 all the same."""
    installed(image)
    unit = image / SYSTEMD / "swd-early.service"
    unit.write_text(unit.read_text().replace("RemainAfterExit", "RemainAfterwards"))
    assert "RemainAfterwards" in verify(image, [str(unit)])
    unit.write_text(unit.read_text().replace(str(SWDCTL), "/nowhere/swdctl"))
    assert "/nowhere/swdctl" in verify(image, [str(unit)])


def verify(image: Path, units: list[str]) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{image / SYSTEMD}:"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_twice_is_once_and_uninstall_leaves_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(image)
    new = installed(image)
    assert installed(image) == {}
    assert {name: text for name, text in tree(image).items() if name not in before} == new
    capsys.readouterr()
    assert run(["--json", "startup", "uninstall", "--root", str(image)]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert {*gone["files"], *gone["links"]} == {f"/{name}" for name in new}
    assert tree(image) == before
    assert run(["startup", "uninstall", "--root", str(image)]) == 0


def test_the_watcher_takes_the_place_of_the_two_units(image: Path) -> None:
    installed(image)
    installed(image, "--watch")
    names = {path.name for path in (image / SYSTEMD).iterdir() if path.is_file()}
    assert names == {"swd-early.service", "swd-umount.service", "swd-watch.service"}
    enabled = {path.name for path in (image / SYSTEMD / "multi-user.target.wants").iterdir()}
    assert enabled == {"swd-umount.service", "swd-watch.service"}
    watch = settings((image / SYSTEMD / "swd-watch.service").read_text())
    assert (watch["Service.Type"], watch["Service.SuccessExitStatus"]) == (["notify"], ["143"])
    installed(image)
    assert {path.name for path in (image / SYSTEMD).iterdir() if path.is_file()} == DEFAULT


@pytest.mark.parametrize(
    "line", ["iscsi://192.0.2.1/iqn.2026-01.org.example:t/0 / ext4 _netdev 0 1", "lvm://vg/var /var ext4 _netdev 0 2"]
)
def test_what_may_not_live_on_iscsi_comes_first(image: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    (image / "etc/fstab").write_text(line + "\n")
    before = tree(image)
    assert run(["startup", "install", "--root", str(image), "--swdctl", str(SWDCTL)]) == errno.EINVAL
    assert "may not be on" in capsys.readouterr().err
    assert tree(image) == before


def test_a_file_of_somebody_else_stays(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = image / SYSTEMD / "swd-complete.service"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("[Unit]\n")
    before = tree(image)
    assert run(["startup", "install", "--root", str(image), "--swdctl", str(SWDCTL)]) == errno.EBUSY
    assert str(stranger) in capsys.readouterr().err
    assert run(["startup", "uninstall", "--root", str(image)]) == 0
    assert tree(image) == before


def test_a_link_of_an_image_leads_nowhere_else(
    image: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (image / "etc/systemd").symlink_to(outside)
    assert run(["startup", "install", "--root", str(image), "--swdctl", str(SWDCTL)]) == errno.EINVAL
    assert "leads out of" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--swdctl", "/nowhere/swdctl"], "there is no /nowhere/swdctl"),
        (["--swdctl", "swdctl"], "absolute path"),
        (["--swdctl", "/bin/%h"], "absolute path"),
        (["--rc", "--watch"], "not both"),
        (["--root", "/nowhere"], "no folder"),
    ],
)
def test_wrong_words(image: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(image)
    assert run(["startup", "install", "--root", str(image), *words]) == errno.EINVAL
    assert said in capsys.readouterr().err
    assert tree(image) == before


def test_where_it_may_not_write(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image / "etc/systemd").write_text("a file in the way\n")
    assert run(["startup", "install", "--root", str(image), "--swdctl", str(SWDCTL)]) in (errno.ENOTDIR, errno.EEXIST)
    assert "cannot write" in capsys.readouterr().err


def test_the_rc_scripts_play_the_story(image: Path) -> None:
    """Run as init would: the first one ends with 0 although pass 1 does not, the second ends the phase."""
    new = installed(image, "--rc")
    assert set(new) == {"etc/init.d/swd-early", "etc/init.d/swd"}
    early, second = image / "etc/init.d/swd-early", image / "etc/init.d/swd"
    Path(os.environ["SWD_CONFIG"]).write_text('[startup]\ndiscover = ["127.0.0.1:1"]\n')

    def call(*words: object) -> tuple[int, str, str]:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    assert call(early, "start") == (0, "", "")
    assert phase.current() is Phase.PRE_NETWORK
    status, out, err = call(second, "start")
    assert (status, phase.current()) == (errno.ENXIO, Phase.NETWORK_ATTEMPTED)
    assert "failed" in out
    assert "127.0.0.1:1" in err
    assert call(early, "start")[0] == errno.EALREADY, "begun once in a boot"
    assert call(second, "stop") == (0, "", "")
    assert call(early, "status")[0] == 0
    assert call(second, "again")[0] == 2
    assert run(["startup", "uninstall", "--root", str(image)]) == 0
    assert not early.exists()


def test_the_units_are_data_of_the_package() -> None:
    """Found where swd is installed, not in the source tree."""
    folder = Path(install.__file__).parent
    names = {unit.name for unit in (*install.UNITS, install.WATCH)}
    assert {path.name for path in (folder / "units").iterdir()} == names | {"hardening.txt"}
    assert {path.name for path in (folder / "rc").iterdir()} == {f"{name}.sh" for name in install.SCRIPTS}
