# SPDX-License-Identifier: Apache-2.0
"""`login` and `logout`: prove a login and want the target; want it no more. No session stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swd.cli.call import Call
from swd.errors import SwdError

if TYPE_CHECKING:
    from swd.driver.login import Proof


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """A target that is wanted no more."""

    target: str
    forgotten: bool


def login(call: Call, *, names: tuple[str, ...]) -> list[Proof] | list[str]:
    """Every name is tried; the first error, in the order of the arguments, is raised after all have been."""
    from swd.driver.login import prove

    proofs: list[Proof] = []
    failures: list[SwdError] = []
    for name in names:
        try:
            proofs.append(prove(name, call.options))
        except SwdError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return proofs if call.json else [_line(proof) for proof in proofs]


def _line(proof: Proof) -> str:
    digests = [word for word, on in (("header", proof.header_digest), ("data", proof.data_digest)) if on]
    units = ", ".join(unit.identity for unit in proof.units if unit.identity) or "none"
    wanted = "wanted from now on" if proof.remembered else "NOT kept as wanted: the registry cannot be written"
    return (
        f"{proof.target} at {proof.portal}: login works (auth {proof.auth}, digests {' '.join(digests) or 'none'}, "
        f"units {units}); {wanted}"
    )


def logout(_call: Call, *, name: str, forget: bool) -> list[LoggedOut]:
    """Raises `DeviceBusy` while a process holds a session with the target."""
    from swd.driver.login import release

    return [LoggedOut(target, forget) for target in release(name, forget=forget)]
