# SPDX-License-Identifier: Apache-2.0
"""Text of a peer or a user: key=value segments, SendTargets answers, names of devices, portals and targets."""

from __future__ import annotations

import unicodedata

from harness.choices import Choices
from swd.errors import InvalidArgument, NoSuchDevice, ProtocolViolation, SwdError, Unsupported
from swd.iscsi import discovery
from swd.proto import chap, keys, lun, names, negotiate, text, url
from swd.proto.options import DEFAULTS
from swd.values import Portal

ASKED = Portal("192.0.2.1")
SECRET = "Zq9Kx7Vw2"
_HARMFUL = frozenset({"Cc", "Cs", "Zl", "Zp"})


def harmless(value: str) -> bool:
    """Nothing that moves a terminal's cursor, and nothing that cannot be written."""
    return not any(unicodedata.category(char) in _HARMFUL for char in value)


def text_keys(data: bytes) -> None:
    """A text, in pieces, then every reader of its values; both roles of a negotiation."""
    choices = Choices(data)
    repeats, stage = choices.bit(), choices.pick(("security", "operational"))
    collector, whole = text.Collector(4096, 16), None
    body = choices.rest()
    try:
        pieces = [body] if not repeats else text.split(body, max(1, len(body) // 3))
        for number, piece in enumerate(pieces, 1):
            whole = collector.add(piece, continued=number < len(pieces))
        pairs = text.decode(whole or b"", repeats=repeats)
    except ProtocolViolation:
        return
    assert whole == body
    assert text.decode(text.encode(pairs), repeats=repeats) == pairs
    assert all(harmless(key + value) for key, value in pairs)
    for key, value in pairs:
        read_value(key, value)
    answered = negotiate.answer(pairs, negotiate.wanted(DEFAULTS))
    text.encode(answered.pairs)
    initiator = negotiate.Initiator(DEFAULTS)
    initiator.offers()
    try:
        text.encode(initiator.hear(pairs, stage))
        settled = initiator.settle()
    except SwdError as error:
        assert type(error).__name__ in ("ProtocolViolation", "LoginRefused")
        return
    assert settled["MaxBurstLength"] <= DEFAULTS.max_burst_length
    assert settled["FirstBurstLength"] <= settled["MaxBurstLength"]
    assert settled["MaxOutstandingR2T"] <= DEFAULTS.max_outstanding_r2t
    assert 512 <= int(settled["MaxRecvDataSegmentLength"]) < 1 << 24


def read_value(key: str, value: str) -> None:
    if key in keys.BY_NAME:
        try:
            found = keys.read(keys.BY_NAME[key], value)
        except ProtocolViolation:
            pass
        else:
            row = keys.BY_NAME[key]
            assert not (row.high and not isinstance(found, bool)) or row.low <= int(found) <= row.high  # type: ignore[arg-type]
    for reader in (chap.decode, chap.decode_identifier):
        try:
            reader(value)
        except ProtocolViolation:
            pass


def send_targets(data: bytes) -> None:
    """A whole answer, as it comes out of the text exchange."""
    try:
        found = discovery.targets(text.decode(data, repeats=True), ASKED)
    except ProtocolViolation:
        return
    for target in found:
        assert names.valid(target.name)
        assert target.portals
        assert all(url.parse_portal(str(portal)) == portal for portal in target.portals)


def device_names(data: bytes) -> None:
    """Every way of writing a device, a portal or a size; what is read is written so that it reads the same."""
    choices = Choices(data)
    hidden = choices.bit()
    said = choices.rest().decode("utf-8", "surrogateescape")
    if hidden:
        before, _, behind = said.partition("|")
        said = f"iscsi://{before}:{SECRET}@{behind}"
    try:
        dev = url.parse_dev(said)
    except (InvalidArgument, Unsupported, NoSuchDevice) as error:
        assert not hidden or not tells(error), f"the message repeats the password: {error}"
    else:
        # A path is taken as it is, and goes into no URL before somebody writes it there.
        if not isinstance(dev, url.FileDev):
            assert url.parse_dev(str(dev)) == dev
    for reader in (url.parse_portal, url.parse_target_address, url.parse_size, lun.parse, names.validate):
        try:
            reader(said)
        except InvalidArgument as error:
            assert reader in (url.parse_size, lun.parse, names.validate) or not hidden or not tells(error)


def tells(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, repeats the password."""
    while error is not None:
        if SECRET in f"{error} {error!r} {error.args}":
            return True
        error = error.__cause__ or error.__context__
    return False


def luns(data: bytes) -> None:
    """REPORT LUNS, and the fields in it as people write them."""
    from swd.scsi import capacity

    try:
        found = capacity.parse_luns(data)
    except ProtocolViolation:
        assert len(data) < 8
        return
    assert len(found) == len(set(found)) <= (len(data) - 8) // 8
    for field in found:
        assert lun.parse(lun.text(field)) == field
        number = lun.number(field)
        assert number is None or lun.field(number) == field
        try:
            lun.decode(field)
        except InvalidArgument:
            pass
