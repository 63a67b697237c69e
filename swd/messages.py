# SPDX-License-Identifier: Apache-2.0
"""What swd has to say, as a table: a stable symbol, a level, the words, what it means and what to do.

The levels are the eight of the HP-UX driver's log, on the numbers of `logging`: a handler that is set to WARNING gets
PANIC to WARN. Every record carries its symbol (`record.symbol`), which does not change between versions, while words
may. As a library swd is silent: the logger "swd" has a NullHandler, and whoever wants to hear adds his own.
`ISW_LOG_...` and `ISCSI_LOG_...` are the original's symbols, used only where the meaning is the same.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import Final


class Level(enum.IntEnum):
    """0 to 7 of the original; the value is the number on `logging`'s scale."""

    PANIC = 70
    ALERT = 60
    CRIT = 50
    ERR = 40
    WARN = 30
    NOTE = 25
    INFO = 20
    DEBUG = 10


@dataclass(frozen=True, slots=True)
class Message:
    """`template` is filled by keywords; `meaning` and `next_step` are for the reader of docs/messages.md."""

    symbol: str
    level: Level
    template: str
    meaning: str
    next_step: str


TABLE: Final = (
    Message(
        "SWD_LOG_CONNECTION_LOST",
        Level.WARN,
        "{portal}: the connection is lost: {why}",
        "The link broke or the target closed it. The session is being brought back; commands wait meanwhile.",
        "Nothing, if SWD_LOG_SESSION_BACK follows. Else look at the network and at the target.",
    ),
    Message(
        "SWD_LOG_NOT_BACK_YET",
        Level.INFO,
        "{portal}: the session is not back yet: {why}",
        "One attempt to log in again failed; the next one follows.",
        "Nothing: attempts go on for replacement_timeout seconds.",
    ),
    Message(
        "SWD_LOG_SESSION_BACK",
        Level.NOTE,
        "{portal}: the session is back; {replayed} commands are sent again",
        "A new login took the lost session's place, its units are what they were, and what was open goes on.",
        "Nothing.",
    ),
    Message(
        "SWD_LOG_PATH_CHANGED",
        Level.WARN,
        "{portal}: does not answer; the session goes on with {target} at {now}",
        "The path in use did not come back, and another one leads to the same disks; what was open goes on there.",
        "Look why the first path is down. The session stays on the new one until that is lost.",
    ),
    Message(
        "ISCSI_LOG_TARGET_OFFLINE_EVENT",
        Level.ERR,
        "{portal}: the session is given up: {why}",
        "The target did not come back in time. All commands of the session fail from now on.",
        "Mend the network or the target, then open the device again; replacement_timeout= waits longer.",
    ),
    Message(
        "ISW_LOG_CLOSED_ON_LOGIN",
        Level.WARN,
        "{portal}: the connection ended while the login response was awaited: {why}",
        "The login failed without an answer.",
        "See whether an iSCSI target listens there, and its own log.",
    ),
    Message(
        "ISW_LOG_BAD_STATUS_CLASS",
        Level.WARN,
        "{portal}: login refused: status class {status_class}, detail {status_detail}: {why}",
        "The target answered the login with a status other than success.",
        "Class 2: look at names and credentials. Class 3: the target is short of something; see its log.",
    ),
    Message(
        "SWD_LOG_LOGIN_PROTOCOL_ERROR",
        Level.ERR,
        "{portal}: the login broke the protocol: {why}",
        "A login response was malformed or negotiated what may not be; nothing more was sent.",
        "Tell the target's vendor; `swdctl trace FILE -- VERB ...` records the bytes.",
    ),
    Message(
        "SWD_LOG_REDIRECTED",
        Level.INFO,
        "{portal}: {kind} redirect to {there}",
        "The target asked for the login to go to another address; the next login begins at the configured one again.",
        "After a permanent redirect, change the configured address.",
    ),
    Message(
        "SWD_LOG_PROTOCOL_ERROR",
        Level.ERR,
        "{portal}: the session ended by a protocol error: {why}",
        "The target broke RFC 7143, or rejected a PDU of ours. At recovery level 0 nothing can be mended.",
        "Tell the target's vendor, with the last headers (SWD_LOG_LAST_HEADERS) or a trace.",
    ),
    Message(
        "SWD_LOG_LAST_HEADERS",
        Level.NOTE,
        "{portal}: the last {count} PDU headers are in {place}",
        "The headers of both directions that came before the end of the session. They hold no data and no secret.",
        "Keep the file for the report; the next protocol error of the process writes over it.",
    ),
    Message(
        "SWD_LOG_REJECT",
        Level.ERR,
        "{portal}: rejected a PDU of ours: {why}",
        "The target sent a Reject PDU (RFC 7143 11.17).",
        "By its reason: digest errors are the network's, other reasons the target's or ours; record a trace.",
    ),
    Message(
        "SWD_LOG_ASYNC",
        Level.NOTE,
        "{portal}: asynchronous message: {what}",
        "The target told of an event (RFC 7143 11.9): a logout that it wants, a connection that it drops.",
        "Nothing, if the session comes back; often the target is being maintained.",
    ),
    Message(
        "SWD_LOG_PING_UNANSWERED",
        Level.WARN,
        "{portal}: no answer to a ping: the connection is dead",
        "Nothing came for a while, and the target did not answer a NOP-Out.",
        "Look at the network and at the target.",
    ),
    Message(
        "SWD_LOG_COMMAND_TIMEOUT",
        Level.WARN,
        "{portal}: a command got no answer within its time: {why}",
        "The task is aborted, then its unit reset, then the connection closed, until it is certain that it is dead.",
        "Look whether the target is overloaded; timeout= allows more time.",
    ),
    Message(
        "SWD_LOG_LOGOUT_FAILED",
        Level.DEBUG,
        "{portal}: logout failed: {why}",
        "The target did not answer the logout; the connection was closed all the same.",
        "Nothing.",
    ),
    Message(
        "SWD_LOG_STALE_IDENTITY",
        Level.ALERT,
        "{portal}: LUN {lun} is another disk than the one that was opened: {why}",
        "After a new login the unit answered with another identity or size. Nothing is sent to it any more.",
        "Do not write to it before you know why: compare the target's configuration; then open the device anew.",
    ),
    Message(
        "SWD_LOG_CONGESTION",
        Level.WARN,
        "congestion={name} is not to be had here: {why}; going on with the host's own",
        "The kernel does not have, or does not allow, this TCP congestion control.",
        "Load its module, or leave the option out.",
    ),
    Message(
        "SWD_LOG_TARGET_SHORT",
        Level.WARN,
        "{portal}: the embedded target cannot take another connection yet: {why}",
        "Its process has no descriptor or memory left. Who connects waits until there is one; sessions go on.",
        "Allow it more descriptors (ulimit -n), or let fewer initiators connect.",
    ),
    Message(
        "SWD_LOG_PARTITION_TABLE",
        Level.WARN,
        "{device}: {why}",
        "The partition table is damaged or says more than the disk has; what could be used of it is used.",
        "Compare the table with what the disk should have, then mend it where the disk is attached.",
    ),
    Message(
        "SWD_LOG_VOLUME_GROUP",
        Level.WARN,
        "{why}",
        "A volume group is not as it should be: a metadata area is damaged or old, a physical volume is not there.",
        "Mend it with LVM's own tools where the disks are attached.",
    ),
    Message(
        "SWD_LOG_TRACE_GAP",
        Level.WARN,
        "{portal}: the trace lacks {lost} bytes: there was no room",
        "PDUs passed faster than they could be written.",
        "Trace less load, or write to a faster disk.",
    ),
)
_BY_SYMBOL: Final = {message.symbol: message for message in TABLE}

