# SPDX-License-Identifier: Apache-2.0
"""The forms of a device name as frozen records; `str(dev)` is the name in its shortest unambiguous form.

`swd.proto.url.parse_dev` reads them: `parse_dev(str(dev)) == dev`. Records hold only what was written: option keys stay
pairs of text, so that whoever attaches the device can lay them over the configuration (`options.read`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from swd.proto import lun as _lun
from swd.proto import units
from swd.values import Portal

Settings = tuple[tuple[str, str], ...]  # keys and values as they were written, in that order

PLAIN_USER = re.compile(r"[A-Za-z0-9._~-]+")  # what may stand before the '@' of a URL; others go into ?user=
_SAFE_NAME = ":@!$'()*,;=+"
_SAFE_QUERY = ":@!$'()*,;/"


@dataclass(frozen=True, slots=True)
class IscsiDev:
    """One logical unit: `lun` is the 64-bit field, `target` the name as written; `user` is not in `options` as well."""

    portal: Portal
    target: str
    lun: int
    user: str | None = None
    options: Settings = ()

    @property
    def settings(self) -> dict[str, str]:
        """Everything that is for `options.read`: the query keys, and the user."""
        return dict(self.options) | ({} if self.user is None else {"user": self.user})

    def __str__(self) -> str:
        plain = self.user is not None and PLAIN_USER.fullmatch(self.user) is not None
        user = f"{self.user}@" if plain else ""
        keys = self.options if self.user is None or plain else (("user", self.user), *self.options)
        where = str(self.portal).replace("%", "%25")
        return f"iscsi://{user}{where}/{quote(self.target, safe=_SAFE_NAME)}/{_lun.text(self.lun)}{query(keys)}"


@dataclass(frozen=True, slots=True)
class HardwarePath:
    """A unit that the registry knows, by the numbers of its hardware path; `session` is the instance."""

    session: int
    bus: int
    target: int
    lun: int

    @property
    def number(self) -> int:
        """The LUN number that bus, target and lun spell."""
        return self.bus * 128 + self.target * 8 + self.lun

    def __str__(self) -> str:
        return f"255/0/{self.session}.{self.bus}.{self.target}.{self.lun}"


@dataclass(frozen=True, slots=True)
class Wwid:
    """A unit by its identity: `naa.`, `eui.` or `uuid.` and hex digits in lower case."""

    designator: str

    def __str__(self) -> str:
        return f"wwid:{self.designator}"


@dataclass(frozen=True, slots=True)
class LvmDev:
    """A logical volume."""

    vg: str
    lv: str
    options: Settings = ()

    def __str__(self) -> str:
        return f"lvm://{self.vg}/{self.lv}{query(self.options)}"


@dataclass(frozen=True, slots=True)
class MemDev:
    """A RAM disk of `size` bytes; without a name each open is a new one. `partition`: only that one of its table."""

    size: int
    block_size: int = 512
    name: str | None = None
    partition: int | None = None

    def __str__(self) -> str:
        keys = [("block_size", str(self.block_size))] if self.block_size != 512 else []
        if self.name is not None:
            keys.append(("name", self.name))
        if self.partition is not None:
            keys.append(("partition", str(self.partition)))
        return f"mem://{units.format_size(self.size)}{query(tuple(keys))}"


@dataclass(frozen=True, slots=True)
class FileDev:
    """An image file or a raw device; a relative path counts from the working directory."""

    path: str
    options: Settings = ()

    def __str__(self) -> str:
        path = quote(self.path, safe="/" + _SAFE_NAME, errors="surrogateescape")  # names of files are bytes (PEP 383)
        return f"file://{path}{query(self.options)}"


@dataclass(frozen=True, slots=True)
class IswDev:
    """The driver itself; only ioctl means anything to it."""

    def __str__(self) -> str:
        return "isw:"


@dataclass(frozen=True, slots=True)
class FaultDev:
    """Another device behind the fault plan in file `plan`."""

    plan: str
    on: Dev

    def __str__(self) -> str:
        return f"fault://{query((('plan', self.plan), ('on', str(self.on))))}"


Dev = IscsiDev | HardwarePath | Wwid | LvmDev | MemDev | FileDev | IswDev | FaultDev


def query(settings: Settings) -> str:
    """`?key=value&...` with what needs it percent-encoded, or nothing."""
    if not settings:
        return ""
    return "?" + "&".join(f"{key}={quote(value, safe=_SAFE_QUERY)}" for key, value in settings)
