# SPDX-License-Identifier: Apache-2.0
"""One connection at a time: what a lost one comes back to is the subject of other tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_second_connection(places: None) -> None:
    Path(os.environ["SWD_CONFIG"]).write_text("[all]\nreplacement_timeout = 0\n")
