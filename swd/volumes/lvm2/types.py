# SPDX-License-Identifier: Apache-2.0
"""The segment types that can be read, as data: a row each. A type is here only if a golden image that device-mapper
made was read with it and the sums agreed (docs/volumes.md); any other is EOPNOTSUPP.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from swd.volumes.lvm2 import parity


class Raid(NamedTuple):
    """md's level and number of layout, and whether there are two parities."""

    level: int
    layout: int
    q: bool = False


RAID: Final[dict[str, Raid]] = {
    "raid1": Raid(1, 0),
    "raid10": Raid(10, 0x102),  # near: two copies
    "raid10_near": Raid(10, 0x102),
    "raid4": Raid(5, parity.PARITY_0),  # as the kernel has it since 3.18: a raid5 whose parity stays on the first leg
    "raid5": Raid(5, parity.LEFT_SYMMETRIC),
    "raid5_n": Raid(5, parity.PARITY_N),
    "raid5_ls": Raid(5, parity.LEFT_SYMMETRIC),
    "raid5_la": Raid(5, parity.LEFT_ASYMMETRIC),
    "raid5_rs": Raid(5, parity.RIGHT_SYMMETRIC),
    "raid5_ra": Raid(5, parity.RIGHT_ASYMMETRIC),
    "raid6": Raid(6, parity.ROTATING_ZERO_RESTART, True),
    "raid6_zr": Raid(6, parity.ROTATING_ZERO_RESTART, True),
    "raid6_nr": Raid(6, parity.ROTATING_N_RESTART, True),
    "raid6_nc": Raid(6, parity.ROTATING_N_CONTINUE, True),
    "raid6_n_6": Raid(6, parity.PARITY_N, True),
    "raid6_ls_6": Raid(6, parity.LEFT_SYMMETRIC_6, True),
    "raid6_la_6": Raid(6, parity.LEFT_ASYMMETRIC_6, True),
    "raid6_rs_6": Raid(6, parity.RIGHT_SYMMETRIC_6, True),
    "raid6_ra_6": Raid(6, parity.RIGHT_ASYMMETRIC_6, True),
}
WRITABLE: Final = frozenset({"striped", "raid0"})
