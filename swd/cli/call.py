# SPDX-License-Identifier: Apache-2.0
"""What a verb gets besides its own arguments: the common switches, the `-O` options, and the ways to be heard.

A verb returns its record; it never prints its answer. Only what goes on meanwhile (progress, `--verbose` lines, the
demo's steps) passes through here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swd.cli.progress import Progress


class UsageProblem(Exception):
    """The command line asks for something that makes no sense: exit status 2. The text says what to write instead."""


class Terminated(BaseException):
    """SIGTERM came: exit status 143. Not an Exception, so that no cleanup code takes it for a failure."""


class HungUp(Terminated):
    """SIGHUP came, the terminal is gone: exit status 129, and nothing is left behind either."""


class Reported(Exception):
    """The verb has an answer although it failed: `record` goes to stdout, then `failure` decides how the call ends."""

    def __init__(self, record: object, failure: BaseException) -> None:
        super().__init__(str(failure))
        self.record = record
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one verb."""

    verb: str = ""
    json: bool = False
    verbose: bool = False
    debug: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """A line on stderr, with `--verbose` only."""
        if self.verbose and sys.stderr is not None:
            print(f"swdctl {self.verb}: {line}", file=sys.stderr)

    def aside(self, record: object) -> None:
        """A record on stderr, where stdout is taken by data: with `--json` or `--verbose` only."""
        if (self.json or self.verbose) and sys.stderr is not None:
            from swd.cli import render

            sys.stderr.write(render.as_json(record) if self.json else render.as_text(record))

    def progress(self, word: str, total: int | None) -> Progress:
        """A bar on stderr if that is a terminal; in a pipe, one that says nothing. `total` in bytes, None: unknown."""
        from swd.cli.progress import Progress

        return Progress(word, total, stream=sys.stderr)
