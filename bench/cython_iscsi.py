# SPDX-License-Identifier: Apache-2.0
"""cython-iscsi, the binding to libiscsi on PyPI, one read after the other: run by bench/peers.py with the Python of an
environment of its own, because the package brings a top-level `tests` along.

    python bench/cython_iscsi.py URL SIZE SECONDS        prints: I/Os, seconds, CPU seconds
"""

from __future__ import annotations

import random
import sys
import time

import iscsi

READ_16, GOOD = 0x88, 0


def main() -> None:
    text, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    context = iscsi.Context("iqn.2026-01.org.swd:cython-iscsi")
    url = iscsi.URL(context, text)
    context.set_targetname(url.target)
    context.set_session_type(iscsi.iscsi_session_type.ISCSI_SESSION_NORMAL)
    context.set_header_digest(iscsi.iscsi_header_digest.ISCSI_HEADER_DIGEST_NONE_CRC32C)
    context.connect(url.portal, url.lun)
    blocks, places, buffer = size // 512, (64 << 20) // size, bytearray(size)
    direction = iscsi.scsi_xfer_dir.SCSI_XFER_READ

    def read(place: int) -> int:
        cdb = bytes([READ_16, 0]) + (place * blocks).to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
        task = iscsi.Task(cdb, direction, size)
        context.command(url.lun, task, None, buffer)
        return int(task.status)

    read(0)  # takes the unit attention
    ios, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(64):
            if read(random.randrange(places)) != GOOD:
                raise SystemExit("cython-iscsi: a read was not GOOD")
        ios += 64
    print(ios, time.perf_counter() - began, time.process_time() - cpu)
    context.disconnect()


if __name__ == "__main__":
    main()
