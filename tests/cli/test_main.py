# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from swd.cli import main
from swd.cli.table import GROUPS, VERBS, Verb

EXAMPLES = """
from swd.errors import NetworkNotInitialized, NoSuchDevice
def bug(call): raise RuntimeError("boom")
def early(call): raise NetworkNotInitialized("too early: the network")
def gone(call): raise NoSuchDevice("nobody there")
def answer(call): return {"json": call.json, "verbose": call.verbose, "options": call.options}
def interrupted(call): raise KeyboardInterrupt
"""
NAMES = ("bug", "early", "gone", "answer", "interrupted")
ROWS = tuple(Verb(name, f"Example: {name}.", f"verb_examples:{name}", options_key=True) for name in NAMES)
PROGRAM = """
import sys
from swd.cli import main
from swd.cli.table import Verb
main.VERBS = ({rows},)
sys.exit(main.main())
"""


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Verbs that do nothing but end in one way each."""
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "verb_examples.py").write_text(EXAMPLES)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(main, "VERBS", ROWS)
    monkeypatch.delitem(sys.modules, "verb_examples", raising=False)
    return folder


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help_from_its_row_and_a_json_form(verb: Verb) -> None:
    shown = CliRunner().invoke(main.application(), [*verb.name.split(), "--help"])
    assert shown.exit_code == 0
    words = shown.output.split()
    assert verb.help.split()[:6] == words[words.index(verb.help.split()[0]) :][:6]
    assert {"--json", "--verbose", "--debug"} <= set(words)
    assert ("-O" in words) == verb.options_key
    assert {option.flags[-1] for option in verb.options} <= set(shown.output.replace(",", " ").split())


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_row_leads_to_a_function_that_takes_its_arguments(verb: Verb) -> None:
    function = main._function(verb.function)
    code = function.__code__
    taken = set(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])
    assert taken == {row.name for row in verb.arguments} | {option.name for option in verb.options}


def test_the_list_of_verbs_is_the_table() -> None:
    shown = CliRunner().invoke(main.application(), ["--help"]).output
    for name in {verb.name.split()[0] for verb in VERBS}:
        assert f"\n  {name} " in shown
    for group, text in GROUPS.items():
        inside = CliRunner().invoke(main.application(), [group, "--help"]).output
        assert text in inside
        assert all(f"\n  {verb.name.split()[1]} " in inside for verb in VERBS if verb.name.startswith(f"{group} "))


@pytest.mark.parametrize(
    "words",
    [
        ("read",),
        ("read", "mem://1M", "--offset", "12parsecs"),
        ("read", "mem://1M", "--nonsense"),
        ("nonsense",),
        ("phase", "nonsense"),
        ("info",),
        ("info", "mem://1M", "--build"),
        ("copy", "-", "-"),
        ("copy", "mem://1M", "-", "--verify"),
        ("ioctl", "mem://1M"),
        ("ioctl", "mem://1M", "BLKDISCARD", "offset=0"),
        ("ioctl", "mem://1M", "BLKGETSIZE64", "x=1"),
        ("ioctl", "mem://1M", "SG_IO", "cdb=zz"),
        ("info", "mem://1M", "-O", "no-equals-sign"),
    ],
)
def test_wrong_usage_is_2_with_words_and_in_json(ctl: Callable[..., Any], words: tuple[str, ...]) -> None:
    ended = ctl(*words)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err
    ended = ctl(*words, "--json")
    assert (ended.status, ended.out) == (2, "")
    assert json.loads(ended.err)["error"]["errno"] == 2


def test_no_words_at_all_is_2_and_leads_to_help(ctl: Callable[..., Any]) -> None:
    for words in ((), ("phase",), ("target",)):
        ended = ctl(*words)
        assert (ended.status, ended.out) == (2, "")
        assert "--help" in ended.err


@pytest.mark.usefixtures("examples")
def test_switches_count_wherever_they_stand(ctl: Callable[..., Any]) -> None:
    for words in (("--json", "answer"), ("answer", "--json")):
        assert json.loads(ctl(*words).out) == {"json": True, "verbose": False, "options": {}}
    assert json.loads(ctl("--verbose", "answer", "--json", "-O", "user=b=c", "-O", "auth=").out) == {
        "json": True,
        "verbose": True,
        "options": {"user": "b=c", "auth": ""},
    }


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("key", ["chap", "mode", "dev", "self", "data_digset", "password"])
def test_an_unknown_option_is_einval_without_its_value(ctl: Callable[..., Any], key: str) -> None:
    ended = ctl("answer", "-O", f"{key}=sentinel-value")
    assert (ended.status, ended.out) == (errno.EINVAL, "")
    assert key in ended.err
    assert "sentinel" not in ended.err


@pytest.mark.usefixtures("examples")
def test_a_repeated_option_is_einval(ctl: Callable[..., Any]) -> None:
    assert ctl("answer", "-O", "user=1", "-O", "user=2").status == errno.EINVAL


@pytest.mark.usefixtures("examples")
def test_the_phase_error_is_silence_and_its_errno(ctl: Callable[..., Any]) -> None:
    for words in (("early",), ("early", "--json")):
        ended = ctl(*words)
        assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", "")
    ended = ctl("early", "--verbose")
    assert ended.err == "swdctl: too early: the network\n"
    assert json.loads(ctl("early", "--verbose", "--json").err)["error"]["name"] == "ENETUNREACH"


@pytest.mark.usefixtures("examples")
def test_an_error_is_two_lines_on_stderr_or_json(ctl: Callable[..., Any]) -> None:
    ended = ctl("gone")
    assert (ended.status, ended.out) == (errno.ENXIO, "")
    assert ended.err == "swdctl: nobody there\n"
    said = json.loads(ctl("gone", "--json").err)
    assert said["error"]["errno"] == errno.ENXIO


@pytest.mark.usefixtures("examples")
def test_debug_lets_the_exception_through(ctl: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        ctl("bug", "--debug")


def example_program(name: str) -> tuple[str, str]:
    row = next(row for row in ROWS if row.name == name)
    return "-c", PROGRAM.format(rows=f"Verb({row.name!r}, 'x', {row.function!r})")


@pytest.fixture
def example_process(examples: Path, process: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    home = os.path.dirname(os.path.dirname(os.path.dirname(main.__file__)))
    path = os.pathsep.join([str(examples), home])

    def call(name: str, *words: str) -> Any:
        return process(name, *words, program=example_program(name), PYTHONPATH=path, TMPDIR=str(tmp_path))

    return call


def test_a_bug_is_255_one_line_and_a_private_trace(example_process: Callable[..., Any], tmp_path: Path) -> None:
    ended = example_process("bug")
    assert (ended.status, ended.out) == (255, "")
    assert ended.err.count("\n") == 1
    (trace,) = tmp_path.glob("swdctl-bug-*")
    assert str(trace) in ended.err
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    assert "RuntimeError: boom" in trace.read_text()
    assert "Traceback" not in ended.err


def test_an_interrupt_is_130_and_silent(example_process: Callable[..., Any]) -> None:
    ended = example_process("interrupted")
    assert (ended.status, ended.out, ended.err) == (130, "", "")


def test_version_and_help_are_light(process: Callable[..., Any]) -> None:
    heavy = ("numpy", "rich", "asyncio", "sqlite3", "swd.iscsi", "swd.target", "swd.driver", "swd.proto", "swd.disk")
    for word in ("--version", "--help", "read --help"):
        show = (
            "import sys; from swd.cli import main; status = main.main(); "
            f"sys.exit(status or str([name for name in {heavy!r} if name in sys.modules] or '') or 0)"
        )
        ended = process(*word.split(), program=("-c", show))
        assert (ended.status, ended.err) == (0, ""), word
        assert ended.out


def test_version_is_the_packages(ctl: Callable[..., Any]) -> None:
    import swd

    assert ctl("--version").out == f"swdctl {swd.__version__}\n"


def test_a_size_is_read_with_its_suffix() -> None:
    assert [main._size(text) for text in ("0", "4K", "64M", "1T")] == [0, 4096, 64 << 20, 1 << 40]
    with pytest.raises(click.BadParameter):
        main._size("-1")