for _level in (Level.PANIC, Level.ALERT, Level.NOTE):
    logging.addLevelName(_level, _level.name)
logging.getLogger("swd").addHandler(logging.NullHandler())


def say(logger: logging.Logger, symbol: str, **values: object) -> None:
    """Logs a message of the table. KeyError for a symbol that is none, or a value that is missing."""
    message = _BY_SYMBOL[symbol]
    if logger.isEnabledFor(message.level):
        text = message.template.format_map(values)
        logger.log(message.level, "%s %s", symbol, text, extra={"symbol": symbol}, stacklevel=2)


def document() -> str:
    """docs/messages.md."""
    lines = [
        "# Messages",
        "",
        "Made from the table in `swd/messages.py`; a test holds this page to it. Symbols are stable, words are not.",
        "As a library swd is silent until a handler is added to the logger `swd`; `swdctl --verbose` shows all from",
        "INFO up, `--debug` all.",
        "",
        "| level | number in `logging` |",
        "| --- | --- |",
        *(f"| {level.name} | {level.value} |" for level in Level),
    ]
    for message in sorted(TABLE, key=lambda row: row.symbol):
        lines += [
            "",
            f"## {message.symbol} ({message.level.name})",
            "",
            f"    {message.template}",
            "",
            message.meaning,
            "",
            f"What to do: {message.next_step}",
        ]
    return "\n".join(lines) + "\n"
