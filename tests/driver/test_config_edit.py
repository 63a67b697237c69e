# SPDX-License-Identifier: Apache-2.0
"""Editing a configuration: one key changes, and nothing else of the file does."""

from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.driver import config, config_edit, places, scopes, tomltext
from swd.errors import InvalidArgument, SwdError, Unsupported

NAME = "iqn.2026-01.org.example:db"
FILE = f"""\
# The storage of host1.

errno_profile = "11iv3"   # as before

# Every session
[all]
  timeout=7 # "seconds", = and ]
chap_algs = [
    "sha1",  # old target
    'md5',
]  # end

[target."{NAME.upper()}"]  # the data base
auth = "require"
# last words
"""


@pytest.fixture
def file() -> Path:
    path = Path(os.environ["SWD_CONFIG"])
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def changed(path: Path) -> tuple[list[str], list[str]]:
    """The lines that went, and those that came."""
    old, new = FILE.splitlines(), path.read_text().splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(
    ("key", "value", "scope", "gone", "came"),
    [
        ("timeout", "8", "all", ['  timeout=7 # "seconds", = and ]'], ['  timeout= 8 # "seconds", = and ]']),
        ("errno_profile", "11iv1", None, ['errno_profile = "11iv3"   # as before'],
         ['errno_profile = "11iv1"   # as before']),
        ("auth", "chap", f"target/{NAME}", ['auth = "require"'], ['auth = "chap"']),
        ("chap_algs", "md5,sha1", "all",
         ["chap_algs = [", '    "sha1",  # old target', "    'md5',", "]  # end"],
         ['chap_algs = ["md5", "sha1"]  # end']),
        ("max_burst_length", "64K", None, [], ['max_burst_length = "64K"']),
        ("initial_r2t", "yes", None, [], ["initial_r2t = true"]),
        ("header_digest", "crc32c!", None, [], ['header_digest = ["crc32c"]']),
        ("isid", "0x800102030405", None, [], ['isid = "800102030405"']),
        ("timeout", "2.5s", f"target/{NAME}", [], ["timeout = 2.5"]),
        ("initiator_name", "iqn.2026-01.org.example:h", "top", [], ['initiator_name = "iqn.2026-01.org.example:h"']),
        ("phase_timeout", "60", None, [], ["phase_timeout = 60"]),
        ("user", 'a "b" \\c', "discovery/192.0.2.1", [],
         ['[discovery."192.0.2.1:3260"]', r'user = "a \"b\" \\c"']),
        ("timeout", "5", f"target/{NAME}/[fe80::1%eth0]", [],
         [f'[target."{NAME}".address."[fe80::1%eth0]:3260"]', "timeout = 5"]),
    ],
)  # fmt: skip
def test_set_changes_one_key(
    file: Path, key: str, value: str, scope: str | None, gone: list[str], came: list[str]
) -> None:
    where = None if scope is None else scopes.parse(scope)
    done = config_edit.set_key(key, value, where)
    assert changed(file) == (gone, came)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [one for one in config.load().settings if (one.key, one.scope) == (key, done.scope)] == [done]
    assert file.read_text().splitlines()[done.line - 1].lstrip().startswith(key)


def test_a_new_key_stands_at_the_end_of_its_table(file: Path) -> None:
    config_edit.set_key("queue_depth", "4")
    assert "]  # end\nqueue_depth = 4\n\n[target." in file.read_text()


def test_the_first_top_level_key_stands_above_the_first_table(file: Path) -> None:
    file.write_text("# words\n\n# of all\n[all]\ntimeout = 1\n")
    config_edit.set_key("phase_timeout", "9")
    assert file.read_text() == "# words\n\nphase_timeout = 9\n\n# of all\n[all]\ntimeout = 1\n"


def test_unset_takes_the_key_and_leaves_the_rest(file: Path) -> None:
    config_edit.unset_key("chap_algs")
    assert changed(file) == (["chap_algs = [", '    "sha1",  # old target', "    'md5',", "]  # end"], [])
    gone = config_edit.unset_key("auth", scopes.of_target(NAME))
    assert (gone.value, gone.line) == ("require", 10)
    with pytest.raises(InvalidArgument, match="`auth` is not set in target/"):
        config_edit.unset_key("auth", scopes.of_target(NAME))


