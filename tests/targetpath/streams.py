# SPDX-License-Identifier: Apache-2.0
"""Random requests, most of them right and some of them wrong, that do not depend on when they are read.

What is read and what is written lie in different halves of the disk, for a SIMPLE read may see a write that comes
behind it. The halves change places when no write is open.
"""

from __future__ import annotations

import random

from target_server.raw_initiator import CRC, read_10, sixteen, write_10

from swd.proto import pdu
from swd.values import RESERVED_TAG, Negotiated

BLOCKS = 4096  # of 512 bytes
_SNACK = 0x10


class Stream:
    """Makes the bytes of PDUs in the numbers of one session. `expect` reads answers, so that R2Ts are obeyed."""

    def __init__(self, seed: int, agreed: Negotiated, blocks: int) -> None:
        self.random = random.Random(seed)
        self.agreed = agreed
        self.blocks = blocks
        self.cmd_sn, self.itt = agreed.cmd_sn, 0x1000
        self.read_low = True
        self.open: dict[int, bytes] = {}  # writes that may be asked for more: ITT -> all of their data
        self.asked: list[pdu.R2T] = []
        self.parts = (
            (self.read, 30), (self.write, 30), (self.odd_command, 12), (self.solicited, 20), (self.bad_data_out, 3),
            (self.greedy, 2), (self.management, 2), (self.other, 3), (self.numbering, 4),
        )  # fmt: skip

    def stage(self, count: int) -> tuple[bytes, int]:
        """So many random parts, and a ping behind them: all the bytes, and the tag of the ping."""
        makers, weights = zip(*self.parts, strict=True)
        if not self.asked:
            self.read_low = not self.read_low
        data = b"".join(maker() for maker in self.random.choices(makers, weights, k=count))
        ping = self.tag()
        # Immediate, so that a gap in the numbers does not hold it back.
        return data + self.pack(pdu.NopOut(immediate=True, itt=ping, cmd_sn=self.cmd_sn)), ping

    def expect(self, answers: bytes) -> None:
        """Look through what both sides said: R2Ts to obey, writes that are over."""
        at = 0
        while at < len(answers):
            bhs = answers[at : at + 48]
            length = int.from_bytes(bhs[5:8], "big")
            at += 48 + 4 * self.agreed.header_digest + length + (-length & 3)
            at += 4 * (self.agreed.data_digest and length > 0)
            header = pdu.unpack(bhs)
            if isinstance(header, pdu.R2T):
                self.asked.append(header)
            elif isinstance(header, pdu.ScsiResponse):
                self.open.pop(header.itt, None)

    def pack(self, header: pdu.Pdu, data: bytes = b"", *, ahs: bytes = b"") -> bytes:
        packed = bytearray(header.pack())
        packed[4] = len(ahs) // 4
        packed[5:8] = len(data).to_bytes(3, "big")
        out = bytes(packed) + ahs
        if self.agreed.header_digest:
            out += CRC(out).to_bytes(4, "little")
        body = data + bytes(-len(data) & 3)
        if self.agreed.data_digest and body:
            body += CRC(body).to_bytes(4, "little")
        return out + body

    def tag(self) -> int:
        self.itt += 1
        return self.itt

    def number(self) -> int:
        self.cmd_sn += 1
        return self.cmd_sn - 1

    # ---- commands --------------------------------------------------------------------------------------------------

    def cdb(self, write: bool, size: int) -> tuple[bytes, int, int]:
        """A READ or WRITE of up to 64 blocks in this stage's half: CDB, LUN, and its length in bytes."""
        lun = self.random.choice((0, 0, 1))
        block = (512, 4096)[lun]
        blocks = self.blocks * 512 // block
        low = self.read_low != write
        count = max(1, min(self.random.choice((1, 1, 8, 8, 24, 64)) * 512 // block, size // block))
        lba = self.random.randrange(blocks // 2 - count) + (0 if low else blocks // 2)
        return self.layout(write, lba, count), lun, count * block

    def layout(self, write: bool, lba: int, count: int) -> bytes:
        kind = self.random.randrange(4)
        flags = self.random.choice((0, 0, 0x08, 0x10, 0x18))
        if kind == 0:
            return bytes([8 + 2 * write]) + lba.to_bytes(3, "big") + bytes([count % 256, 0])
        if kind == 1:
            return (write_10 if write else read_10)(lba, count)
        if kind == 2:
            return bytes([0xA8 + 2 * write, flags]) + lba.to_bytes(4, "big") + count.to_bytes(4, "big") + bytes(2)
        return sixteen(0x88 + 2 * write, lba, count, flags=flags)

    def command(self, cdb: bytes, lun: int, length: int, data: bytes = b"", **fields: object) -> bytes:
        header: dict[str, object] = {
            "lun": lun << 48,
            "itt": self.tag(),
            "cdb": cdb.ljust(16, b"\0"),
            "expected_data_transfer_length": length,
            **fields,
        }
        if "cmd_sn" not in header:
            header["cmd_sn"] = self.cmd_sn if header.get("immediate") else self.number()
        return self.pack(pdu.ScsiCommand(**header), data)  # type: ignore[arg-type]

    def read(self) -> bytes:
        cdb, lun, length = self.cdb(False, 1 << 16)
        return self.command(cdb, lun, length, read=True, attributes=self.random.choice((0, *[1] * 9, 2, 3)))

    def write(self) -> bytes:
        """With immediate data, unsolicited Data-Out behind it, or nothing; all as agreed."""
        cdb, lun, length = self.cdb(True, 1 << 15)
        data = self.random.randbytes(length)
        first = min(length, self.agreed.first_burst_length)
        at = 0
        if self.agreed.immediate_data:
            at = self.random.choice((0, min(first, 4096), min(first, self.agreed.target_max_recv_data_segment_length)))
        unsolicited = not self.agreed.initial_r2t and at < first and self.random.random() < 0.6
        out = self.command(cdb, lun, length, data[:at], write=True, final=not unsolicited)
        self.open[self.itt] = data
        if unsolicited:
            out += self.sequence(self.itt, RESERVED_TAG, data, at, first)
        return out

    def sequence(self, itt: int, ttt: int, data: bytes, start: int, end: int) -> bytes:
        """Data-Out PDUs of random lengths."""
        out, number = b"", 0
        while start < end:
            step = self.random.choice((512, 4096, 8192, 100))
            step = min(step, end - start, self.agreed.target_max_recv_data_segment_length)
            header = pdu.DataOut(
                itt=itt, ttt=ttt, data_sn=number, buffer_offset=start, final=start + step == end
            )
            out += self.pack(header, data[start : start + step], ahs=bytes(4 * (self.random.random() < 0.1)))
            start, number = start + step, number + 1
        return out

    def solicited(self) -> bytes:
        """What an R2T asks for."""
        if not self.asked:
            return b""
        r2t = self.asked.pop(0)
        data = self.open.get(r2t.itt, b"").ljust(1 << 16, b"x")
        end = r2t.buffer_offset + r2t.desired_data_transfer_length
        return self.sequence(r2t.itt, r2t.ttt, data, r2t.buffer_offset, end)

    def bad_data_out(self) -> bytes:
        """Data-Out out of order, too long, too short, or of nobody."""
        r2t = self.asked.pop(0) if self.asked else None
        offset, length = (r2t.buffer_offset, r2t.desired_data_transfer_length) if r2t else (0, 512)
        wrong = self.random.choice(("sn", "offset", "long", "short", "tag"))
        header = pdu.DataOut(
            itt=r2t.itt if r2t else self.random.choice((0xDEAD, *self.open)),
            ttt=r2t.ttt if r2t and wrong != "tag" else self.random.choice((0xBEEF, RESERVED_TAG)),
            data_sn=wrong == "sn",
            buffer_offset=offset + 512 * (wrong == "offset"),
        )
        return self.pack(header, bytes(min(length + {"long": 4, "short": -4}.get(wrong, 0), 4096)))

    def greedy(self) -> bytes:
        """A write that brings more, unasked, than it may: of the first burst, or of itself."""
        cdb, lun, length = self.cdb(True, 1 << 13)
        out = self.command(cdb, lun, length, write=True, final=False)
        end = min(length, self.agreed.first_burst_length)
        start = self.random.choice((0, min(end - 256, self.agreed.target_max_recv_data_segment_length)))
        if start:
            header = pdu.DataOut(itt=self.itt, final=False)
            out += self.pack(header, self.random.randbytes(start))
        more = pdu.DataOut(itt=self.itt, final=self.random.random() < 0.5, data_sn=start > 0, buffer_offset=start)
        length = min(end - start + self.random.choice((4, 512)), self.agreed.target_max_recv_data_segment_length)
        return out + self.pack(more, self.random.randbytes(length))

    def odd_command(self) -> bytes:
        """Commands that the compiled path does not know, or that are wrong."""
        cdb, lun, length = self.cdb(False, 1 << 14)
        half = 0 if self.read_low else self.blocks // 2
        other = (self.blocks // 2 - half) + self.random.randrange(self.blocks // 2 - 64)
        unmap = b"\0\x16\0\x10" + bytes(4) + other.to_bytes(8, "big") + b"\0\0\0\x20"
        choices = (
            lambda: self.command(bytes(6), lun, 0),
            lambda: self.command(bytes([0x12, 0, 0, 0, 96, 0]), lun, 96, read=True),
            lambda: self.command(bytes([0x03, 0, 0, 0, 18, 0]), lun, 18, read=True),
            lambda: self.command(bytes([0x35]), lun, 0),
            lambda: self.command(sixteen(0x9E, 0, 0)[:1] + b"\x10" + bytes(11) + b"\x20", lun, 32, read=True),
            lambda: self.command(b"\x9e\x12" + half.to_bytes(8, "big") + bytes(2) + b"\x01\0", 0, 256, read=True),
            lambda: self.command(b"\x42" + bytes(7) + b"\x18" + b"\0", 0, 24, unmap + bytes(4), write=True),
            lambda: self.command(sixteen(0x93, other, 8, flags=8), 0, 512, bytes(512), write=True),
            lambda: self.command(sixteen(0x93, other, 3), 0, 512, b"ab" * 256, write=True),
            lambda: self.command(read_10(self.blocks - 4, 8), 0, 4096, read=True),
            lambda: self.command(read_10(0xFFFFFFFF, 8), lun, 4096, read=True),
            lambda: self.command(sixteen(0x88, (1 << 64) - 4, 8), lun, 4096, read=True),
            lambda: self.command(sixteen(0x8A, self.blocks, 1), lun, 512, write=True),
            lambda: self.command(read_10(half, 0), lun, 0, read=True),
            lambda: self.command(cdb, lun, length + 512, read=True),
            lambda: self.command(cdb, lun, max(length - 100, 0), read=True),
            lambda: self.command(cdb, lun, length, read=True, immediate=True),
            lambda: self.command(cdb, lun, length, b"data", read=True),
            lambda: self.command(cdb, 5, length, read=True),
            lambda: self.command(bytes([cdb[0], 0x20]) + cdb[2:], lun, length, read=True),
            lambda: self.command(write_10(other, 8), 0, 4096, bytes(3000), write=True),
            lambda: self.command(write_10(other, 8), 0, 2000, bytes(min(2000, 512)), write=True),
            lambda: self.command(write_10(other, 8), 0, 4096, bytes(512), write=True, final=False),
            lambda: self.command(b"\xff", lun, 0),
        )
        return self.random.choice(choices)()

    # ---- other requests --------------------------------------------------------------------------------------------

    def management(self) -> bytes:
        function = self.random.choice((1, 1, 2, 5))
        tag = self.random.choice((*self.open, 0xDEAD))
        for_unit = 0 if function == 1 else self.random.choice((0, 1, 3))
        header = pdu.TaskManagementRequest(
            function=function, lun=for_unit << 48, itt=self.tag(), cmd_sn=self.cmd_sn, referenced_task_tag=tag,
            ref_cmd_sn=self.cmd_sn - 1,
        )  # fmt: skip
        return self.pack(header)

    def other(self) -> bytes:
        ping = pdu.NopOut(itt=self.tag(), cmd_sn=self.number())
        query = pdu.TextRequest(itt=self.tag(), cmd_sn=self.number())
        return self.random.choice((
            self.pack(ping, b"hello") + self.pack(query, b"X-com.example.y=1\0"),
            self.pack(pdu.NopOut(immediate=True, itt=RESERVED_TAG)) + self.pack(ping) + self.pack(query),
            self.pack(ping) + self.pack(query) + self.pack(pdu.DataOut(itt=1), b"xyz"),
        ))  # fmt: skip

    def numbering(self) -> bytes:
        """Commands in the wrong order, twice, or from far away; with an additional header segment; a tag in use."""
        cdb, lun, length = self.cdb(False, 1 << 14)
        first, second = self.number(), self.number()
        late = self.command(cdb, lun, length, read=True, cmd_sn=first)
        early = self.command(cdb, lun, length, read=True, cmd_sn=second)
        plain = pdu.ScsiCommand(
            lun=lun << 48, itt=self.tag(), cdb=cdb.ljust(16, b"\0"), cmd_sn=self.number(), read=True,
            expected_data_transfer_length=length,
        )  # fmt: skip
        again = self.command(cdb, lun, length, read=True, cmd_sn=first)
        far = self.command(cdb, lun, length, read=True, cmd_sn=first + 5000)
        used = self.command(cdb, lun, length, read=True, itt=self.asked[0].itt if self.asked else 0xAAAA)
        return early + self.read() + late + again + far + self.pack(plain, ahs=bytes(8)) + used
