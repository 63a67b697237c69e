# SPDX-License-Identifier: Apache-2.0
"""SendTargets (RFC 7143 appendix C): a discovery session, one question, names and addresses checked before anyone
sees them.
"""

from __future__ import annotations

from collections.abc import Iterable

from swd.errors import InvalidArgument, ProtocolViolation, SwdError
from swd.iscsi.session import Session
from swd.iscsi.tally import PROCESS
from swd.proto import names
from swd.proto.options import Options
from swd.proto.portal import parse_target_address
from swd.values import Chap, Portal, Target


def discover(portal: Portal, *, chap: Chap | None, options: Options, initiator_name: str) -> list[Target]:
    """The targets behind a discovery address, in the order of its answer. Raises as `Session`."""
    PROCESS.add("discovery_sessions")
    with Session(portal, None, chap=chap, options=options, initiator_name=initiator_name) as session:
        PROCESS.add("sendtargets")
        try:
            answer = session.text({"SendTargets": "All"})
        except SwdError:
            PROCESS.add("sendtargets_fail")
            raise
        try:
            return targets(answer, session.portal)
        except ProtocolViolation:
            PROCESS.add("sendtargets_parse_fail")
            raise


def targets(pairs: Iterable[tuple[str, str]], asked: Portal) -> list[Target]:
    """The targets that an answer lists. One without an address is reached at `asked` (RFC 7143 appendix C)."""
    found: list[Target] = []
    try:
        for key, value in pairs:
            if key == "TargetName":
                found.append(Target(names.validate(value)))
            elif key == "TargetAddress" and found:
                found[-1].portals.append(parse_target_address(value))
            else:
                raise ProtocolViolation(f"{key} has no place in a SendTargets answer", clause="C")
    except InvalidArgument as error:
        raise ProtocolViolation(f"a SendTargets answer holds what cannot be: {error}", clause="C") from error
    for target in found:
        if not target.portals:
            target.portals.append(asked)
    return found