@pytest.mark.parametrize(
    ("key", "value", "scope", "words"),
    [
        ("timeuot", "3", None, "did you mean timeout"),
        ("errno_profil", "3", None, "did you mean errno_profile"),
        ("timeout", "-3", None, "number of seconds"),
        ("timeout", "90000", None, "out of range"),
        ("errno_profile", "11iv2", None, "11iv3"),
        ("phase_timeout", "soon", None, "seconds"),
        ("phase_timeout", "nan", None, "seconds"),
        ("phase_timeout", "3", "all", "top level"),
        ("timeout", "3", "top", "below [all]"),
        ("first_burst_length", "16777215", None, "above max_burst_length"),
        ("secret", "hunter2hunter2", None, "secret_file"),
        ("password", "hunter2hunter2", None, "secret_file"),
        ("secret_file", "hunter2hunter2", None, "never the secret itself"),
        ("target_secret_file", "hunter2hunter2", None, "never the secret itself"),
    ],
)
def test_what_would_be_no_sound_configuration_is_not_written(
    file: Path, key: str, value: str, scope: str | None, words: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config_edit.set_key(key, value, None if scope is None else scopes.parse(scope))
    assert words in caught.value.reason
    assert "hunter2" not in caught.value.reason
    assert file.read_text() == FILE
    assert list(file.parent.glob(".*")) == []


def test_what_is_not_built_is_not_written(file: Path) -> None:
    with pytest.raises(Unsupported, match="built"):
        config_edit.set_key("connections", "2")
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    "text", ["all = { timeout = 1, user = 'x' }\n", "all.timeout = 1\nall.user = 'x'\n", "all = {}\n"]
)
def test_what_cannot_be_edited_by_lines_is_refused_untouched(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidArgument, match="in an editor"):
        config_edit.set_key("queue_depth", "4")
    assert file.read_text() == text


def test_a_broken_file_is_not_touched(file: Path) -> None:
    file.write_text("[all\n")
    with pytest.raises(InvalidArgument, match="not valid TOML"):
        config_edit.set_key("timeout", "4")
    assert file.read_text() == "[all\n"


def test_a_file_that_is_not_there_is_made_with_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SWD_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(places, "HOST_CONFIG", tmp_path / "etc" / "swd" / "swd.toml")
    config_edit.set_key("timeout", "4")
    path = places.HOST_CONFIG if os.geteuid() == 0 else tmp_path / "user" / "swd" / "swd.toml"
    assert path.read_text() == "[all]\ntimeout = 4\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    file.rename(real)
    file.symlink_to(real)
    config_edit.set_key("timeout", "4")
    assert file.is_symlink()
    assert "timeout= 4" in real.read_text()


def test_a_place_that_is_a_folder_is_told(file: Path) -> None:
    file.unlink()
    file.mkdir()
    with pytest.raises(SwdError) as caught:
        config_edit.set_key("timeout", "4")
    assert caught.value.errno == errno.EISDIR


def test_editors_take_turns(file: Path) -> None:
    """Many at once: no edit is lost."""
    names = [f"{NAME}{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: config_edit.set_key("timeout", "3", scopes.of_target(name)), names))
    found = {one.scope for one in config.load().settings if one.key == "timeout"}
    assert {scopes.of_target(name) for name in names} <= found


def test_line_ends_of_another_system_stay(file: Path) -> None:
    file.write_bytes(b"[all]\r\ntimeout = 1 # x\r\nuser = 'x'")
    config_edit.set_key("timeout", "2")
    config_edit.set_key("queue_depth", "2")
    assert file.read_bytes() == b"[all]\r\ntimeout = 2 # x\r\nuser = 'x'\r\nqueue_depth = 2\r\n"


KEYS = st.sampled_from(["aa", "bb", '"c.=c"', "d-d"])
VALUES = st.sampled_from(["1", "'x = 1'", '"#"', "[\n1,\n# bb = 2\n2]", '"""\n[tt]\naa = 1\n"""', "'\u2028'", "1.5"])
TAILS = st.sampled_from(["", " # aa = 1", "\t", "\n# a note\n", "\n\n"])
HEADS = st.sampled_from(["", "[tt]\n", "[ 't t' ] # x\n", "[tt.uu]\n"])
NEW = st.one_of(st.integers(0, 99), st.booleans(), st.text(max_size=8), st.lists(st.text(max_size=3), max_size=3))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(KEYS, VALUES, TAILS), unique_by=lambda row: row[0]),
    HEADS,
    st.sampled_from([(), ("tt",), ("t t",), ("tt", "uu"), ("new", "er")]),
    st.sampled_from(["aa", "c.=c", "zz"]),
    NEW,
)
def test_any_edit_leaves_every_other_line(
    rows: list[tuple[str, str, str]], head: str, table: tuple[str, ...], key: str, value: Any
) -> None:
    """The parser checks inside `with_key` what it says; here: other lines are kept, and `without_key` undoes it."""
    if key == "c.=c":
        value, table = 5, tuple(head.strip("[]\n").split(".")) if head.startswith("[tt") else ()
    text = "0 = 0\n" + head + "".join(f"{name} = {old}{tail}\n" for name, old, tail in rows)
    path = (*table, key)
    there = any(one.path == path for one in tomltext.statements(text))
    if key == "c.=c" and not there:
        return  # only swd's own keys, which are bare, are ever added
    edited = tomltext.with_key(text, table, key, value, "t")
    comments = [line for line in text.splitlines() if line.startswith("# a note")]
    assert [line for line in edited.splitlines() if line.startswith("# a note")] == comments
    if not there:
        assert set(tomltext.lines_of(text)) <= set(tomltext.lines_of(edited))
        undone = tomltext.parse(tomltext.without_key(edited, table, key, "t"), "t")
        assert json.dumps(tomltext._pruned(undone)) == json.dumps(tomltext._pruned(tomltext.parse(text, "t")))
