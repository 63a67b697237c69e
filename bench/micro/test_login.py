# SPDX-License-Identifier: Apache-2.0
"""A whole session: connect, log in, log out, on the loopback, with and without mutual CHAP."""

from __future__ import annotations

from typing import Any

import pytest

import swd
from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

NAME = "iqn.2026-01.org.example:micro"
CHAP = swd.Chap("me", "initiator-secret", target_user="disk", target_secret="the-target-secret")


@pytest.mark.parametrize("chap", [None, CHAP], ids=["plain", "mutual CHAP"])
def test_login_and_logout(benchmark: Any, chap: swd.Chap | None) -> None:
    medium = RamMedium(1 << 20)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)}, chap=chap)]) as server:

        def session() -> int:
            with swd.connect(str(server.portal), NAME, chap=chap) as one:
                return one.parameters.tsih

        assert benchmark(session)
    medium.close()
