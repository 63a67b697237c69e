# SPDX-License-Identifier: Apache-2.0
"""Patience of seconds becomes patience of tenths, for what is tested here is that it ends."""

from __future__ import annotations

import pytest

import swd.iscsi.session


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rungs of the ladder after a deadline, and a logout, take at most this long each."""
    monkeypatch.setattr(swd.iscsi.session, "ABORT_TIMEOUT", 0.3)
    monkeypatch.setattr(swd.iscsi.session, "LOGOUT_TIMEOUT", 0.3)
