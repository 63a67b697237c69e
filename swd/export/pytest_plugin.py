# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: an iSCSI target in a fixture, which misbehaves as a marker says. For tests of any initiator.

It decides when targets live and how a failed test is told about them; `testing.IscsiTarget` is what tests get. pytest
loads this module at every start, so it imports nothing of swd until a fixture is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from swd.export.testing import IscsiTarget
    from swd.target.faults import Plan

_MARKER = (
    "iscsi_faults(*faults, seed=0, may_miss=False): the fault plan of this test's iscsi_target: Faults, a Plan, TOML "
    "text, or the pathlib.Path of a TOML file. A test that passes although nothing struck fails, unless may_miss."
)
_TARGETS = pytest.StashKey["list[IscsiTarget]"]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def iscsi_target_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., IscsiTarget]]:
    """`iscsi_target_factory(...)` starts one more target on a free port of the loopback; all end with the test.

    luns: sizes, in bytes or as "64M", or `swd.target.Lun`s; default one RAM disk of 64 MiB. block_size: 512 or 4096.
    chap: a `swd.Chap` that initiators must prove. faults: a plan, in any form that the marker takes. name, read_only,
    header_digest, data_digest, limits, queue_depth: as of `swd.target`.
    """
    from swd.export.testing import IscsiTarget

    targets = request.node.stash.setdefault(_TARGETS, [])
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> IscsiTarget:
            target = IscsiTarget(**settings)
            stack.callback(target.stop)
            target.start()
            targets.append(target)
            return target

        yield start


@pytest.fixture
def iscsi_target(
    request: pytest.FixtureRequest, iscsi_target_factory: Callable[..., IscsiTarget]
) -> IscsiTarget:
    """A running target with one RAM disk of 64 MiB as LUN 0, under the plan of the `iscsi_faults` marker, if any."""
    return iscsi_target_factory(faults=_planned(request.node))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its targets did; one that passed without a single fault of its plan has not passed."""
    report = yield
    targets = item.stash.get(_TARGETS, [])
    if call.when != "call" or not targets:
        return report
    marker = item.get_closest_marker("iscsi_faults")
    if report.passed and marker and not marker.kwargs.get("may_miss") and not any(one.faults_seen for one in targets):
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} passed, but no fault of its plan was injected, so it has shown nothing:\n"
            + "\n".join(line for one in targets for line in one.plan.explain())
            + "\nReach what the plan waits for, or say iscsi_faults(..., may_miss=True)."
        )
    if report.failed:
        report.sections += [(f"iSCSI target {one.iqn} at {one.portal}", one.story()) for one in targets]
    return report


def _planned(node: pytest.Item) -> Plan | None:
    marker = node.get_closest_marker("iscsi_faults")
    if marker is None:
        return None
    unknown = set(marker.kwargs) - {"seed", "may_miss"}
    if unknown or not marker.args:
        raise pytest.UsageError(f"{node.nodeid}: the marker is {_MARKER}")
    from swd.errors import SwdError
    from swd.export.testing import as_plan

    try:
        return as_plan(marker.args[0] if len(marker.args) == 1 else marker.args, seed=marker.kwargs.get("seed", 0))
    except (SwdError, TypeError) as error:
        raise pytest.UsageError(f"{node.nodeid}: iscsi_faults: {error}") from error
