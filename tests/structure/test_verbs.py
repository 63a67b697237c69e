# SPDX-License-Identifier: Apache-2.0
"""What every row of `cli.table` comes with: a schema of its JSON, examples that can be typed, and its part of the
manual page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from test_tree import load

from swd.cli.examples import EXAMPLES
from swd.cli.main import application
from swd.cli.table import VERBS

ROOT = Path(__file__).resolve().parents[2]

# Verbs that share a schema; `trace` prints what the verb prints that it runs. All others: the verb's own name.
SHARED = {
    **dict.fromkeys(("read", "write", "copy"), "transfer"),
    **{f"config {word}": "config" for word in ("show", "get", "set", "unset")},
    **{f"phase {word}": "phase" for word in ("show", "begin", "complete")},
    **{f"fs {word}": "fs" for word in ("detect", "ls", "tree", "cat", "get", "df")},
    "placement check": "placement",
    **dict.fromkeys(("startup install", "startup uninstall"), "startup-install"),
    **{f"vg {word}": "vg" for word in ("list", "activate", "deactivate")},
    "trace": "discover",
}


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_a_verb_has_a_schema_of_its_json(name: str) -> None:
    file = ROOT / "docs" / "schemas" / f"{SHARED.get(name, name.replace(' ', '-'))}.schema.json"
    assert file.is_file(), "write it, and a call of the verb in tests/cli/test_schemas.py"
    assert json.loads(file.read_text())["$id"] == file.name


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_a_verb_has_examples_that_can_be_typed(name: str) -> None:
    assert EXAMPLES.get(name), "add some to swd/cli/examples.py"
    for line in EXAMPLES[name]:
        for part in line.split(" | "):
            words = shlex.split(part)
            if words[0] == "swdctl":
                parse(words[1:])


def parse(words: list[str]) -> None:
    """Raises what click raises for wrong usage; calls nothing."""
    command: click.Command = application()
    context = command.make_context("swdctl", words)
    while isinstance(command, click.Group):
        held = getattr(context, "_protected_args", None)  # of click 8.2 and later
        rest = [*(context.protected_args if held is None else held), *context.args]
        if not rest:  # a group that is a verb itself
            assert command.invoke_without_command
            return
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(found.name, rest, parent=context)


def test_an_example_that_cannot_be_typed_is_found() -> None:
    with pytest.raises(click.UsageError):
        parse(["read", "--ofset", "1", "mem://1M"])
    with pytest.raises(click.UsageError):
        parse(["config", "shwo"])


def test_no_example_is_of_no_verb() -> None:
    assert set(EXAMPLES) == {verb.name for verb in VERBS}


def test_help_shows_the_examples() -> None:
    context = click.Context(application(), info_name="swdctl")
    command = application().get_command(context, "read")
    assert command is not None
    shown = command.get_help(click.Context(command, parent=context, info_name="read"))
    for line in EXAMPLES["read"]:
        assert line in shown


@pytest.mark.parametrize(
    ("tool", "page"),
    [("man_page", "man/swdctl.1"), ("states_doc", "docs/states.md"), ("faults_doc", "docs/faults.md")],
)
def test_a_page_is_that_of_its_table(tool: str, page: str) -> None:
    assert (ROOT / page).read_text() == load(ROOT / "tools" / f"{tool}.py").text(), "run `make pages`"
