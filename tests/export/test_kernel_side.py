# SPDX-License-Identifier: Apache-2.0
"""Options of mount(8) as the call takes them, and hosts that cannot mount."""

from __future__ import annotations

import errno
import os

import pytest

from swd.errors import SwdError
from swd.export import kernel


@pytest.mark.parametrize(
    ("words", "flags", "data"),
    [
        ([], 0, ""),
        (["ro"], 0x1, ""),
        (["nosuid", "nodev", "ro", "noload"], 0x7, "noload"),
        (["nosuid", "nodev", "suid", "dev"], 0, ""),
        (["dev", "nodev"], 0x4, ""),
        (["defaults", "_netdev", "nofail", "", "errors=remount-ro", "noatime"], 0x400, "errors=remount-ro"),
        (["logbufs=8", "norecovery"], 0, "logbufs=8,norecovery"),
    ],
)
def test_options_become_flags_and_data(words: list[str], flags: int, data: str) -> None:
    assert kernel.split(words) == (flags, data)


def test_not_root_is_eperm_and_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SwdError, match="swdctl fs") as caught:
        kernel.require()
    assert caught.value.errno == errno.EPERM


@pytest.mark.fuse
def test_a_host_without_losetup_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "PROGRAMS", ("losetup", "no-such-program"))
    with pytest.raises(SwdError, match="no-such-program not found: install util-linux") as caught:
        kernel.require()
    assert caught.value.errno == errno.EOPNOTSUPP


def test_the_mount_table_is_read() -> None:
    assert "/" in [place for place, _, _ in kernel.mounts()]
    assert kernel.is_mount("/")
    assert not kernel.is_mount("/no/such/place")
