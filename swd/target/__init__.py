# SPDX-License-Identifier: Apache-2.0
"""The embedded iSCSI target (RFC 7143): for the demo, for tests, and for other people's tests. Not for production.

`TargetServer` serves `TargetConfig`s, which hold `Lun`s on `RamMedium` or `FileMedium`. Everything between socket and
medium is free of threads and clocks: `login`, `session` and `normal` are machines that take PDUs and queue answers, and
`scsi` takes CDBs and gives replies.
"""

from __future__ import annotations

from swd.target.config import Limits, Lun, Redirection, TargetConfig
from swd.target.media import FileMedium, Medium, RamMedium
from swd.target.portgroups import PortGroups
from swd.target.server import TargetServer

__all__ = [
    "FileMedium",
    "Limits",
    "Lun",
    "Medium",
    "PortGroups",
    "RamMedium",
    "Redirection",
    "TargetConfig",
    "TargetServer",
]
