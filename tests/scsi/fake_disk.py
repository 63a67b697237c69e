# SPDX-License-Identifier: Apache-2.0
"""A small, honest SCSI disk in memory behind the methods of a session, which can be told to misbehave.

Its pages are laid out here from the standards, by hand, so that a builder or parser of swd that is wrong meets
something that is right.
"""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, ClassVar

from swd.values import ScsiResult, Sense

Answer = ScsiResult | Exception | Callable[[], ScsiResult]

NAA_6 = bytes.fromhex("6001405aabbccddeeff0011223344556")


def check_condition(key: int, asc: int, ascq: int = 0, *, residual: int = 0, deferred: bool = False) -> ScsiResult:
    raw = bytearray(18)
    raw[0], raw[2], raw[7], raw[12], raw[13] = 0x71 if deferred else 0x70, key, 10, asc, ascq
    return ScsiResult(0x02, sense=Sense(key, asc, ascq, None, bytes(raw)), residual=residual)


INVALID_OPCODE = check_condition(0x5, 0x20)
INVALID_FIELD = check_condition(0x5, 0x24)
OUT_OF_RANGE = check_condition(0x5, 0x21)
POWER_ON = check_condition(0x6, 0x29)
BUSY = ScsiResult(0x08)


def designator(kind: int, value: bytes, *, association: int = 0, code_set: int = 1) -> bytes:
    return bytes([code_set, 0x80 | association << 4 | kind, 0, len(value)]) + value


def page(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0, code, len(body)) + body


