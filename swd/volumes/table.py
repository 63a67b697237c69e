# SPDX-License-Identifier: Apache-2.0
"""One partition, as every kind of table has it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Partition:
    """`start` and `size` in bytes, whole blocks. `type` is a GUID (GPT) or two hex digits (MBR, without names)."""

    number: int
    start: int
    size: int
    type: str
    name: str = ""
    uuid: str = ""

    def cut(self, size: int) -> Partition:
        return replace(self, size=size)
