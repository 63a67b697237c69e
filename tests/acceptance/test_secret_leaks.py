# SPDX-License-Identifier: Apache-2.0
"""A secret with a face: after every verb has run with it, it is found nowhere but where its owner put it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.conftest import Host, Served, serving

OURS = "sentinel-of-ours-6fd1"
THEIRS = "sentinel-of-theirs-93ab"
WRONG = "sentinel-that-is-wrong-0c"
SECRETS = {"SWD_CHAP_SECRET": OURS, "SWD_CHAP_TARGET_SECRET": THEIRS}
OPTIONS = ("-O", "user=us", "-O", "target_user=them")


def leaks(text: bytes) -> list[str]:
    """The sentinels in some bytes: as they are, in hex, in base64."""
    import base64

    found = []
    for secret in (OURS, THEIRS, WRONG):
        plain = secret.encode()
        if any(form in text for form in (plain, plain.hex().encode(), base64.b64encode(plain).rstrip(b"="))):
            found.append(secret)
    return found


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Host(), "--lun", "mem://8M", "--user", "us", "--target-user", "them", **SECRETS) as target:
        yield target


def files_below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def test_no_verb_shows_a_secret(served: Served, here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path, secret in ((ours, OURS), (theirs, THEIRS)):
        path.write_text(secret)
        path.chmod(0o600)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 4096)
    verbs = (
        ["discover", served.portal, *OPTIONS],
        ["info", served.url, *OPTIONS],
        ["read", served.url, "--length", "4K", "-o", "-", *OPTIONS],
        ["write", served.url, "-i", str(source), *OPTIONS],
        ["copy", served.url, "mem://8M", *OPTIONS],
        ["ioctl", served.url, "BLKGETSIZE64", *OPTIONS],
        ["ioctl", "isw:", "SWD_STATS_GET"],
        ["phase", "show"],
        ["info", "--build"],
    )
    by_file = ("-O", f"secret_file={ours}", "-O", f"target_secret_file={theirs}")
    said = []
    for words in verbs:
        for ways in (["--json"], ["--verbose", "--debug"]):
            ended = here.swdctl(*ways, *words, **SECRETS)
            assert ended.returncode == 0, (words, ended.stderr)
            said.append(ended.stdout + ended.stderr)
    ended = here.swdctl("--debug", "info", served.url, *OPTIONS, *by_file)
    assert ended.returncode == 0, ended.stderr
    said.append(ended.stdout + ended.stderr)
    wrong = here.swdctl("--debug", "info", served.url, *OPTIONS, SWD_CHAP_SECRET=WRONG, SWD_CHAP_TARGET_SECRET=THEIRS)
    assert wrong.returncode != 0
    said.append(wrong.stdout + wrong.stderr)
    assert leaks(b"".join(said)) == []
    places = Path(os.environ["SWD_STATE_DIR"]).parent
    for path in files_below(tmp_path, places):
        if path not in (ours, theirs):
            assert leaks(path.read_bytes()) == [], path


EVERYTHING_AN_EXCEPTION_SHOWS = """
import gc, logging, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import swd
url, portal, name, ours, theirs, wrong = sys.argv[1:4] + [line.strip() for line in sys.stdin]
chap = swd.Chap("us", ours, target_user="them", target_secret=theirs)
wrongs = swd.Chap("us", wrong), swd.Chap("us", ours, target_user="them", target_secret=wrong)
del ours, theirs, wrong
print(repr(chap), str(chap), f"{chap}")
with swd.connect(portal, name, chap=chap) as session:
    print(repr(session), session.parameters, session.options, session.statistics, vars(session).keys())
for bad in wrongs:
    for call in (swd.connect, swd.discover):
        try:
            call(*((portal, name) if call is swd.connect else (portal,)), chap=bad)
        except swd.SwdError as error:
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            text = "".join(shown.format())
            print(repr(error), str(error), error.args, error.__dict__)
            print(text)
        else:
            raise SystemExit("a wrong secret was taken")
"""


def test_no_exception_or_log_shows_a_secret(served: Served) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", EVERYTHING_AN_EXCEPTION_SHOWS, served.url, served.portal, served.name],
        input=f"{OURS}\n{THEIRS}\n{WRONG}".encode(),
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__import__("swd").__file__).parents[1])},
    )
    assert ended.returncode == 0, ended.stderr
    assert b"Chap('us', ***" in ended.stdout, "the locals of swd's own frames were shown, too"
    assert leaks(ended.stdout + ended.stderr) == []


def test_a_password_in_a_url_is_refused_and_not_repeated(here: Host) -> None:
    for url in (
        f"iscsi://us:{OURS}@127.0.0.1/iqn.2026-01.org.example:t/0",
        f"iscsi://us%25{OURS}@127.0.0.1/iqn.2026-01.org.example:t/0",
        f"iscsi://us%{OURS}@127.0.0.1/iqn.2026-01.org.example:t/0",
    ):
        for way in ("--verbose", "--json"):
            ended = here.swdctl(way, "info", url)
            assert ended.returncode == errno.EINVAL, ended
            assert leaks(ended.stdout + ended.stderr) == []
            assert b"SWD_CHAP_SECRET" in ended.stderr


def test_secret_file_that_others_can_read_is_refused(served: Served, here: Host, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(OURS)
    path.chmod(0o644)
    ended = here.swdctl("info", served.url, "-O", "user=us", "-O", f"secret_file={path}")
    assert ended.returncode == errno.EACCES
    assert b"chmod 0600" in ended.stderr
    assert leaks(ended.stderr) == []
