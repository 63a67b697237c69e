# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: which swd is under test, places of its own for each test, and honest accounts of what was
absent."""

from __future__ import annotations

import os
import platform
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from components import COMPONENTS, SKIPPED, absent, require, required
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


def under_test() -> Path:
    """The folder that `import swd` comes from."""
    import swd

    return Path(swd.__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """`make` says where swd must come from; another one (a stale build, the tree itself) would make the whole run
    worthless."""
    required()  # a wrong word in SWD_REQUIRE ends the run here
    # An example may take 2 s, so that a busy machine is no failure and one without end is. Milliseconds.
    settings.register_profile("swd", deadline=2000 * float(os.environ.get("SWD_TEST_SLOWER", "1")))  # as pace.py
    settings.load_profile("swd")
    home = os.environ.get("SWD_TEST_HOME")
    if home and not under_test().is_relative_to(Path(home).resolve()):
        raise pytest.UsageError(f"swd is imported from {under_test()}, not from below {home}: run `make test`")


def pytest_report_header() -> list[str]:
    from swd import _crc32c

    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}"
    return [f"swd: {under_test()}, CRC32C kernel {_crc32c.kernel()}, {python}"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in needs(item):
        require(name)


def needs(item: pytest.Item) -> list[str]:
    """The components that an item's markers name."""
    return [name for name in COMPONENTS if item.get_closest_marker(name)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is a failure where SWD_REQUIRE names a component that the test needs, whatever the reason given."""
    report = yield
    forced = required().intersection(needs(item))
    if forced and report.skipped and not hasattr(report, "wasxfail"):
        names = ", ".join(sorted(forced))
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but SWD_REQUIRE names {names}: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each real component that was absent, with the command that adds it."""
    lines = [
        f"{name}: {absent(name)}; {SKIPPED[name]} tests skipped; to add it: {component.add}"
        for name, component in COMPONENTS.items()
        if absent(name)
    ]
    if lines:
        terminalreporter.section("absent components")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run-time, state and configuration places of each test's own: no test sees this host's, or another test's."""
    home = tmp_path_factory.mktemp("places")
    (home / "run").mkdir(mode=0o700)
    (home / "state").mkdir(mode=0o700)
    (home / "swd.toml").touch()
    monkeypatch.setenv("SWD_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("SWD_STATE_DIR", str(home / "state"))
    monkeypatch.setenv("SWD_CONFIG", str(home / "swd.toml"))
    for name in ("SWD_INITIATOR_NAME", "SWD_CHAP_SECRET", "SWD_CHAP_TARGET_SECRET", "SWD_CRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def legal_steps() -> Iterator[None]:
    """No session of this process takes a step that the tables of states do not have."""
    from swd.iscsi.tally import PROCESS

    before = PROCESS.counts().get("illegal_transition", 0)
    yield
    assert PROCESS.counts().get("illegal_transition", 0) == before
