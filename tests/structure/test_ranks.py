# SPDX-License-Identifier: Apache-2.0
"""Imports point strictly down; within a rank they stay inside one package; some places may not know some things."""

from __future__ import annotations

from pathlib import Path

import imports
import pytest

# Package or module -> rank; what stands on one line counts as one package.
RANKS = (
    (9, "swd.cli", "swd.__main__"),
    (8, "swd.startup"),
    (7, "swd.export"),
    (7, "swd.measure"),
    (6.5, "swd"),  # the public names: whoever stands above the driver may use them
    (6, "swd.driver", "swd.aio"),
    (5, "swd.volumes", "swd.filesystem"),
    (4, "swd.disk", "swd.ioqueue", "swd.streams", "swd.multipath"),
    (3, "swd.scsi"),
    (2, "swd.iscsi"),
    (2, "swd.target"),
    (1.5, "swd._targetpath"),
    (
        1,
        *("swd._asyncdisk", "swd._asyncqueue", "swd._straight", "swd._rangelock", "swd._fastpath", "swd._engine"),
        *("swd._crc32c", "swd._task", "swd._watch", "swd._wire", "swd._serial", "swd._sys"),
    ),
    (0, "swd.proto"),
    (0, "swd.messages"),
    (0, "swd.sockets"),
    (0, "swd.strided"),
    (-1, "swd.values", "swd.errors"),
)
HOME = {name: (rank, group) for rank, *group in RANKS for name in group}

FREE = "swd.__version__"  # a literal, which stands above nothing

SOCKETS = {"socket", "ssl", "select", "selectors", "socketserver", "asyncio"}
MAY_NOT_KNOW = {
    "swd.values": SOCKETS | {"time", "threading", "logging", "random", "secrets", "os", "numpy"},
    "swd.errors": SOCKETS | {"time", "threading", "logging", "random", "secrets", "os", "numpy"},
    "swd.proto": SOCKETS
    | {"time", "datetime", "threading", "multiprocessing", "concurrent", "subprocess", "signal", "logging", "random"}
    | {"secrets", "os", "pathlib", "sqlite3", "numpy"},
    "swd.scsi": SOCKETS | {"swd.proto.pdu", "random", "numpy"},
    "swd.disk": SOCKETS | {"swd.proto.pdu"},
    "swd.ioqueue": SOCKETS | {"swd.proto.pdu"},
    "swd.driver": {"swd.proto.pdu"},
    "swd.cli": {"swd.proto.pdu", "ssl", "select", "selectors", "asyncio"},
}


def is_below(name: str, home: str) -> bool:
    """Whether `name` is module or package `home`, or something in it; for the top only the public names are in it."""
    if home == "swd":
        return name == "swd" or (name.startswith("swd.") and name.count(".") == 1)
    return name == home or name.startswith(home + ".")


def placed(name: str) -> str | None:
    """The longest row of the table that `name` belongs to."""
    return max((home for home in HOME if is_below(name, home)), key=len, default=None)


def faults(top: Path) -> list[str]:
    """A line for each import that breaks the table, and for each module that has no row."""
    known = imports.modules(top)
    found = [f"{path}: has no rank" for name, path in known.items() if name != "swd" and placed(name) in (None, "swd")]
    for use in imports.read(top):
        where = f"{use.path.relative_to(top)}:{use.line}: {use.importer} (rank {{}}) imports {use.imported} (rank {{}})"
        ours, theirs = placed(use.importer), placed(use.imported)
        if ours is None or theirs is None or use.imported == FREE:
            continue
        (our_rank, our_group), (their_rank, their_group) = HOME[ours], HOME[theirs]
        if our_rank < their_rank or (our_rank == their_rank and our_group != their_group):
            found.append(where.format(our_rank, their_rank))
    return found


def forbidden(top: Path) -> list[str]:
    """A line for each import of something that its importer may not know."""
    return [
        f"{use.path.relative_to(top)}:{use.line}: {use.importer} may not know {use.imported}"
        for use in imports.read(top)
        for place, unknown in MAY_NOT_KNOW.items()
        if is_below(use.importer, place) and any(is_below(use.imported, name) for name in unknown)
    ]


def test_imports_point_down(root: Path) -> None:
    assert faults(root) == []


def test_places_know_only_what_they_may(root: Path) -> None:
    assert forbidden(root) == []


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("swd/proto/up.py", "from swd.iscsi import session", "swd.iscsi.session"),
        ("swd/proto/late.py", "def f():\n    import swd.scsi.sense", "swd.scsi.sense"),
        ("swd/scsi/relative.py", "from ..driver import errnos", "swd.driver.errnos"),
        ("swd/target/sideways.py", "from swd.iscsi import session", "swd.iscsi.session"),
        ("swd/iscsi/table.py", "ROWS = ('swd.disk:Disk', 'swd.toml')", "swd.disk.Disk"),
        ("swd/values.py", "import swd", "swd"),
        ("swd/_wire.pxd", "from swd.scsi.sense cimport Sense", "swd.scsi.sense"),
        ("swd/newcomer.py", "", "no rank"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, path: str, text: str, named: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text + "\n")
    (tmp_path / "swd/disk.py").touch()
    found = faults(tmp_path)
    assert len(found) == 1
    assert named in found[0]


def test_an_included_file_belongs_to_its_module(tmp_path: Path) -> None:
    (tmp_path / "swd").mkdir()
    (tmp_path / "swd/_engine.pyx").write_text('include "_engine_part.pxi"\n')
    (tmp_path / "swd/_engine_part.pxi").write_text("from swd.scsi.sense cimport Sense\n")
    assert [line.partition(" (")[0] for line in faults(tmp_path)] == ["swd/_engine_part.pxi:1: swd._engine"]


@pytest.mark.parametrize(
    "text", ["import socket", "from time import monotonic", "def f():\n    from os import urandom"]
)
def test_a_socket_a_clock_or_chance_in_proto_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "swd/proto").mkdir(parents=True)
    (tmp_path / "swd/proto/impure.py").write_text(text + "\n")
    assert len(forbidden(tmp_path)) == 1


def test_a_legal_import_passes(tmp_path: Path) -> None:
    (tmp_path / "swd/driver/rows").mkdir(parents=True)
    (tmp_path / "swd/driver/rows/mem.py").write_text(
        "import socket\nfrom swd.disk import Disk\nfrom ..errnos import x\n"
    )
    assert faults(tmp_path) == forbidden(tmp_path) == []
