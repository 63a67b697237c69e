# SPDX-License-Identifier: Apache-2.0
"""The kinds of fault, as a table: where each can strike, what may be set, and what a good initiator makes of it.

A new kind is a row here, a function of the same name in the table of its place (`wire`, `answers`, `requests`,
`login_faults`), and a test. `docs/faults.md` is written from these rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from swd.proto.pdu import Opcode
from swd.target.faults import words

Place = Literal["wire", "answer", "request", "login", "block"]
REQUIRED: Final = object()


class Param(NamedTuple):
    """A setting of a kind; `default` is REQUIRED where it must be given."""

    name: str
    read: Callable[[object], object]
    default: object
    help: str


class Kind(NamedTuple):
    """`place`: wire (a PDU as it comes or goes), answer (a PDU that the target sends), request (one that it is about to
    carry out), login (a Login Request). `pdus`: what it strikes when the plan does not say; `may`: what it could.
    `block`: it works over a DEV, without a wire, too.
    """

    name: str
    place: Place
    pdus: tuple[str, ...]
    help: str
    good: str
    example: str
    params: tuple[Param, ...] = ()
    may: tuple[str, ...] = ()
    block: bool = False


_ANSWERS = tuple(opcode.name for opcode in Opcode if opcode >= 0x20)
_REQUESTS = tuple(opcode.name for opcode in Opcode if opcode < 0x20)
_ANY = _REQUESTS + _ANSWERS
_STATUS = ("DATA_IN", "SCSI_RESPONSE")  # what ends a command
_NUMBERED = tuple(name for name in _ANSWERS if name != "LOGIN_RESPONSE")
_COMMAND = ("SCSI_COMMAND",)

_RECOVERS = "Logs in again with the same ISID and sends again what was open; callers notice a pause only."
_BREAKS = "Ends the session with a protocol error at once, or drops the connection; never hands out wrong data."
_DEADLINE = "Finds out by its deadline, with a ping first: then aborts the command or replaces the connection."
_DIGEST = "With digests: drops the connection, logs in again and sends again. Without: cannot know."


def _by(default: int) -> Param:
    return Param("by", words.signed, default, "added to the right number")


_TABLE: Final = (
    # --- a PDU on the wire
    Kind("drop", "wire", _STATUS, "the PDU is lost", _DEADLINE, 'pdu = "SCSI_RESPONSE", nth = 3', may=_ANY),
    Kind(
        "delay", "wire", _STATUS, "the PDU, and all behind it, comes late", "Waits; pings when nothing came for long.",
        "seconds = 0.5, every = 20", (Param("seconds", words.seconds, REQUIRED, "how late"),), _ANY, block=True,
    ),
    Kind(
        "reorder", "wire", _STATUS, "the PDU changes places with the one behind it",
        "Commands may be answered in any order, but StatSN and DataSN tell that PDUs were not: " + _BREAKS,
        'pdu = "DATA_IN", nth = 2', may=_ANY,
    ),
    Kind("close", "wire", _STATUS, "the connection ends with a FIN instead of the PDU", _RECOVERS, "every = 100",
         may=_ANY, block=True),
    Kind("reset", "wire", _STATUS, "the connection is reset (RST) instead of the PDU", _RECOVERS, "chance = 0.001",
         may=_ANY, block=True),
    Kind(
        "poison", "wire", _COMMAND, "who touches this block loses the connection, each time",
        "Gives up that one command after some replays, and brings all others through.", "lba = 4711",
        may=_ANY, block=True,
    ),
    Kind(
        "silence", "wire", _STATUS, "from here on nothing is answered on this connection; what comes is read",
        "Pings, gets no answer, replaces the connection, and sends again what was open.", "nth = 50", may=_ANY,
    ),
    Kind(
        "stop_reading", "wire", _COMMAND, "the target reads nothing more from this connection, for a time or for ever",
        "As for silence; its sender must not hang, nor its memory grow.", "nth = 20, seconds = 2",
        (Param("seconds", words.seconds, 0.0, "how long; 0: for ever"),), _ANY,
    ),
    # --- a PDU that the target sends
    Kind("duplicate", "answer", _STATUS, "the PDU is sent twice", _BREAKS, 'pdu = "DATA_IN", nth = 5', may=_ANSWERS),
    Kind(
        "truncate", "answer", _STATUS, "only the first bytes of the PDU come, then the connection ends", _RECOVERS,
        "bytes = 20, nth = 7", (Param("bytes", words.whole, 20, "that are still sent"),), _ANSWERS,
    ),
    Kind(
        "corrupt_header", "answer", _STATUS, "bits of the header are flipped behind the digest's back",
        _DIGEST + " What is no legal header ends the session.", "byte = 36, bits = 0x40, nth = 9",
        (
            Param("byte", lambda value: words.whole(value, 0, 47), 36, "of the header, from 0"),
            Param("bits", lambda value: words.whole(value, 1, 255), 0x40, "that are flipped"),
        ), _ANSWERS,
    ),
    Kind(
        "corrupt_data", "answer", ("DATA_IN",), "bits of the data are flipped behind the digest's back", _DIGEST,
        "every = 50",
        (
            Param("byte", words.whole, 0, "of the data segment, from 0; counted round its end"),
            Param("bits", lambda value: words.whole(value, 1, 255), 0x40, "that are flipped"),
        ), _ANSWERS,
    ),
    Kind("corrupt_header_digest", "answer", _STATUS, "the header digest is wrong, the header is not", _RECOVERS,
         "every = 50", may=_ANSWERS),
    Kind("corrupt_data_digest", "answer", ("DATA_IN",), "the data digest is wrong, the data is not", _RECOVERS,
         "every = 50", may=_ANSWERS),
    Kind("wrong_stat_sn", "answer", _STATUS, "StatSN is wrong: a status seems to be missing", _BREAKS, "nth = 3",
         (_by(1),), _NUMBERED),
    Kind("wrong_data_sn", "answer", ("DATA_IN",), "DataSN is wrong: a Data-In seems to be missing", _BREAKS, "nth = 3",
         (_by(1),)),
    Kind("wrong_r2t_sn", "answer", ("R2T",), "R2TSN is wrong", _BREAKS, "nth = 1", (_by(1),)),
    Kind("wrong_exp_cmd_sn", "answer", _STATUS, "ExpCmdSN is wrong: commands seem to have come that were never sent",
         "Ignores both numbers, or ends the session; never sends what the window does not allow.", "nth = 3, by = 1000",
         (_by(1000),), _NUMBERED),
    Kind("wrong_max_cmd_sn", "answer", _STATUS, "MaxCmdSN is wrong, by default one that goes back",
         "Ignores numbers that go back, and those where MaxCmdSN is below ExpCmdSN - 1 (RFC 7143 4.2.2.1).",
         "count = 20, by = -200", (_by(-200),), _NUMBERED),
    Kind("shut_window", "answer", _NUMBERED, "MaxCmdSN stays behind: no new command may be sent meanwhile",
         "Lets commands wait, sends nothing beyond the window, goes on when it opens.", "count = 10"),
    Kind("wrong_itt", "answer", _STATUS, "the Initiator Task Tag is that of no command", _BREAKS, "nth = 3",
         (_by(0x10000),), _NUMBERED),
    Kind("wrong_ttt", "answer", ("R2T",), "the Target Transfer Tag is another one",
         "Answers with that tag: it is the target's own affair. A reserved tag (by = -1 - tag) is an error.", "nth = 1",
         (_by(0x1000),)),
    Kind("wrong_offset", "answer", ("DATA_IN",), "Buffer Offset is wrong", _BREAKS, "nth = 2, by = 512", (_by(512),),
         ("DATA_IN", "R2T")),
    Kind("wrong_residual", "answer", _STATUS, "a residual count that does not fit the bytes that moved",
         "Does not take the transfer for a whole one: error, or another try.", "nth = 2, by = 512", (_by(512),)),
    Kind("wrong_length", "answer", _STATUS, "DataSegmentLength is not the length of what follows",
         "Loses the thread: ends the connection, never hands out what it read.", "nth = 2, by = 4", (_by(4),),
         _ANSWERS),
    Kind(
        "wrong_field", "answer", (), "any field of the header, by its name in swd.proto.pdu", _BREAKS,
        'pdu = "DATA_IN", field = "status", value = 255, nth = 2',
        (
            Param("field", words.text, REQUIRED, "a field of these PDUs"),
            Param("value", words.whole, REQUIRED, "what it says instead"),
        ), _ANSWERS,
    ),
    Kind("garbage", "answer", _STATUS, "random bytes come before the PDU", _BREAKS + " Does not read on for ever.",
         "bytes = 480, nth = 4",
         (Param("bytes", lambda value: words.whole(value, 1, 1 << 20), 480, "how many"),), _ANSWERS),
    Kind("r2t_too_long", "answer", ("R2T",), "the R2T asks for more than MaxBurstLength", _BREAKS, "nth = 1"),
    Kind("r2t_out_of_range", "answer", ("R2T",), "the R2T asks for bytes that the command has not", _BREAKS, "nth = 1"),
    Kind("r2t_empty", "answer", ("R2T",), "the R2T asks for no bytes", _BREAKS, "nth = 1"),
    Kind("r2t_too_many", "answer", ("R2T",), "more R2Ts than MaxOutstandingR2T allows", _BREAKS, "nth = 1"),
    Kind("r2t_overlapping", "answer", ("R2T",), "a second R2T asks for the same bytes again", _BREAKS, "nth = 1"),
    Kind(
        "wrong_key", "answer", ("LOGIN_RESPONSE",), "a lie in a key: the answer says another value, or leaves it out",
        "Checks every value against what it offered and what the key allows; refuses to log in.",
        'key = "MaxRecvDataSegmentLength", value = "0"',
        (
            Param("key", words.text, REQUIRED, "name of the text key; added where the answer has it not"),
            Param("value", words.loose_text, None, "what it says instead; without it the key is left out"),
        ), ("LOGIN_RESPONSE", "TEXT_RESPONSE"),
    ),
    # --- a request, before it is carried out
    Kind("busy", "request", _COMMAND, "the command ends with BUSY",
         "Waits a little and tries again, within the deadline.", "every = 10", block=True),
    Kind("task_set_full", "request", _COMMAND, "the command ends with TASK SET FULL",
         "Waits a little and tries again, perhaps with a shorter queue.", "every = 10", block=True),
    Kind("reservation_conflict", "request", _COMMAND, "the command ends with RESERVATION CONFLICT",
         "Reports it (EBUSY) and does not try again by itself.", 'command = "WRITE", nth = 1', block=True),
    Kind("status", "request", _COMMAND, "the command ends with any SCSI status",
         "Reports what it does not know as EIO.", "code = 0x30, nth = 2",
         (Param("code", words.byte, REQUIRED, "the status, such as 0x30"),), block=True),
    Kind(
        "check_condition", "request", _COMMAND, "the command ends with CHECK CONDITION and this sense",
        "Retries what is worth it (unit attentions, 2/04/01, B/..), reports the rest with its sense.",
        'sense = "3/11/00", lba = "100-199"',
        (
            Param("sense", words.sense, REQUIRED, "key, ASC and ASCQ; or all of its bytes in hexadecimal, in any form"),
            Param(
                "bytes", lambda value: words.whole(value, 0, words.MOST_SENSE), None,
                "a limit for the bytes of it that come: short sense",
            ),
        ), block=True,
    ),
    Kind("unit_attention", "request", _COMMAND, "a unit attention is established for every initiator",
         "Retries the command; looks again at what has changed (2A/09: capacity, 3F/..: identity).",
         'asc = 0x2A, ascq = 0x09, nth = 10',
         (Param("asc", words.byte, REQUIRED, "additional sense code"), Param("ascq", words.byte, 0, "its qualifier"))),
    Kind("slow", "request", _COMMAND, "this command is carried out late; others overtake it",
         "Waits up to its deadline, and pings meanwhile.", 'seconds = 1.5, command = "READ", every = 30',
         (Param("seconds", words.seconds, REQUIRED, "how late"),), block=True),
    Kind("no_answer", "request", _COMMAND, "the command is taken and never answered; the connection lives",
         "At its deadline: ping, ABORT TASK, LOGICAL UNIT RESET, and only then a new connection.", "nth = 12",
         block=True),
    Kind("wrong_data", "request", _COMMAND, "the medium lies: data that is read is not what was written; digests agree",
         "Cannot know. A checker above it must.", 'command = "READ", nth = 100',
         (Param("byte", words.whole, 0, "of the data, from 0; counted round its end"),), block=True),
    Kind("short_read", "request", _COMMAND, "a read ends GOOD with fewer bytes, honestly counted as residual",
         "Does not take it for a whole one.", 'command = "READ", nth = 3', block=True),
    Kind("lost_write", "request", _COMMAND, "a write is acknowledged and not stored",
         "Cannot know. A checker above it must.", 'command = "WRITE", nth = 100', block=True),
    Kind(
        "ghost", "request", _COMMAND, "the connection dies over a write, which is carried out later",
        "Waits Time2Wait, reinstates the session under the same ISID (which ends the old command), then writes again.",
        'command = "WRITE", nth = 10, seconds = 0.2',
        (
            Param("seconds", words.seconds, 0.2, "how much later"),
            Param("stubborn", words.boolean, False, "even if the session was reinstated: no initiator survives that"),
        ),
    ),
    Kind("r2t_on_read", "request", _COMMAND, "an R2T comes for a read", _BREAKS, 'command = "READ", nth = 3'),
    Kind(
        "async_message", "request", _COMMAND, "an asynchronous message comes before the answer",
        "logout: logs out and in again. drop_connection, drop_session: expects the end, and comes back. Others: notes.",
        'event = "logout", nth = 20',
        (
            Param("event", words.event, REQUIRED, "logout, drop_connection, drop_session, ..., or its number"),
            Param("vcode", words.byte, 0, "AsyncVCode"),
            Param("parameter1", lambda value: words.whole(value, 0, 65535), 0, "Parameter1"),
            Param("parameter2", lambda value: words.whole(value, 0, 65535), 0, "Parameter2: Time2Wait"),
            Param("parameter3", lambda value: words.whole(value, 0, 65535), 1, "Parameter3: seconds to log out"),
        ), _REQUESTS,
    ),
    Kind("reject", "request", _COMMAND, "the PDU is answered with a Reject and not carried out",
         "Ends or repeats the one command, or replaces the connection; does not wait for an answer for ever.",
         'reason = "invalid_field", nth = 5',
         (Param("reason", words.reason, REQUIRED, "a word of RFC 7143 11.17.1, or its number"),), _REQUESTS),
    Kind("task_management_response", "request", ("TASK_MANAGEMENT_REQUEST",),
         "a task management function is refused instead of done",
         "Goes on to the next step: LUN reset, then a new connection.", "response = 5",
         (Param("response", words.byte, 5, "the response code; 5: not supported"),)),
    Kind(
        "identity_change", "request", _COMMAND, "from here on the unit says that it is another disk",
        "Compares identities after every login and after 3F/03; not a byte goes to the other disk (ESTALE).",
        'serial = "ANOTHER", connection = "2-", nth = 1',
        (
            Param("serial", words.text, "ANOTHER-DISK", "the new serial number; the NAA name follows from it"),
            Param("attention", words.boolean, True, "whether 3F/03 tells of it"),
        ),
    ),
    Kind(
        "size_change", "request", _COMMAND, "from here on the unit has so many blocks",
        "Reads the capacity again after 2A/09 and after a login; a disk that shrank is another disk (ESTALE).",
        "blocks = 100, nth = 30",
        (
            Param("blocks", words.counting, REQUIRED, "at most those of its medium; first fewer, then more: it grows"),
            Param("attention", words.boolean, True, "whether 2A/09 tells of it"),
        ),
    ),
    # --- a Login Request
    Kind("login_status", "login", ("LOGIN_REQUEST",), "the login is refused with any status class and detail",
         "02xx: reports it, and does not try again with less security. 03xx: tries again for a while.",
         'status = "0302", connection = 1', (Param("status", words.status, REQUIRED, "class and detail"),)),
    Kind(
        "redirect", "login", ("LOGIN_REQUEST",), "the login is redirected",
        "Follows, a few times at most, to the same target name; comes back to the first portal next time.",
        'to = "192.0.2.11:3260,1", nth = 1',
        (
            Param("to", words.text, REQUIRED, 'TargetAddress; "self": this portal, for ever'),
            Param("permanent", words.boolean, False, "status 0102 instead of 0101"),
        ),
    ),
)  # fmt: skip

KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in _TABLE}


def allowed(kind: Kind) -> tuple[str, ...]:
    """The PDUs that a kind can strike."""
    return kind.may or kind.pdus
