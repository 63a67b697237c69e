# SPDX-License-Identifier: Apache-2.0
"""`--verbose`: what swd says through `logging`, on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator


class _Stderr(logging.Handler):
    """Writes to what is stderr when it writes; where that is gone or closed, a message is not worth a failure."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                print(self.format(record), file=sys.stderr)


_handler = _Stderr()
_handler.setFormatter(logging.Formatter("swdctl: %(levelname)s %(message)s"))


@contextlib.contextmanager
def speaking(*, debug: bool) -> Iterator[None]:
    """For a while all messages from INFO up, or with `debug` all."""
    logger = logging.getLogger("swd")
    before = logger.level
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.addHandler(_handler)
    try:
        yield
    finally:
        logger.removeHandler(_handler)
        logger.setLevel(before)
