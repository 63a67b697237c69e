# SPDX-License-Identifier: Apache-2.0
"""`ctl("placement", ...)`: a verb in this process."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from swd.cli import main


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def call(*words: str) -> SimpleNamespace:
        capsys.readouterr()
        status = main.run(words)
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return call
