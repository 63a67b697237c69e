# SPDX-License-Identifier: Apache-2.0
"""The distribution as a user gets it: a wheel from a clean copy, in an empty virtual environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import swd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # it is compiled from nothing

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with none of this run's paths in its environment; its stdout, or a failure with all it said."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    }
    done = subprocess.run(command, cwd=cwd, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, by `python -m build`, with build isolation: from nothing but what pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, ROOT / "tools" / "build.py", "--copy", folder / "src", cwd=folder)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder / "src", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with the wheel in it, and what the wheel requires."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    run(folder / "venv/bin/python", "-m", "pip", "install", "-q", "--progress-bar=off", wheel, cwd=folder)
    return folder / "venv"


def test_the_wheel_holds_modules_stubs_and_licence_but_no_sources_of_extensions(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "swd").rglob("*.py")}
    assert modules - set(names) == set()
    assert {f"swd/{path.name}" for path in (ROOT / "swd").glob("*.pyi")} | {"swd/py.typed"} <= set(names)
    data = [path for name in ("units", "rc") for path in (ROOT / "swd/startup" / name).iterdir()]
    assert data
    assert {path.relative_to(ROOT).as_posix() for path in data} <= set(names)
    for source in (ROOT / "swd").glob("_*.pyx"):
        assert [name for name in names if re.fullmatch(rf"swd/{source.stem}\.\S+\.so", name)], source
    assert [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxd"))] == []
    about = f"iscsi_swd-{swd.__version__}"
    assert {name.partition("/")[0] for name in names} == {"swd", f"{about}.dist-info", f"{about}.data"}
    assert [name for name in names if name.startswith(f"{about}.data/")] == [
        f"{about}.data/data/share/man/man1/swdctl.1"
    ]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    points = zipfile.ZipFile(wheel).read(f"{about}.dist-info/entry_points.txt").decode()
    assert "[pytest11]\nswd = swd.export.pytest_plugin\n" in points


def test_the_metadata_says_what_is_true(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"iscsi_swd-{swd.__version__}.dist-info/METADATA").decode()
    about = Parser().parsestr(text)
    assert about["Name"] == "iscsi-swd"
    assert about["Version"] == swd.__version__
    assert about["Requires-Python"] == ">=3.10"
    assert about["License-Expression"] == "Apache-2.0"
    plain = {line.split(">")[0] for line in about.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert plain == {"click", "numpy", "tomli"}


def test_every_run_time_extra_has_a_user(wheel: Path) -> None:
    """An extra whose packages nothing imports would promise something that is not there."""
    with zipfile.ZipFile(wheel) as archive:
        about = Parser().parsestr(archive.read(f"iscsi_swd-{swd.__version__}.dist-info/METADATA").decode())
        sources = "\n".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".py"))
    for extra in set(about.get_all("Provides-Extra", [])) - {"all", "test", "dev", "bench", "fuzz"}:
        marker = re.compile(rf"extra == ['\"]{extra}['\"]")
        wanted = [line for line in about.get_all("Requires-Dist", []) if marker.search(line)]
        assert wanted, extra
        for line in wanted:
            package = re.split(r"[^A-Za-z0-9_.-]", line)[0]
            name = re.sub("^lib(.+)-python$", r"py\1", package)  # libyal's modules are named otherwise
            use = rf"(^\s*import |^\s*from |import_module\(\"|\"){name}\b"
            assert re.search(use, sources, re.MULTILINE), f"nothing imports {name}"


def test_the_installed_command_runs_from_its_environment(environment: Path, tmp_path: Path) -> None:
    said = run(environment / "bin" / "swdctl", "--version", cwd=tmp_path)
    assert swd.__version__ in said
    about = run(environment / "bin" / "swdctl", "info", "--build", "--json", cwd=tmp_path)
    assert str(environment) in about
    assert json.loads(about)


def test_the_installed_module_computes(environment: Path, tmp_path: Path) -> None:
    code = "import swd; print(swd.__file__); print(hex(swd.crc32c(b'123456789')))"
    place, crc = run(environment / "bin" / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(place).is_relative_to(environment)
    assert crc == "0xe3069283"  # the check value of CRC-32C
