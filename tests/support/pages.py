# SPDX-License-Identifier: Apache-2.0
"""Pages whose examples are run. A comment before a fenced block says what is done with it:

    <!-- file: NAME -->            the block becomes that file
    <!-- run: python -->           the block is a program, which must end with 0
    <!-- run: WORDS -->            the words are a command, which must end with 0 (the block only shows it)
    <!-- run, fails: WORDS -->     ... with another status, after which the block must be in what it said

Everything happens in the order of the page, in one folder. In a block that is compared, `...` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.process import environment

QUICKLY = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")  # importing hypothesis takes longer than most tests
_STEP = re.compile(r"<!-- (?P<what>file|run|run, fails): (?P<words>.*?) -->\n```\w*\n(?P<block>.*?)```\n", re.DOTALL)


class Step(NamedTuple):
    what: str
    words: str
    block: str


def steps(page: Path) -> list[Step]:
    return [Step(found["what"], found["words"], found["block"]) for found in _STEP.finditer(page.read_text())]


def play(page: Path, folder: Path) -> Iterator[str]:
    """Do what the page says; yields what each command said. AssertionError with its output where one ends wrongly."""
    for number, step in enumerate(steps(page)):
        if step.what == "file":
            (folder / step.words).write_text(step.block)
            continue
        command = shlex.split(step.words)
        if step.words == "python":
            program = folder / f"program{number}.py"
            program.write_text(step.block)
            command = [sys.executable, str(program)]
        elif command[0] == "pytest":
            command = [sys.executable, "-m", *command, *QUICKLY]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=folder, env=environment(), text=True, timeout=60, **both)
        assert (done.returncode != 0) is (step.what == "run, fails"), f"{step.words}: {done.returncode}\n{done.stdout}"
        if step.what == "run, fails":
            assert re.search(_pattern(step.block), done.stdout, re.DOTALL), f"{step.block}\nis not in\n{done.stdout}"
        yield done.stdout


def _pattern(block: str) -> str:
    return re.escape(block.strip()).replace(r"\.\.\.", ".*?")
