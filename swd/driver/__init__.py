# SPDX-License-Identifier: Apache-2.0
"""The driver: entry points over a table of devices, with ordinary errnos. `from swd.driver import Driver`.

The name comes lazily, because the phase gate lives in this package too and must be cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swd.driver.entrypoints import Driver as Driver

__all__ = ["Driver"]


def __getattr__(name: str) -> object:
    if name != "Driver":
        raise AttributeError(f"module 'swd.driver' has no attribute {name!r}")
    from swd.driver.entrypoints import Driver

    return Driver
