# SPDX-License-Identifier: Apache-2.0
"""CHAP secrets: the order of the places, who may read the file, and that no secret is ever shown."""

from __future__ import annotations

import errno
import io
import os
import pickle
import sys
import traceback
from pathlib import Path

import pytest

from swd.driver import secrets
from swd.errors import InvalidArgument, SwdError
from swd.proto.options import Options
from swd.values import Chap

SENTINEL = "Sentinel-0f3a9c-Secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SENTINEL + "\n")
    path.chmod(0o600)
    return path


def options(**changes: object) -> Options:
    return Options(**changes)  # type: ignore[arg-type]


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_without_a_user_there_is_no_chap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWD_CHAP_SECRET", SENTINEL)
    assert secrets.resolve(options()) is None
    assert secrets.resolve(options(user="me", auth="none")) is None
    for changes in ({"auth": "require"}, {"secret_file": "x"}):
        with pytest.raises(InvalidArgument, match="no user"):
            secrets.resolve(options(**changes))


def test_the_order_of_the_places(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Chap("other", "from the program")
    monkeypatch.setenv("SWD_CHAP_SECRET", "from the environment")
    everything = options(user="me", secret_file=str(file))
    assert secrets.resolve(everything, chap=given) is given
    from_file = secrets.resolve(everything)
    assert from_file is not None
    assert (from_file.user, from_file.secret, from_file.mutual) == ("me", SENTINEL.encode(), False)
    from_environment = secrets.resolve(options(user="me"))
    assert from_environment is not None
    assert from_environment.secret == b"from the environment"
    with pytest.raises(TypeError):
        secrets.resolve(everything, chap=("me", SENTINEL))  # type: ignore[arg-type]


def test_no_place_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"not a terminal\n")
    with pytest.raises(SwdError, match="secret_file, SWD_CHAP_SECRET") as caught:
        secrets.resolve(options(user="me"))
    assert caught.value.errno == errno.EACCES


def test_mutual(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWD_CHAP_SECRET", "mine")
    both = secrets.resolve(options(user="me", target_user="it", target_secret_file=str(file)))
    assert both is not None
    assert (both.secret, both.target_user, both.target_secret) == (b"mine", "it", SENTINEL.encode())
    with pytest.raises(SwdError, match="'it'"):
        secrets.resolve(options(user="me", target_user="it"))
    monkeypatch.setenv("SWD_CHAP_TARGET_SECRET", "its")
    both = secrets.resolve(options(user="me", target_user="it"))
    assert both is not None
    assert both.target_secret == b"its"


def test_stdin_has_a_line_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"first\r\nsecond\nrest")
    both = secrets.resolve(options(user="me", secret_file="-", target_secret_file="-"))
    assert both is not None
    assert (both.secret, both.target_secret) == (b"first", b"second")


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_secret_is_refused(monkeypatch: pytest.MonkeyPatch, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    stdin(monkeypatch, content)
    for place in ("-", str(file)):
        with pytest.raises(InvalidArgument, match="empty"):
            secrets.resolve(options(user="me", secret_file=place))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o601, 0o700])
def test_a_file_that_others_may_touch_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SwdError, match=f"chmod 0600 {file}") as caught:
        secrets.resolve(options(user="me", secret_file=str(file)))
    assert caught.value.errno == errno.EACCES
    assert SENTINEL not in shown(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_is_refused(file: Path) -> None:
    os.chown(file, 65534, 65534)
    with pytest.raises(SwdError, match="chown") as caught:
        secrets.resolve(options(user="me", secret_file=str(file)))
    assert caught.value.errno == errno.EACCES


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, number in (("fifo", errno.EINVAL), (".", errno.EINVAL), ("none", errno.ENOENT)):
        with pytest.raises(SwdError) as caught:
            secrets.read_file(str(tmp_path / name))
        assert caught.value.errno == number


def test_a_terminal_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return SENTINEL

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(secrets.getpass, "getpass", getpass)
    found = secrets.resolve(options(user="me"), peer="iqn.2026-01.org.example:db")
    assert found is not None
    assert found.secret == SENTINEL.encode()
    assert asked == ["CHAP secret of 'me' for iqn.2026-01.org.example:db: "]


KEYRING = """
class errors: pass
def get_password(service, user):
    import os
    if os.environ.get("LOCKED"):
        raise KeyringError("locked")
    return "ring" if (service, user) == ("swd:peer", "me") else None
"""


def test_the_key_ring_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "keyring"
    package.mkdir()
    (package / "errors.py").write_text("class KeyringError(Exception): pass\n")
    (package / "__init__.py").write_text("from keyring.errors import KeyringError\n" + KEYRING)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("keyring", "keyring.errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    stdin(monkeypatch, b"")
    found = secrets.resolve(options(user="me"), peer="peer")
    assert found is not None
    assert found.secret == b"ring"
    monkeypatch.setenv("LOCKED", "1")
    with pytest.raises(SwdError, match="no secret"):
        secrets.resolve(options(user="me"), peer="peer")
    for name in ("keyring", "keyring.errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error) + str(error)


def test_no_secret_is_shown(file: Path) -> None:
    found = secrets.resolve(options(user="me", secret_file=str(file), target_user="it", target_secret_file=str(file)))
    assert found is not None
    assert SENTINEL not in repr(found) + str(found) + f"{found!r:>80}"
    with pytest.raises(TypeError) as caught:
        pickle.dumps(found)
    assert SENTINEL not in shown(caught.value)
