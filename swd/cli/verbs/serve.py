# SPDX-License-Identifier: Apache-2.0
"""`target serve`: local DEVs behind the embedded target, until Ctrl-C or SIGTERM. `target faults`: plans in words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from swd.cli import render
from swd.cli.call import Call, Terminated, UsageProblem
from swd.cli.verbs import serve_file
from swd.driver import secrets
from swd.errors import InvalidArgument, Unsupported
from swd.proto import options
from swd.proto.lun import field
from swd.proto.url import FileDev, IscsiDev, MemDev, parse_dev
from swd.target.config import Lun, TargetConfig
from swd.target.faults import KINDS, Kind, Plan
from swd.target.media import FileMedium, Medium, RamMedium
from swd.target.server import TargetServer
from swd.values import Chap

DIGESTS: Final = ("none", "crc32c")
_NAME: Final = "iqn.2026-01.org.example:swd"
_PORTAL: Final = "127.0.0.1:3260"


@dataclass(frozen=True, slots=True)
class Serving:
    """The ready line: the names by which initiators reach the units."""

    ready: bool
    portal: str
    portals: tuple[str, ...]
    target: str
    auth: str
    devices: tuple[str, ...]
    faults: tuple[str, ...]  # what the plan will do


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault, for the list of them."""

    fault: str
    strikes: str
    example: str
    what: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A plan in words."""

    plan: str
    seed: int
    faults: tuple[str, ...]


def serve(
    call: Call,
    *,
    portal: Sequence[str],
    target: str | None,
    lun: Sequence[str],
    config: str | None,
    state_file: str | None,
    block_size: int,
    user: str | None,
    secret_file: str | None,
    target_user: str | None,
    target_secret_file: str | None,
    header_digest: str,
    data_digest: str,
    public: bool,
    congestion: str | None,
    spin: int,
    huge_pages: bool,
    faults: str | None,
) -> None:
    """Prints the ready line when the port listens, the counts at the end; a signal ends it, with its status."""
    plan = None if faults is None else Plan.load(faults)
    with contextlib.ExitStack() as stack:

        def open_unit(dev: str, size: int) -> Lun:
            return _unit(stack, dev, size, huge_pages)

        if config is not None:
            if lun or target is not None or user is not None:
                raise UsageProblem("--config says it all: leave --lun, --target and --user out, or --config")
            described = serve_file.read(config, open_unit)
        elif lun:
            given = {"user": user, "secret_file": secret_file, "target_user": target_user}
            name = target or _NAME
            chap = _chap(name, **given, target_secret_file=target_secret_file)
            one = TargetConfig(
                name,
                {number: open_unit(text, block_size) for number, text in enumerate(lun)},
                chap=chap,
                header_digest=_digests(header_digest),
                data_digest=_digests(data_digest),
            )
            described = serve_file.Described((one,), (), None, False, chap)
        else:
            raise UsageProblem("name what to serve: --lun DEV, such as mem://1G, or --config FILE")
        server = stack.enter_context(
            TargetServer(
                described.targets,
                portal or described.portals or _PORTAL,
                discovery_chap=described.discovery_chap,
                public=public or described.public,
                faults=plan,
                spin_us=spin,
                congestion=congestion,
                state_file=state_file or described.state_file,
            )
        )
        _emit(call, _serving(server, described.targets, plan))
        try:
            threading.Event().wait()
        except (KeyboardInterrupt, Terminated):
            _emit(call, server.statistics)
            raise


def _serving(server: TargetServer, targets: Sequence[TargetConfig], plan: Plan | None) -> Serving:
    """How it can be reached; each unit by the first portal that leads to it."""
    devices = tuple(
        str(IscsiDev(server.leading_to(one)[0], one.name, field(number)))
        for one in targets
        if server.leading_to(one)
        for number in one.luns
    )
    first = targets[0]
    auth = "none" if first.chap is None else "CHAP, mutual" if first.chap.mutual else "CHAP"
    said = () if plan is None else tuple(plan.explain())
    portals = tuple(str(one) for one in server.portals)
    return Serving(True, portals[0], portals, first.name, auth, devices, said)


def faults(_call: Call, *, plan: str | None) -> Explained | list[FaultKind]:
    """A plan in words, or the table of kinds."""
    if plan is None:
        rows = sorted(KINDS.values(), key=lambda kind: kind.name)
        return [FaultKind(kind.name, _place(kind), kind.example, kind.help) for kind in rows]
    read = Plan.load(plan)
    return Explained(plan, read.seed, tuple(read.explain()))


def _place(kind: Kind) -> str:
    """Where it strikes, and whether on a DEV, too."""
    return f"{kind.place}, DEV" if kind.block else kind.place


def _emit(call: Call, record: object) -> None:
    render.emit(render.as_json(record) if call.json else render.as_text(record))


def _chap(target: str, **settings: str | None) -> Chap | None:
    """What initiators must prove to know, from where an initiator would have it; None without --user."""
    given = {key: value for key, value in settings.items() if value is not None}
    if given and "user" not in given:
        raise InvalidArgument("secrets without --user protect nothing: name the user that initiators log in as")
    return secrets.resolve(options.read(given, source="target serve"), peer=target) if given else None


def _digests(text: str) -> tuple[str, ...]:
    """`crc32c,none` as a tuple; `crc32c!` (required) is what a list without `none` means."""
    words = tuple(word.strip().removesuffix("!") for word in text.split(","))
    if not set(words) <= set(DIGESTS):
        raise InvalidArgument(f"{text[:40]!a} is no digest policy: write crc32c, none, or both in order of preference")
    return words


def _unit(stack: contextlib.ExitStack, text: str, block_size: int, huge_pages: bool) -> Lun:
    dev = parse_dev(text)
    if isinstance(dev, MemDev):
        medium: Medium = RamMedium(dev.size, huge_pages=huge_pages)
        own = dev.block_size if dev.block_size != MemDev(0).block_size else block_size
    elif isinstance(dev, FileDev):
        medium = FileMedium(dev.path)
        own = int(_setting(dev.options, "block_size", block_size))
    else:
        raise Unsupported(f"{dev} cannot be served: the embedded target serves mem:// and local files")
    stack.callback(medium.close)
    return Lun(medium, own)


def _setting(pairs: Sequence[tuple[str, str]], key: str, default: int) -> str | int:
    settings: Mapping[str, str] = dict(pairs)
    return settings.get(key, default)
