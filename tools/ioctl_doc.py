# SPDX-License-Identifier: Apache-2.0
"""Write docs/ioctl.md from the table of requests: `python tools/ioctl_doc.py` in the top folder."""

from __future__ import annotations

from pathlib import Path

from swd.driver.ioctl import TABLE, Entry

HEAD = """# Control requests

`Driver.ioctl(fd, request, arg=None)` and `swdctl ioctl DEV REQUEST [KEY=VALUE...]`. A request is a member of
`swd.driver.ioctl.Request`, its name or its number; an unknown one is `ENOTTY`, one that the device does not have
`EOPNOTSUPP`. `arg` is never written into. Requests marked W need a descriptor that is open for writing (`EBADF`).
This page is made by `tools/ioctl_doc.py`; do not edit it.

| request | number | | argument | result | what it does |
| --- | --- | --- | --- | --- | --- |
"""

TAIL = """
## Guarantees

* `BLKDISCARD`: whole blocks inside the device (`EINVAL`). UNMAP of the whole granules in the range; no promise
  about its content afterwards.
* `BLKZEROOUT`: the range reads as zeros: WRITE SAME(16), or written zeros where the unit does not have it; never UNMAP.
* `BLKFLSBUF`: as `fsync`: `EIO`, once, where the unit lost its cache since the descriptor's last flush.
* `SG_IO`: any CDB, both directions. BUSY and unit attentions are retried, every other end comes back with its status,
  sense and residual. On a descriptor that is open for reading only, commands that may change something are `EBADF`.
* `SWD_*` take and give plain dicts. There is no daemon: options that are set and sessions that are held by `isw:` are
  those of the one Driver, and end with it.
"""


def text() -> str:
    """The whole page."""
    return HEAD + "".join(map(_row, TABLE)) + TAIL


def _row(entry: Entry) -> str:
    mark = "W" if entry.writes else ""
    cells = [f"`{entry.request.name}`", f"`0x{entry.request.value:x}`", mark]
    cells += [entry.argument.value, entry.result, entry.doc]
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    Path(__file__).resolve().parent.parent.joinpath("docs", "ioctl.md").write_text(text(), encoding="utf-8")
