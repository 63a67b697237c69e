# SPDX-License-Identifier: Apache-2.0
"""What the faults of PDUs do to one that goes out: a function a kind, over a `Sending`. Pure, but for the plan's dice.

`FITS` says of some kinds whether they could be carried out at all: a digest that is not there cannot be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from swd.proto import pdu as _pdu
from swd.proto import serial
from swd.target.faults.sending import Damage, Sending, changed, keys_of
from swd.values import Negotiated

_MAX_SEGMENT = (1 << 24) - 1


class Context(NamedTuple):
    """What is known when a PDU goes out. `expected`: ExpectedDataTransferLength of its command."""

    header_digest: bool
    data_digest: bool
    agreed: Negotiated | None
    expected: int
    shut_at: int | None  # MaxCmdSN as it was before the window was shut
    random_bytes: Callable[[int], bytes]
    new_ttt: Callable[[], int]


Settings = Mapping[str, Any]
Action = Callable[[Sending, Settings, Context], None]


def _drop(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.lost = True


def _delay(sending: Sending, settings: Settings, _context: Context) -> None:
    sending.late = settings["seconds"]


def _reorder(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.swapped = True


def _close(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.lost, sending.end = True, "close"


def _reset(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.lost, sending.end = True, "reset"


def _silence(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.lost, sending.end = True, "silence"


def _duplicate(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.copies = 2


def _truncate(sending: Sending, settings: Settings, _context: Context) -> None:
    sending.keep, sending.end = settings["bytes"], "close"


def _corrupt_header(sending: Sending, settings: Settings, _context: Context) -> None:
    sending.damage.append(Damage("header", settings["byte"], settings["bits"]))


def _corrupt_data(sending: Sending, settings: Settings, _context: Context) -> None:
    byte = settings["byte"] % len(sending.data)
    sending.damage.append(Damage("data", byte, settings["bits"]))


def _corrupt_header_digest(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.damage.append(Damage("header_digest", 0, 1))


def _corrupt_data_digest(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.damage.append(Damage("data_digest", 0, 1))


def _number(name: str) -> Action:
    def add(sending: Sending, settings: Settings, _context: Context) -> None:
        sending.change(name, getattr(sending.pdu, name) + settings["by"])

    return add


def _shut_window(sending: Sending, _settings: Settings, context: Context) -> None:
    if context.shut_at is not None:
        sending.change("max_cmd_sn", context.shut_at)


def _wrong_residual(sending: Sending, settings: Settings, _context: Context) -> None:
    overflow = bool(getattr(sending.pdu, "overflow", False))
    sending.change("residual_count", max(getattr(sending.pdu, "residual_count", 0) + settings["by"], 1))
    sending.change("overflow" if overflow else "underflow", 1)


def _wrong_length(sending: Sending, settings: Settings, _context: Context) -> None:
    sending.length = max(0, min(len(sending.data) + settings["by"], _MAX_SEGMENT))


def _wrong_field(sending: Sending, settings: Settings, _context: Context) -> None:
    sending.change(settings["field"], settings["value"])


def _garbage(sending: Sending, settings: Settings, context: Context) -> None:
    sending.before = context.random_bytes(settings["bytes"])


def _r2t_too_long(sending: Sending, _settings: Settings, context: Context) -> None:
    assert context.agreed is not None
    sending.change("desired_data_transfer_length", context.agreed.max_burst_length + 512)


def _r2t_out_of_range(sending: Sending, _settings: Settings, context: Context) -> None:
    sending.change("buffer_offset", context.expected)


def _r2t_empty(sending: Sending, _settings: Settings, _context: Context) -> None:
    sending.change("desired_data_transfer_length", 0)


def _r2t_too_many(sending: Sending, _settings: Settings, context: Context) -> None:
    """The range in one piece more than may be open."""
    first = sending.pdu
    assert isinstance(first, _pdu.R2T)
    assert context.agreed is not None
    pieces = context.agreed.max_outstanding_r2t + 1
    size = first.desired_data_transfer_length // pieces // 4 * 4
    sending.change("desired_data_transfer_length", size)
    for piece in range(1, pieces):
        sending.after.append(_again(first, context, piece, first.buffer_offset + piece * size, size))


def _r2t_overlapping(sending: Sending, _settings: Settings, context: Context) -> None:
    first = sending.pdu
    assert isinstance(first, _pdu.R2T)
    sending.after.append(_again(first, context, 1, first.buffer_offset, first.desired_data_transfer_length))


def _again(first: _pdu.R2T, context: Context, number: int, offset: int, length: int) -> _pdu.Pdu:
    """Another R2T behind this one."""
    more: _pdu.Pdu = first
    for name, value in (
        ("ttt", context.new_ttt()),
        ("r2t_sn", first.r2t_sn + number),
        ("buffer_offset", offset),
        ("desired_data_transfer_length", length),
    ):
        more = changed(more, name, value)
    return more


def _wrong_key(sending: Sending, settings: Settings, _context: Context) -> None:
    key, value = settings["key"], settings["value"]
    pairs = [pair for pair in keys_of(sending.data) if value is not None or pair[0] != key]
    if value is not None:
        pairs = [(name, value if name == key else old) for name, old in pairs]
        if key not in dict(pairs):
            pairs.append((key, value))
    sending.data = b"".join(f"{name}={text}\0".encode() for name, text in pairs)


ACTIONS: Final[dict[str, Action]] = {
    "drop": _drop,
    "delay": _delay,
    "reorder": _reorder,
    "close": _close,
    "reset": _reset,
    "poison": _reset,
    "silence": _silence,
    "duplicate": _duplicate,
    "truncate": _truncate,
    "corrupt_header": _corrupt_header,
    "corrupt_data": _corrupt_data,
    "corrupt_header_digest": _corrupt_header_digest,
    "corrupt_data_digest": _corrupt_data_digest,
    "wrong_stat_sn": _number("stat_sn"),
    "wrong_data_sn": _number("data_sn"),
    "wrong_r2t_sn": _number("r2t_sn"),
    "wrong_exp_cmd_sn": _number("exp_cmd_sn"),
    "wrong_max_cmd_sn": _number("max_cmd_sn"),
    "shut_window": _shut_window,
    "wrong_itt": _number("itt"),
    "wrong_ttt": _number("ttt"),
    "wrong_offset": _number("buffer_offset"),
    "wrong_residual": _wrong_residual,
    "wrong_length": _wrong_length,
    "wrong_field": _wrong_field,
    "garbage": _garbage,
    "r2t_too_long": _r2t_too_long,
    "r2t_out_of_range": _r2t_out_of_range,
    "r2t_empty": _r2t_empty,
    "r2t_too_many": _r2t_too_many,
    "r2t_overlapping": _r2t_overlapping,
    "wrong_key": _wrong_key,
}


def _has_status(pdu: _pdu.Pdu, _data: bytes, _context: Context, _settings: Settings) -> bool:
    return bool(getattr(pdu, "status_present", True))


FITS: Final[dict[str, Callable[[_pdu.Pdu, bytes, Context, Settings], bool]]] = {
    "corrupt_data": lambda _pdu, data, _context, _settings: bool(data),
    "corrupt_data_digest": lambda _pdu, data, context, _settings: bool(data) and context.data_digest,
    "corrupt_header_digest": lambda _pdu, _data, context, _settings: context.header_digest,
    "wrong_stat_sn": _has_status,
    "wrong_residual": _has_status,
    "shut_window": lambda pdu, _data, context, _settings: (
        context.shut_at is not None and serial.lt(context.shut_at, getattr(pdu, "max_cmd_sn", 0))
    ),
    "r2t_too_many": lambda pdu, _data, context, _settings: (
        context.agreed is not None
        and getattr(pdu, "desired_data_transfer_length", 0) >= 4 * (context.agreed.max_outstanding_r2t + 1)
    ),
    "wrong_key": lambda _pdu, data, _context, settings: (
        settings["value"] is not None or settings["key"] in dict(keys_of(data))
    ),
}
