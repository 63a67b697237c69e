# SPDX-License-Identifier: Apache-2.0
"""The configuration: which files, which keys, and the line that an error names."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.driver import config, places, tomltext
from swd.errors import InvalidArgument, SwdError, Unsupported
from swd.proto.options import Options


@pytest.fixture
def write() -> object:
    def to_file(text: str) -> Path:
        path = Path(os.environ["SWD_CONFIG"])
        path.write_text(text)
        return path

    return to_file


def test_an_empty_file_gives_the_defaults() -> None:
    found = config.load()
    assert (found.options, found.errno_profile, found.phase_timeout, found.settings) == (Options(), "11iv1", 300.0, ())


def test_top_level_and_all(write: object) -> None:
    path = write(  # type: ignore[operator]
        'initiator_name = "iqn.2026-01.org.example:host1"\nerrno_profile = "11iv3"\nphase_timeout = 5\n'
        '\n[all]\nheader_digest = ["crc32c", "none"]\ntimeout = 2.5\nuser = "me"\n'
    )
    found = config.load()
    assert (found.errno_profile, found.phase_timeout) == ("11iv3", 5.0)
    assert found.options.initiator_name == "iqn.2026-01.org.example:host1"
    assert (found.options.header_digest, found.options.timeout, found.options.user) == (("crc32c", "none"), 2.5, "me")
    assert [(s.key, str(s.scope), s.line) for s in found.settings] == [
        ("initiator_name", "top", 1),
        ("errno_profile", "top", 2),
        ("phase_timeout", "top", 3),
        ("header_digest", "all", 6),
        ("timeout", "all", 7),
        ("user", "all", 8),
    ]
    assert found.settings[0].file == str(path)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("\n\nerrno_profil = 1", 3, "did you mean errno_profile"),
        ("timeout = 3", 1, "below [all]"),
        ("# timeout = 3\n[all]\n\ntimeuot = 3", 4, "did you mean timeout"),
        ("[all]\ntimeout = 'soon'", 2, "timeout"),
        ("[all]\ntimeout = [1]", 2, "timeout"),
        ("[all]\nchap_algs = [\n 'md5',\n # timeout = 3\n]\nerrno_profile = '11iv1'", 6, "top level"),
        ("[all]\nchap_algs = [\n 'md5',\n 'md6',\n]", 2, "md6"),
        ("errno_profile = '11iv2'", 1, "11iv3"),
        ("phase_timeout = -1", 1, "seconds"),
        ("phase_timeout = true", 1, "seconds"),
        ("x = '''\n[all]\n'''\n", 1, "unknown key"),
        ("all = 3", 1, "table"),
        ("[al]\ntimeout = 3", 1, "did you mean all"),
        ("[[all]]\ntimeout = 3", 1, "table"),
        ("all.timeuot = 3", 1, "did you mean timeout"),
        ("initiator_name = 'host1'", 1, "iqn."),
        ("[all]\nconnections = 2", 2, "built"),
    ],
)
def test_an_error_names_file_and_line(write: object, text: str, line: int, words: str) -> None:
    path = write(text)  # type: ignore[operator]
    with pytest.raises((InvalidArgument, Unsupported)) as caught:
        config.load()
    assert f"{path}, line {line}:" in caught.value.reason
    assert words in caught.value.reason


def test_invalid_toml_and_bytes(write: object) -> None:
    path = write("a = \n")  # type: ignore[operator]
    with pytest.raises(InvalidArgument, match=r"not valid TOML.*line 1"):
        config.load()
    for number in (f"0x{'f' * 4000}", "9" * 20, "9" * 5000, "[" * 5000):
        path.write_text(f"[all]\nqueue_depth = {number}")
        with pytest.raises(InvalidArgument, match=r"not valid TOML: .*(64 bits|digits)"):
            config.load()
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        config.load()


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for source in (None, tmp_path / "none.toml"):
        monkeypatch.setenv("SWD_CONFIG", str(tmp_path / "none.toml"))
        with pytest.raises(SwdError) as caught:
            config.load(source)
        assert caught.value.errno == errno.ENOENT


def test_of_the_hosts_own_files_the_later_one_wins_key_by_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SWD_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(places, "HOST_CONFIG", tmp_path / "etc.toml")
    assert config.load() == config.Config()
    (tmp_path / "etc.toml").write_text("phase_timeout = 1\n[all]\ntimeout = 1\nuser = 'host'\n")
    (tmp_path / "swd").mkdir()
    (tmp_path / "swd" / "swd.toml").write_text("[all]\ntimeout = 2\n")
    found = config.load()
    assert (found.phase_timeout, found.options.timeout, found.options.user) == (1.0, 2.0, "host")


def test_a_mapping_a_path_and_a_config(tmp_path: Path) -> None:
    found = config.load({"errno_profile": "11iv3", "all": {"timeout": 9}})
    assert (found.errno_profile, found.options.timeout) == ("11iv3", 9.0)
    assert config.load(found) is found
    with pytest.raises(InvalidArgument, match="the config argument: unknown key"):
        config.load({"nonsense": 1})
    (tmp_path / "x.toml").write_text("phase_timeout = 2")
    assert config.load(str(tmp_path / "x.toml")).phase_timeout == 2


KEYS = st.sampled_from(["aa", "bb", '"c.c"', "d-d"])
VALUES = st.sampled_from(["1", "'x = 1'", "[\n1,\n# bb = 2\n2]", '"""\n[tt]\naa = 1\n"""', "{ x = 1 }", "'''a\n'''"])
BLANKS = st.sampled_from(["", "\n", "# aa = 1\n", "\n# [tt]\n\n"])


@settings(max_examples=200)
@given(st.lists(st.tuples(BLANKS, KEYS, VALUES), unique_by=lambda row: row[1]), st.integers(0, 4))
def test_the_line_of_every_key_is_found(rows: list[tuple[str, str, str]], split: int) -> None:
    """Written out with known lines: some keys at the top, the rest in a table."""
    text, expected = "", {}
    for number, (blank, key, value) in enumerate(rows):
        if number == split:
            text += "[ tt ]  # here\n"
        text += blank
        table = ("tt",) if number >= split else ()
        expected[(*table, key.strip('"'))] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    lines = tomltext.positions(text)
    assert {path: lines[path] for path in expected} == expected


def test_python_3_10_has_a_parser_too() -> None:
    assert tomltext.tomllib.__name__ == ("tomllib" if sys.version_info >= (3, 11) else "tomli")
