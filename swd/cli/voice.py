# SPDX-License-Identifier: Apache-2.0
"""What swd says through `logging`, on stderr: with `--verbose` all of it, else only what this host's administrator
must know of an otherwise good answer (a registry that cannot be used, a portal that did not answer).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator


class _Stderr(logging.Handler):
    """Writes to what is stderr when it writes; where that is gone, closed or full, a message is not worth a failure."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                print(self.format(record), file=sys.stderr)


class _Json(logging.Formatter):
    """One object a line, as errors are with `--json`."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"warning": record.getMessage()})


def _warns(record: logging.LogRecord) -> bool:
    """What the driver, or a target that is served, says of this host; messages about sessions are for --verbose."""
    return record.name in ("swd.driver", "swd.target") and record.levelno >= logging.WARNING


@contextlib.contextmanager
def speaking(*, verbose: bool, debug: bool, as_json: bool) -> Iterator[None]:
    """For a while: with `debug` all messages, with `verbose` those from INFO up, else the warnings about this host."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("swdctl: %(levelname)s %(message)s"))
    logger = logging.getLogger("swd")
    before = logger.level
    if debug or verbose:
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
    else:
        handler.addFilter(_warns)
        if as_json:
            handler.setFormatter(_Json())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
