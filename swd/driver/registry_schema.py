# SPDX-License-Identifier: Apache-2.0
"""The tables of the registry, as steps from one version to the next. `PRAGMA user_version` says which steps were taken.

A step is never changed once it was released: a new table or column is a new step at the end.
"""

from __future__ import annotations

from typing import Final

# A LUN is its 16 hex digits: SQLite's integers have 63 bits and a sign. Times are seconds of the epoch, sizes bytes.
_PATHS: Final = (
    "CREATE TABLE targets (name TEXT PRIMARY KEY, last_seen REAL NOT NULL)",
    "CREATE TABLE addresses (host TEXT, port INTEGER, last_seen REAL NOT NULL, PRIMARY KEY (host, port))",
    """CREATE TABLE instances (number INTEGER PRIMARY KEY, target TEXT NOT NULL, host TEXT NOT NULL,
       port INTEGER NOT NULL, UNIQUE (target, host, port))""",
    """CREATE TABLE units (instance INTEGER NOT NULL, lun TEXT NOT NULL, identity TEXT NOT NULL,
       strong INTEGER NOT NULL, size INTEGER NOT NULL, block_size INTEGER NOT NULL, last_seen REAL NOT NULL,
       PRIMARY KEY (instance, lun))""",
)
_STORIES: Final = (
    "CREATE TABLE wanted (target TEXT PRIMARY KEY, since REAL NOT NULL)",
    "CREATE TABLE errors (subject TEXT PRIMARY KEY, errno INTEGER NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE statistics (subject TEXT PRIMARY KEY, counters TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE INDEX units_by_identity ON units (identity)",
)

_VOLUMES: Final = ("CREATE TABLE volume_groups (name TEXT PRIMARY KEY, record TEXT NOT NULL)",)

STEPS: Final[tuple[tuple[str, ...], ...]] = (_PATHS, _STORIES, _VOLUMES)
VERSION: Final = len(STEPS)

SMALLEST_FREE: Final = (
    "SELECT min(n) FROM (SELECT 0 AS n UNION SELECT number + 1 FROM instances)"
    " WHERE n NOT IN (SELECT number FROM instances)"
)
UNITS: Final = (
    "SELECT number, target, host, port, lun, identity, strong, size, block_size, units.last_seen"
    " FROM units JOIN instances ON instance = number"
)
