# SPDX-License-Identifier: Apache-2.0
"""The control requests as a table: number, name, what the argument looks like, what comes back.

What a request does on a device stands in the device's row (`swd/driver/rows/`); this module knows no device. Numbers
are Linux's where Linux has the request (linux/fs.h, scsi/sg.h); our own follow its coding, type 0x53 ("S").
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass
from typing import Final

from swd.errors import InvalidArgument, SwdError
from swd.values import SgIo


class Request(enum.IntEnum):
    """The requests that this version answers."""

    BLKROGET = 0x125E
    BLKFLSBUF = 0x1261
    BLKSSZGET = 0x1268
    BLKDISCARD = 0x1277
    BLKPBSZGET = 0x127B
    BLKZEROOUT = 0x127F
    BLKGETSIZE64 = 0x80081272
    SG_IO = 0x2285
    SWD_VERSION = 0x5301
    SWD_PHASE_GET = 0x5302
    SWD_STATS_GET = 0x5303
    SWD_STATS_CLEAR = 0x5304
    SWD_PARAMS_GET = 0x5305
    SWD_PARAMS_SET = 0x5306
    SWD_LOGIN = 0x5307
    SWD_LOGOUT = 0x5308
    SWD_RESET = 0x5309


class Argument(enum.Enum):
    """The shape of a request's argument."""

    NONE = "none"
    RANGE = "(offset, length) in bytes"
    SG_IO = "SgIo(cdb, data_out, data_in, timeout)"
    DICT = "dict, or None for an empty one"


@dataclass(frozen=True)
class Entry:
    """One request: its argument, its result, whether it changes the device (and needs a writable descriptor), and a
    line of help.
    """

    request: Request
    argument: Argument
    result: str
    writes: bool
    doc: str


TABLE: Final = (
    Entry(Request.BLKGETSIZE64, Argument.NONE, "int", False, "size of the device in bytes"),
    Entry(Request.BLKSSZGET, Argument.NONE, "int", False, "logical block size in bytes"),
    Entry(Request.BLKPBSZGET, Argument.NONE, "int", False, "physical block size in bytes"),
    Entry(Request.BLKROGET, Argument.NONE, "int", False, "1 if the device is read-only, else 0"),
    Entry(Request.BLKFLSBUF, Argument.NONE, "None", False, "make all that was written durable"),
    Entry(
        Request.BLKDISCARD,
        Argument.RANGE,
        "None",
        True,
        "the range is not needed any more; its content is undefined afterwards",
    ),
    Entry(Request.BLKZEROOUT, Argument.RANGE, "None", True, "the range reads as zeros afterwards"),
    Entry(Request.SG_IO, Argument.SG_IO, "ScsiResult", False, "run a SCSI command as it is"),
    Entry(Request.SWD_VERSION, Argument.NONE, "dict", False, "version of swd, and the row of the device"),
    Entry(Request.SWD_PHASE_GET, Argument.NONE, "dict", False, "the network phase of the host, since when, by whom"),
    Entry(
        Request.SWD_STATS_GET,
        Argument.NONE,
        "dict",
        False,
        "rows of statistics with their class letters, and latencies; isw: those of the process",
    ),
    Entry(Request.SWD_STATS_CLEAR, Argument.NONE, "None", False, "count from here on; isw: in all sessions"),
    Entry(
        Request.SWD_PARAMS_GET,
        Argument.DICT,
        "dict",
        False,
        "on a disk: `negotiated` and `options` of its session; on `isw:`: `options` of later opens",
    ),
    Entry(
        Request.SWD_PARAMS_SET,
        Argument.DICT,
        "dict",
        False,
        "`isw:` only: option keys for later opens through this Driver, over the configuration, below the DEV's own; "
        "gives the keys set so far. A session that exists keeps its options for life",
    ),
    Entry(
        Request.SWD_LOGIN,
        Argument.DICT,
        "dict",
        False,
        "on `isw:`: `device` (an iscsi:// DEV): log in, and hold the session until SWD_LOGOUT or close; on a disk: "
        "nothing to do. Gives what was negotiated",
    ),
    Entry(
        Request.SWD_LOGOUT,
        Argument.DICT,
        "dict",
        False,
        "`isw:` only: `device`: give back a session held by SWD_LOGIN; `logged_out` is false while disks use it",
    ),
    Entry(
        Request.SWD_RESET,
        Argument.DICT,
        "dict",
        True,
        "a disk of an iSCSI target: `level` lun (default), target_warm or target_cold; on `isw:`: besides, `device` "
        "(an iscsi:// DEV to which a session of this Driver leads); others lose their commands, too",
    ),
)
_BY_REQUEST: Final = {entry.request: entry for entry in TABLE}


def lookup(request: Request | str | int) -> Entry:
    """The entry for a member, its name, or its number. Unknown: `SwdError` with ENOTTY; another type: TypeError."""
    if isinstance(request, bool) or not isinstance(request, (str, int)):
        raise TypeError(f"an ioctl request is a Request, a str or an int, not {type(request).__name__}")
    try:
        member = Request[request] if isinstance(request, str) else Request(request)
    except (KeyError, ValueError):
        shown = request if isinstance(request, str) else hex(request)
        raise SwdError(
            f"there is no ioctl request {shown}: `swdctl ioctl --list` names them", errno=errno.ENOTTY
        ) from None
    return _BY_REQUEST[member]


def check(entry: Entry, arg: object) -> None:
    """Whether `arg` has the shape that the request wants. TypeError for a wrong type, `InvalidArgument` for a wrong
    value.
    """
    name = entry.request.name
    if entry.argument is Argument.NONE:
        if arg is not None:
            raise TypeError(f"{name} takes no argument")
    elif entry.argument is Argument.SG_IO:
        if not isinstance(arg, SgIo):
            raise TypeError(f"{name} takes an SgIo, not {type(arg).__name__}")
    elif entry.argument is Argument.DICT:
        if not (arg is None or (isinstance(arg, dict) and all(isinstance(key, str) for key in arg))):
            raise TypeError(f"{name} takes a dict with keys of type str, or None")
    else:
        _check_range(name, arg)


def _check_range(name: str, arg: object) -> None:
    if not isinstance(arg, (tuple, list)) or len(arg) != 2 or not all(type(number) is int for number in arg):
        raise TypeError(f"{name} takes (offset, length) in bytes")
    if min(arg) < 0:
        raise InvalidArgument(f"{name}: offset and length cannot be negative")