class FakeDisk:
    """A session with one disk at `lun`. `pages` are the VPD pages; `lacks` the opcodes that it does not have.

    `script[opcode]` holds what the next commands with that opcode are answered instead of being carried out; `log` what
    was asked (CDBs). `short` cuts that many bytes off the next good READ.
    """

    def __init__(self, blocks: int = 256, block_size: int = 512, *, lun: int = 0) -> None:
        self.lun = lun
        self.block_size = block_size
        self.blocks = blocks
        self.data = bytearray(blocks * block_size)
        self.device_type = 0x00
        self.qualifier = 0
        self.physical_exponent = 3
        self.thin = True
        self.write_protected = False
        self.write_cache: bool | None = True
        self.lacks: set[int] = set()
        self.script: defaultdict[int, deque[Answer]] = defaultdict(deque)
        self.log: list[bytes] = []
        self.timeouts: list[float | None] = []
        self.short = 0
        self.unmapped: list[int] = []  # where each UNMAP began
        self.luns = [0, 1 << 48]
        self.pages = {
            0x80: b"SN0001  ",
            0x83: designator(0x1, b"FAKE    0001", code_set=2) + designator(0x3, NAA_6),
            0xB0: struct.pack(">BBHIIIIIIIQ", 0, 0, 8, 128, 64, 0, 100, 1, 0, 0, 64),
            0xB2: bytes([0, 0xE4, 2, 0]),
        }

    # ---- the session's methods

    def execute(
        self, cdb: bytes, *, lun: int, data_out: Any = None, data_in: int = 0, timeout: float | None = None
    ) -> ScsiResult:
        result = self._run(bytes(cdb), bytes(data_out or b""), timeout)
        if result.status or result.response:
            return result
        return ScsiResult(
            0, result.data[:data_in], residual=result.residual or data_in - min(data_in, len(result.data))
        )

    def straight(self, lun: int, timeout: float | None = None) -> None:
        """No compiled way leads here."""

    def read_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Any, timeout: float | None = None
    ) -> ScsiResult | None:
        result = self._run(self._cdb(0x28, lba, blocks), b"", timeout)
        if result.status or result.response:
            return result
        view = memoryview(buffer).cast("B")
        view[: len(result.data)] = result.data
        residual = result.residual or len(view) - len(result.data)
        return ScsiResult(0, residual=residual) if residual else None

    def write_blocks(
        self, lun: int, lba: int, blocks: int, buffer: Any, timeout: float | None = None
    ) -> ScsiResult | None:
        result = self._run(self._cdb(0x2A, lba, blocks), bytes(buffer), timeout)
        return result if result.status or result.response or result.residual else None

    def batch(
        self,
        write: bool,
        lun: int,
        lbas: Any,
        blocks: int,
        buffer: Any,
        *,
        queue_depth: int = 32,
        timeout: float | None = None,
    ) -> list[tuple[int, ScsiResult]]:
        starts, view = memoryview(lbas).cast("B").cast("q"), memoryview(buffer).cast("B")
        size, one = len(view) // len(starts), self.write_blocks if write else self.read_blocks
        ends = [(i, one(lun, lba, blocks, view[i * size : (i + 1) * size], timeout)) for i, lba in enumerate(starts)]
        return [(i, result) for i, result in ends if result is not None]

    def opcodes(self) -> list[int]:
        """Those asked so far, and forget them."""
        found = [cdb[0] for cdb in self.log]
        self.log.clear()
        return found

    # ---- the disk

    @staticmethod
    def _cdb(code: int, lba: int, blocks: int) -> bytes:
        return struct.pack(">BBIBHB", code, 0, lba, 0, blocks, 0)

    def _run(self, cdb: bytes, data_out: bytes, timeout: float | None) -> ScsiResult:
        self.log.append(cdb)
        self.timeouts.append(timeout)
        if self.script[cdb[0]]:
            answer = self.script[cdb[0]].popleft()
            if isinstance(answer, Exception):
                raise answer
            return answer() if callable(answer) else answer
        if cdb[0] in self.lacks or cdb[0] not in self._COMMANDS:
            return INVALID_OPCODE
        return self._COMMANDS[cdb[0]](self, cdb, data_out)

    def _test_unit_ready(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        return ScsiResult(0)

    def _inquiry(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        length = int.from_bytes(cdb[3:5], "big")
        if not cdb[1] & 1:
            data = bytes([self.qualifier << 5 | self.device_type, 0, 6, 2, 31, 0, 0, 2])
            return ScsiResult(0, (data + b"FAKE    DISK            0001")[:length])
        if cdb[2] == 0 and self.pages:
            return ScsiResult(0, page(0, bytes(sorted({0, *self.pages})))[:length])
        if cdb[2] not in self.pages:
            return INVALID_FIELD
        return ScsiResult(0, page(cdb[2], self.pages[cdb[2]])[:length])

    def _capacity_10(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        return ScsiResult(0, struct.pack(">II", min(self.blocks - 1, 0xFFFFFFFF), self.block_size))

    def _service_action_in(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        if cdb[1] & 0x1F != 0x10:
            return INVALID_FIELD
        flags = 0xC0 if self.thin else 0
        return ScsiResult(
            0, struct.pack(">QIBBBB16x", self.blocks - 1, self.block_size, 0, self.physical_exponent, flags, 0)
        )

    def _mode_6(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        pages = self._mode_pages(cdb[2] & 0x3F)
        if pages is None:
            return INVALID_FIELD
        return ScsiResult(0, bytes([3 + len(pages), 0, 0x90 if self.write_protected else 0x10, 0]) + pages)

    def _mode_10(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        pages = self._mode_pages(cdb[2] & 0x3F)
        if pages is None:
            return INVALID_FIELD
        device_specific = 0x90 if self.write_protected else 0x10
        return ScsiResult(0, struct.pack(">HBB4x", 6 + len(pages), 0, device_specific) + pages)

    def _mode_pages(self, wanted: int) -> bytes | None:
        """The control page is always there, the caching page if the disk has something to say about its cache."""
        caching = b"" if self.write_cache is None else bytes([0x08, 18, 4 if self.write_cache else 0]) + bytes(17)
        control = bytes([0x0A, 10]) + bytes(10)
        return {0x08: caching or None, 0x0A: control, 0x3F: control + caching}.get(wanted)

    def _report_luns(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        data = struct.pack(">II", 8 * len(self.luns), 0) + b"".join(lun.to_bytes(8, "big") for lun in self.luns)
        return ScsiResult(0, data[: int.from_bytes(cdb[6:10], "big")])

    def _where(self, cdb: bytes) -> tuple[int, int]:
        if len(cdb) == 10:
            return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
        return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")

    def _read(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        lba, blocks = self._where(cdb)
        if lba + blocks > self.blocks:
            return OUT_OF_RANGE
        end = (lba + blocks) * self.block_size - self.short
        self.short = 0
        return ScsiResult(0, bytes(self.data[lba * self.block_size : end]))

    def _write(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        lba, blocks = self._where(cdb)
        if lba + blocks > self.blocks:
            return OUT_OF_RANGE
        self.data[lba * self.block_size : (lba + blocks) * self.block_size] = data_out
        return ScsiResult(0)

    def _write_same(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        lba, blocks = self._where(cdb)
        return self._write(self._cdb(0x2A, lba, blocks), data_out * blocks)

    def _unmap(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        assert int.from_bytes(cdb[7:9], "big") == len(data_out) == 24
        total, descriptors, lba, blocks = struct.unpack(">HH4xQI4x", data_out)
        assert (total, descriptors) == (22, 16)
        self.unmapped.append(lba)
        return self._write(self._cdb(0x2A, lba, blocks), bytes(blocks * self.block_size))

    def _synchronize(self, cdb: bytes, data_out: bytes) -> ScsiResult:
        return ScsiResult(0)

    _COMMANDS: ClassVar[dict[int, Callable[[FakeDisk, bytes, bytes], ScsiResult]]] = {
        0x00: _test_unit_ready,
        0x12: _inquiry,
        0x1A: _mode_6,
        0x25: _capacity_10,
        0x28: _read,
        0x2A: _write,
        0x35: _synchronize,
        0x42: _unmap,
        0x5A: _mode_10,
        0x88: _read,
        0x8A: _write,
        0x91: _synchronize,
        0x93: _write_same,
        0x9E: _service_action_in,
        0xA0: _report_luns,
    }
