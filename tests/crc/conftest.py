# SPDX-License-Identifier: Apache-2.0
"""The run says which kernels it tested: on another processor it is another set."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from swd._crc32c import kernel, kernels

    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    tested = [name for name in kernels() if any(f"test_its_self_test[{name}]" in report.nodeid for report in reports)]
    if tested:
        terminalreporter.write_line(f"CRC32C kernels tested: {', '.join(tested)}; in use: {kernel()}")
