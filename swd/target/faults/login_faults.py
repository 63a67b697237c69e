# SPDX-License-Identifier: Apache-2.0
"""The faults of a Login Request: what it is answered with, in place of what login would have said. Pure."""

from __future__ import annotations

from swd.proto.pdu import LoginRequest, LoginResponse
from swd.target.faults.plan import Fault
from swd.target.login import TargetLogin

_MOVED_FOR_NOW, _MOVED_FOR_GOOD = 0x0101, 0x0102  # RFC 7143 11.13.5


def answer_login(login: TargetLogin, request: LoginRequest, fault: Fault, address: str) -> tuple[LoginResponse, bytes]:
    """The last response of this login. `address`: where the initiator reached us."""
    if fault.kind.name == "login_status":
        return login.refuse(request, fault.settings["status"]), b""
    to = fault.settings["to"]
    where = f"{address},1" if to == "self" else to
    status = _MOVED_FOR_GOOD if fault.settings["permanent"] else _MOVED_FOR_NOW
    return login.refuse(request, status), f"TargetAddress={where}\0".encode()
