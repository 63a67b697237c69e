# SPDX-License-Identifier: Apache-2.0
"""The old mirror of dm-mirror and its log (drivers/md/dm-log.c): a bit a region, set where the legs agree.

Without a log on a disk nobody knows what agrees until the kernel has copied all from the first leg again, so only that
one counts.
"""

from __future__ import annotations

import struct
from typing import Final

from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Layer
from swd.volumes.lvm2.transfer import read

_HEADER = struct.Struct("<IIQ")
_MAGIC: Final = 0x4D695272
_VERSION: Final = 2
_BITS_AT: Final = 1024
MOST_LOG: Final = 16 << 20


class Log:
    """`agree(first, last)`, in sectors of the mirror. A log that is not there or makes no sense agrees to nothing."""

    def __init__(self, layer: Layer | None, region: int) -> None:
        self.region = max(1, region // SECTOR)
        self.bits = b""
        self.regions = 0
        if layer is not None and layer.size > _BITS_AT:
            content = read(layer, 0, min(layer.size, MOST_LOG))
            magic, version, regions = _HEADER.unpack_from(content)
            if magic == _MAGIC and version == _VERSION:
                self.bits = content[_BITS_AT:]
                self.regions = min(regions, 8 * len(self.bits))

    def agree(self, first: int, last: int) -> bool:
        low, high = first // self.region, last // self.region
        return high < self.regions and all(self.bits[bit >> 3] >> (bit & 7) & 1 for bit in range(low, high + 1))
