# SPDX-License-Identifier: Apache-2.0
"""The engine has its own idea of a header, `swd.proto.pdu` has another: bytes hold the two together."""

from __future__ import annotations

import pytest
from engine_hand import AGREED
from engine_rig import LUN

from swd._engine import Engine
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.values import RESERVED_TAG, Event

CDB = bytes.fromhex("2a000000000800001000") + bytes(6)
LUN_FIELD = int.from_bytes(LUN, "big")
DATA = bytes(range(251)) * 9


def split(stream: bytes) -> list[tuple[pdu.Pdu, bytes]]:
    """(record, data) of each PDU of a stream without digests."""
    found = []
    while stream:
        record = pdu.unpack(stream[:48])
        end = 48 + len(pdu.padded(bytes(record.data_segment_length)))
        found.append((record, stream[48 : 48 + record.data_segment_length]))
        stream = stream[end:]
    return found


def engine() -> Engine:
    made = Engine(AGREED)
    made.submit(LUN, b"\x28")  # so that the tags below are no zeros
    made.output()
    return made


def test_command_and_data_out() -> None:
    target = engine()
    itt = target.submit(LUN, CDB[:10], DATA[:2049])
    ((command, immediate),) = split(target.output())
    assert command == pdu.ScsiCommand(
        write=True,
        lun=LUN_FIELD,
        itt=itt,
        expected_data_transfer_length=2049,
        cmd_sn=11,
        exp_stat_sn=100,
        cdb=CDB,
        data_segment_length=1024,
    )
    asks = pdu.R2T(
        itt=itt,
        ttt=0x01020304,
        lun=LUN_FIELD,
        stat_sn=100,
        exp_cmd_sn=12,
        max_cmd_sn=41,
        buffer_offset=1024,
        desired_data_transfer_length=1025,
    )
    target.feed(asks.pack())
    first, last = split(target.output())
    common = {"lun": LUN_FIELD, "itt": itt, "ttt": 0x01020304, "exp_stat_sn": 100}
    assert first[0] == pdu.DataOut(final=False, data_sn=0, buffer_offset=1024, data_segment_length=1024, **common)
    assert last[0] == pdu.DataOut(final=True, data_sn=1, buffer_offset=2048, data_segment_length=1, **common)
    assert immediate + first[1] + last[1] == DATA[:2049]
    target.feed(pdu.ScsiResponse(itt=itt, stat_sn=100, exp_cmd_sn=12, max_cmd_sn=41).pack())
    assert [(tag, end.status) for tag, end in target.completions()] == [(itt, 0)]


def test_data_in_and_sense() -> None:
    target = engine()
    buffer = bytearray(512)
    itt = target.submit(LUN, CDB, None, buffer)
    ((command, _),) = split(target.output())
    assert isinstance(command, pdu.ScsiCommand)
    assert (command.read, command.write, command.expected_data_transfer_length) == (True, False, 512)
    part = pdu.DataIn(itt=itt, final=False, data_sn=0, buffer_offset=0, data_segment_length=100)
    target.feed(part.pack() + DATA[:100])
    sense = b"\0\x02\x70\x00"
    end = pdu.ScsiResponse(
        itt=itt, status=2, underflow=True, residual_count=412, stat_sn=100, data_segment_length=len(sense)
    )
    target.feed(end.pack() + sense)
    ((tag, completion),) = target.completions()
    assert tag == itt
    assert completion == (itt, 0, 2, True, False, 412, 100, sense)
    assert buffer[:100] == DATA[:100]


def test_data_in_with_status() -> None:
    target = engine()
    itt = target.submit(LUN, CDB, None, bytearray(8))
    target.output()
    last = pdu.DataIn(itt=itt, status_present=True, stat_sn=100, overflow=True, residual_count=3, data_segment_length=8)
    target.feed(last.pack() + b"abcdefgh")
    assert target.completions() == [(itt, (itt, 0, 0, False, True, 3, 8, b""))]


def test_ping_of_the_target() -> None:
    target = engine()
    target.feed(pdu.NopIn(ttt=5, lun=LUN_FIELD, stat_sn=100).pack())
    assert split(target.output()) == [
        (pdu.NopOut(immediate=True, lun=LUN_FIELD, ttt=5, itt=RESERVED_TAG, cmd_sn=11, exp_stat_sn=100), b"")
    ]


REQUESTS = [
    (pdu.NopOut(itt=0, immediate=True), pdu.NopIn(itt=0)),
    (pdu.NopOut(itt=0), pdu.NopIn(itt=0)),
    (pdu.TextRequest(itt=0), pdu.TextResponse(itt=0)),
    (pdu.TaskManagementRequest(itt=0, function=1, referenced_task_tag=9, lun=3), pdu.TaskManagementResponse(itt=0)),
    (pdu.LogoutRequest(itt=0, reason=1, cid=2), pdu.LogoutResponse(itt=0, time2wait=2)),
]


@pytest.mark.parametrize(("request_", "answer"), REQUESTS, ids=lambda record: type(record).__name__)
def test_other_requests_keep_their_fields_and_get_their_numbers(request_: pdu.Pdu, answer: pdu.Pdu) -> None:
    target = engine()
    carries = request_.opcode in (Opcode.NOP_OUT, Opcode.TEXT_REQUEST)
    data = b"12345" if carries else b""
    itt = target.control(request_.pack(), data, answer=answer.opcode)
    ((record, sent),) = split(target.output())
    expected = bytearray(request_.pack())
    expected[5:8] = len(data).to_bytes(3, "big")
    expected[16:20] = itt.to_bytes(4, "big")
    expected[24:32] = (11).to_bytes(4, "big") + (100).to_bytes(4, "big")
    assert record.pack() == expected
    assert sent == data
    response = bytearray(answer.pack())
    response[16:20] = itt.to_bytes(4, "big")
    response[24:28] = (100).to_bytes(4, "big")
    target.feed(response)
    assert target.completions() == [(itt, Event(answer.opcode, bytes(response), b""))]


@pytest.mark.parametrize("record", [pdu.AsyncMessage(async_event=1, stat_sn=100), pdu.Reject(reason=9, stat_sn=100)])
def test_events(record: pdu.Pdu) -> None:
    target = engine()
    target.feed(record.pack())
    assert target.take_events() == [Event(record.opcode, record.pack(), b"")]
