# SPDX-License-Identifier: Apache-2.0
"""`--verbose`: what swd says through `logging`, on stderr."""

from __future__ import annotations

import logging
import sys


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # generic from 3.11 on
    """Writes to what is stderr when it writes."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            self.setStream(sys.stderr)
            super().emit(record)


_handler = _Stderr(sys.stderr)
_handler.setFormatter(logging.Formatter("swdctl: %(levelname)s %(message)s"))


def speak(*, debug: bool) -> None:
    """From now on all messages from INFO up, or with `debug` all."""
    logger = logging.getLogger("swd")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.addHandler(_handler)  # a second time does nothing
