# SPDX-License-Identifier: Apache-2.0
"""`python -m swd.target --lun mem://64M`: the embedded target as a process of its own.

Prints "ready iscsi://ADDRESS:PORT/NAME/0", serves until SIGTERM or SIGINT, and then, with --stats, prints its
counts as one line of JSON. Secrets come from the environment, as everywhere in swd: SWD_CHAP_SECRET is the
initiator's, SWD_CHAP_TARGET_SECRET the target's own (mutual CHAP).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
from collections.abc import Sequence

from swd.errors import InvalidArgument, SwdError
from swd.proto.dev import FileDev, IscsiDev, MemDev
from swd.proto.lun import field
from swd.proto.url import parse_dev
from swd.target.config import BLOCK_SIZES, Limits, Lun, TargetConfig
from swd.target.faults import Plan
from swd.target.media import FileMedium, Medium, RamMedium
from swd.target.server import TargetServer
from swd.values import Chap

_DEFAULT_NAME = "iqn.2026-01.org.swd:embedded"
_DIGESTS = {"any": ("none", "crc32c"), "none": ("none",), "require": ("crc32c",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; the exit status: 0, or an errno with one line on stderr."""
    options = _parser().parse_args(arguments)
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)  # before any thread is made: all of them inherit it
    media: list[Medium] = []
    try:
        target = _target(options, media)
        plan = None if options.faults is None else Plan.load(options.faults)
        server = TargetServer(
            [target], options.portal, discovery_chap=target.chap, public=options.public, faults=plan,
            compiled=not options.no_compiled, spin_us=options.spin_us, congestion=options.congestion,
        )  # fmt: skip
        with server:
            print(f"ready {IscsiDev(server.portal, options.name, field(0))}", flush=True)
            signal.sigwait(stop_signals)
        if options.stats:
            print(json.dumps(server.statistics), flush=True)
    except SwdError as error:
        print(f"swd.target: {error}", file=sys.stderr)
        return error.errno or 1
    finally:
        for medium in media:
            medium.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swd.target", description="a small iSCSI target for tests and demos"
    )
    add = parser.add_argument
    add("--lun", action="append", required=True, metavar="DEV", help="mem://64M or file://path; the first is LUN 0")
    add("--portal", default="127.0.0.1:0", metavar="HOST:PORT", help="where to listen; port 0 takes a free one")
    add("--public", action="store_true", help="allow an address that is not loopback")
    add("--name", default=_DEFAULT_NAME, help="the target's iSCSI name")
    add("--block-size", type=int, choices=BLOCK_SIZES, default=512, help="for LUNs that do not name theirs")
    add("--read-only", action="store_true", help="write-protect all LUNs")
    add("--user", help="require CHAP by this name, with the secret in SWD_CHAP_SECRET")
    add("--target-user", help="the name by which the target proves itself, with SWD_CHAP_TARGET_SECRET")
    add("--header-digest", choices=_DIGESTS, default="any", help="what is accepted")
    add("--data-digest", choices=_DIGESTS, default="any", help="what is accepted")
    defaults = Limits()
    for name in ("max_recv_data_segment_length", "max_burst_length", "first_burst_length", "max_outstanding_r2t"):
        add(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name), metavar="N")
    add("--queue-depth", type=int, default=TargetConfig.queue_depth, metavar="N", help="open commands of a session")
    add("--default-time2wait", type=int, default=defaults.default_time2wait, metavar="S", help="seconds")
    add("--initial-r2t", action="store_true", help="refuse unsolicited Data-Out")
    add("--no-immediate-data", action="store_true", help="refuse data within commands")
    add("--congestion", metavar="NAME", help="TCP congestion control, such as cubic; default: the host's")
    add("--spin-us", type=int, default=0, metavar="N", help="look for the next command so long before sleeping")
    add("--huge-pages", action="store_true", help="mem:// in huge pages: faster, and takes its memory in large pieces")
    add("--no-compiled", action="store_true", help="serve memory by Python, too")
    add("--faults", metavar="PLAN", help="misbehave by the fault plan in this file (docs/faults.md)")
    add("--stats", action="store_true", help="print counts as JSON when stopped")
    return parser


def _target(options: argparse.Namespace, media: list[Medium]) -> TargetConfig:
    luns = {}
    for number, text in enumerate(options.lun):
        medium, block_size = _medium(text, options)
        media.append(medium)
        luns[number] = Lun(medium, block_size=block_size, read_only=options.read_only, serial=_serial(text))
    return TargetConfig(
        options.name,
        luns,
        chap=_chap(options),
        header_digest=_DIGESTS[options.header_digest],
        data_digest=_DIGESTS[options.data_digest],
        queue_depth=options.queue_depth,
        limits=Limits(
            max_recv_data_segment_length=options.max_recv_data_segment_length,
            max_burst_length=options.max_burst_length,
            first_burst_length=options.first_burst_length,
            max_outstanding_r2t=options.max_outstanding_r2t,
            initial_r2t=options.initial_r2t,
            immediate_data=not options.no_immediate_data,
            default_time2wait=options.default_time2wait,
        ),
    )


def _medium(text: str, options: argparse.Namespace) -> tuple[Medium, int]:
    dev = parse_dev(text)
    if isinstance(dev, MemDev):
        medium = RamMedium(dev.size, huge_pages=options.huge_pages)
        return medium, dev.block_size if "block_size" in text else options.block_size
    if isinstance(dev, FileDev) and not dev.options:
        return FileMedium(dev.path, read_only=options.read_only), options.block_size
    raise InvalidArgument(f"{text} cannot be served: use mem://SIZE or file://PATH without options")


def _serial(text: str) -> str:
    """A file is the same disk at whatever LUN it is served, and another file is another disk; memory has no name."""
    dev = parse_dev(text)
    return hashlib.sha256(os.path.realpath(dev.path).encode()).hexdigest()[:20] if isinstance(dev, FileDev) else ""


def _chap(options: argparse.Namespace) -> Chap | None:
    if options.user is None:
        return None
    secret = os.environ.get("SWD_CHAP_SECRET")
    if not secret:
        raise InvalidArgument("--user needs the initiator's secret in SWD_CHAP_SECRET")
    return Chap(
        options.user,
        secret,
        target_user=options.target_user,
        target_secret=os.environ.get("SWD_CHAP_TARGET_SECRET") or None,
    )


if __name__ == "__main__":
    sys.exit(main())
