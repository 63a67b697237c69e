# SPDX-License-Identifier: Apache-2.0
"""The targets: a name, the function, what of swd it is about, and how it is run.

`native`: it is about compiled modules, so that coverage comes from clang's instrumentation of a build of their own,
without which the run is blind. `longest`: bytes of an input. `share` of the time of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness import disks, engine, filesystems, logins, plans, reads, scsi, target, texts, twins


class Target(NamedTuple):
    name: str
    run: Callable[[bytes], None]
    longest: int = 1024
    native: bool = False
    share: int = 1


TARGETS = (
    Target("text-keys", texts.text_keys, 2048),
    Target("send-targets", texts.send_targets, 2048),
    Target("device-names", texts.device_names, 512),
    Target("login", logins.initiator, 2048, share=2),
    Target("login-of-target", logins.target, 2048, share=2),
    Target("sense", scsi.sense, 256),
    Target("pages", scsi.pages, 512),
    Target("luns", texts.luns, 512),
    Target("headers", scsi.headers, 48),
    Target("mbr", disks.mbr, 1024),
    Target("gpt", disks.gpt, 2048),
    Target("lvm-text", disks.lvm_text, 8192, share=3),
    Target("lvm-disk", disks.lvm_disk, 4096),
    Target("superblocks", filesystems.superblocks, 1024, share=2),
    Target("array-superblocks", filesystems.arrays, 1024),
    Target("fault-plans", plans.plan, 1024, share=2),
    Target("target-framing", target.framing, 2048, share=2),
    Target("target-session", target.session, 1024, share=3),
    Target("target-path", twins.path, 2048, native=True, share=6),
    Target("engine", engine.stream, 2048, native=True, share=8),
    Target("reads", reads.run, 1024, native=True, share=4),
)


def any_of_them(data: bytes) -> None:
    """The target that the first byte says: for short runs, where to start each by itself would cost the most."""
    TARGETS[data[0] % len(TARGETS) if data else 0].run(data[1:])


ALL = Target("all", any_of_them, 2048)
BY_NAME = {row.name: row for row in (*TARGETS, ALL)}
