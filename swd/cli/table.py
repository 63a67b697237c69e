# SPDX-License-Identifier: Apache-2.0
"""The verbs of `swdctl` as data: one row a verb, nothing else.

`cli.main` makes click commands from the rows, and `--help` is their text. A row names its function by path, so that no
verb costs an import until it is called. A new verb is a new row here, a function in `cli/verbs/`, and a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "dev", "portal", "file", "size", "int", "number", "flag"]
Gate = Literal["always", "devices", "never"]

OVERWRITE_HELP: Final = "Go on although the unit holds a partition table, file system, volume group or swap space."
FORCE_HELP: Final = "Go on although this host's kernel has the same unit attached."


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument. `required=False` gives None (or an empty tuple when `many`)."""

    name: str
    metavar: str
    kind: Kind = "text"
    required: bool = True
    many: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """An option. `size` takes K, M, G, T (powers of 1024) and gives bytes; `flag` takes no value."""

    flags: tuple[str, ...]
    help: str
    kind: Kind = "text"
    metavar: str | None = None
    default: str | int | float | bool | None = None
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    parameter: str = ""

    @property
    def name(self) -> str:
        """The parameter of the verb's function: the long flag as a Python word, or what `parameter` says instead."""
        return self.parameter or self.flags[-1].lstrip("-").replace("-", "_")


@dataclass(frozen=True, slots=True)
class Verb:
    """A row. `gate` says when the network phase is asked: always, for each DEV that is named, or never.

    `options_key` is True where a DEV or a portal is taken: such a verb has `-O key=value`.
    """

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    gate: Gate = "never"
    options_key: bool = False


def _offset(what: str) -> Option:
    return Option(("--offset",), f"{what}, in bytes.", "size", "N", default="0")


_OVERWRITE: Final = Option(("--overwrite",), OVERWRITE_HELP, "flag", default=False)
_FORCE: Final = Option(("--force",), FORCE_HELP, "flag", default=False)
_DEV: Final = Argument("dev", "DEV", "dev")
_DEVICE: Final = Option(
    ("--device",), "A DEV with a physical volume, or with partitions that are. Repeatable.", "text", "DEV", many=True
)
_PARTITION: Final = Option(("--partition",), "Partition N of the device.", "int", "N")

_INSIDE: Final = Argument("path", "[PATH]", required=False, default="/")
_READ_FS: Final = (_PARTITION, Option(("--dirty",), "Read it although it is not clean.", "flag", default=False))


def _fs(word: str, help: str, arguments: tuple[Argument, ...]) -> Verb:
    return Verb(f"fs {word}", help, f"swd.cli.verbs.fs:{word}", arguments, _READ_FS, gate="devices", options_key=True)


GROUPS: Final[dict[str, str]] = {
    "config": "Show or change the configuration.",
    "fs": "Read the file system on a device: list, copy out; nothing is written to it.",
    "phase": "Show or set the network phase of this host.",
    "placement": "What may not live on iSCSI.",
    "startup": "The two passes of a host's start.",
    "target": "The embedded target, for demonstrations and tests.",
    "vg": "LVM2 volume groups: find them, make them known, forget them.",
    "lv": "Logical volumes of LVM2 volume groups.",
}

_SCOPE: Final = Option(
    ("--scope",),
    "Where it holds: all, discovery/HOST:PORT, target/NAME or target/NAME/HOST:PORT; default: the widest.",
    "text",
    "SCOPE",
)
_DISCOVERY: Final = Option(("--discovery",), "Of the discovery sessions with this portal.", "portal", "PORTAL")

_ROOT: Final = Option(("--root",), "The host, or the image of one, below this folder.", "file", "DIR", "/")

_SERVE: Final = (
    Option(
        ("--portal",),
        "Where to listen, with its portal group if that is not 1. Repeatable; default: 127.0.0.1:3260.",
        "text",
        "HOST:PORT[,GROUP]",
        many=True,
    ),
    Option(("--target",), "The target's name. Default: iqn.2026-01.org.example:swd.", "text", "NAME"),
    Option(("--lun",), "A DEV to serve; the first is LUN 0. Repeatable.", "text", "DEV", many=True),
    Option(("--config",), "Serve what this TOML file describes (docs/target.md).", "file", "FILE"),
    Option(("--state-file",), "Where persistent reservations outlive this process (APTPL).", "file", "FILE"),
    Option(("--block-size",), "Logical block size of the LUNs: 512 or 4096.", "size", "N", "512"),
    Option(("--user",), "Require CHAP of initiators, with this user name.", "text", "NAME"),
    Option(("--secret-file",), "File (mode 0600) with the secret of --user.", "file", "FILE"),
    Option(("--target-user",), "The name that the target proves to be (mutual CHAP).", "text", "NAME"),
    Option(("--target-secret-file",), "File (0600) with the target's secret.", "file", "FILE"),
    Option(("--header-digest",), "crc32c, none, or a list by preference.", "text", "LIST", "crc32c,none"),
    Option(("--data-digest",), "As --header-digest, for data.", "text", "LIST", "crc32c,none"),
    Option(("--public",), "Listen on an address that others can reach, too.", "flag", default=False),
    Option(("--congestion",), "TCP congestion control, such as cubic. Default: the host's.", "text", "NAME"),
    Option(("--spin",), "Microseconds to look for the next command before sleeping.", "int", "N", 0),
    Option(("--huge-pages",), "mem:// in huge pages: faster, takes its memory in 2 MiB pieces.", "flag", default=False),
    Option(("--faults",), "Misbehave by the fault plan in this file (docs/faults.md).", "file", "PLAN"),
)

VERBS: Final[tuple[Verb, ...]] = (
    Verb(
        "discover",
        "Ask a portal for its targets (SendTargets). PORTAL is HOST[:PORT] or [IPV6]:PORT; the port defaults to 3260.",
        "swd.cli.verbs.discover:discover",
        (Argument("portal", "PORTAL", "portal"),),
        gate="always",
        options_key=True,
    ),
    Verb(
        "scan",
        "Ask a portal, and every portal that it names, for its units, and remember them; without PORTAL, ask again for "
        "all that is remembered.",
        "swd.cli.verbs.scan:scan",
        (Argument("portal", "[PORTAL]", "portal", required=False),),
        (Option(("--target",), "Only this target.", "text", "NAME"),),
        gate="always",
        options_key=True,
    ),
    Verb("list", "Show what is remembered: targets, units, hardware paths. Asks nobody.", "swd.cli.verbs.scan:known"),
    Verb(
        "login",
        "Prove that a login works (CHAP, digests, identity), record the target as wanted, and log out.",
        "swd.cli.verbs.login:login",
        (Argument("names", "DEV|TARGET...", many=True),),
        gate="always",
        options_key=True,
    ),
    Verb(
        "logout",
        "The target is wanted no more. Refused while a process holds a session with it.",
        "swd.cli.verbs.login:logout",
        (Argument("name", "TARGET|DEV"),),
        (Option(("--forget",), "Forget the target, its hardware paths and its units.", "flag", default=False),),
        gate="always",
    ),
    Verb(
        "info",
        "Log in and show what a device is and what was negotiated; or, with --build, what this swd is made of.",
        "swd.cli.verbs.info:info",
        (Argument("dev", "[DEV]", "dev", required=False),),
        (Option(("--build",), "Show version, CRC kernels, and where swd is.", "flag", default=False),),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "read",
        "Read bytes of a device to a file or to standard output.",
        "swd.cli.verbs.data:read",
        (_DEV,),
        (
            _offset("Where to start"),
            Option(("--length",), "How many bytes; default: to the end of the device.", "size", "N"),
            Option(
                (
                    "-o",
                    "--output",
                ),
                "Where to; `-` is standard output.",
                "file",
                "FILE",
                default="-",
            ),
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "write",
        "Write a file, or standard input, to a device. Refuses a device that holds something, see --overwrite.",
        "swd.cli.verbs.data:write",
        (_DEV,),
        (
            _offset("Where to start on the device"),
            Option(
                (
                    "-i",
                    "--input",
                ),
                "Where from; `-` is standard input.",
                "file",
                "FILE",
                default="-",
            ),
            _OVERWRITE,
            _FORCE,
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "copy",
        "Copy a whole device to another. SRC and DST are DEVs, or `-`; a local file that is not there yet is made.",
        "swd.cli.verbs.data:copy",
        (Argument("src", "SRC", "dev"), Argument("dst", "DST", "dev")),
        (Option(("--verify",), "Read DST back and compare.", "flag", default=False), _OVERWRITE, _FORCE),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "ioctl",
        "Send a control request to a device. `--list` names the requests; docs/ioctl.md says what they do.",
        "swd.cli.verbs.ioctl:ioctl",
        (
            Argument("dev", "[DEV]", "dev", required=False),
            Argument("request", "[REQUEST]", required=False),
            Argument("pairs", "[KEY=VALUE]...", required=False, many=True),
        ),
        (
            Option(("--list",), "List the requests and their arguments.", "flag", default=False),
            Option(("--write",), "Open DEV for writing: for SG_IO commands that change it.", "flag", default=False),
            _OVERWRITE,
            _FORCE,
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "stats",
        "Show what was counted, each row with its class (I, T, D, C) and what that advises. With a DEV: its session, "
        "opened for this; without: this process and what was saved.",
        "swd.cli.verbs.stats:stats",
        (Argument("dev", "[DEV]", "dev", required=False),),
        (
            Option(("--format",), "text, json, or prometheus.", "text", "FORMAT", default="text"),
            Option(("--all",), "In text: rows that are 0 or not applicable, too.", "flag", default=False),
            Option(("--clear",), "Count from here on, after showing.", "flag", default=False),
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "trace",
        "Run a verb and record all its PDUs in FILE, a pcap for tshark or Wireshark (mode 0600): "
        "swdctl trace FILE.pcap -- read DEV --length 4K",
        "swd.cli.verbs.trace:trace",
        (Argument("file", "FILE", "file"), Argument("words", "-- VERB [ARGS]...", many=True)),
        (Option(("--with-chap",), "Do not mask the values of CHAP_R and CHAP_C.", "flag", default=False),),
    ),
    Verb(
        "fs detect",
        "Say which file system is on a device, whether it is clean, and whether swd reads it.",
        "swd.cli.verbs.fs:detect",
        (_DEV,),
        (_PARTITION,),
        gate="devices",
        options_key=True,
    ),
    _fs("ls", "List a directory of the file system on a device, or tell of one file.", (_DEV, _INSIDE)),
    _fs("tree", "List all names below a directory of the file system on a device.", (_DEV, _INSIDE)),
    _fs("cat", "Write a file of the file system on a device to standard output.", (_DEV, Argument("path", "PATH"))),
    Verb(
        "fs get",
        "Copy a file, or with -r all of a directory, out of the file system on a device. Times, modes, links and "
        "holes are kept.",
        "swd.cli.verbs.fs_get:get",
        (_DEV, Argument("path", "PATH")),
        (
            Option(("-o", "--output"), "File or folder to make; default: the name that it has there.", "file", "PLACE"),
            Option(("-r", "--recursive"), "A directory with all that is in it.", "flag", default=False),
            Option(("--overwrite",), "Replace files that are there, fill folders that are.", "flag", default=False),
            Option(("--owner",), "Keep owners, set-user-ID and set-group-ID, too (root only).", "flag", default=False),
            *_READ_FS,
        ),
        gate="devices",
        options_key=True,
    ),
    _fs("df", "Tell size and free space of the file system on a device.", (_DEV,)),
    Verb(
        "config show",
        "Show each effective value with its scope, file and line; with DEV, those of a session to it.",
        "swd.cli.verbs.config:show",
        (Argument("dev", "[DEV]", "dev", required=False),),
        (_DISCOVERY,),
    ),
    Verb(
        "config get",
        "Show one effective value; --verbose says where it is from.",
        "swd.cli.verbs.config:get",
        (Argument("key", "KEY"), Argument("dev", "[DEV]", "dev", required=False)),
        (_DISCOVERY,),
    ),
    Verb(
        "config set",
        "Write a key to the configuration file (root: the host's, else your own); comments and all other lines stay.",
        "swd.cli.verbs.config:set",
        (Argument("pair", "KEY=VALUE"),),
        (_SCOPE,),
    ),
    Verb(
        "config unset",
        "Remove a key from the configuration file.",
        "swd.cli.verbs.config:unset",
        (Argument("key", "KEY"),),
        (_SCOPE,),
    ),
    Verb(
        "vg scan",
        "Look for volume groups: on these DEVs and their partitions; without --device, on all remembered units.",
        "swd.cli.verbs.volumes:scan",
        options=(_DEVICE,),
        options_key=True,
    ),
    Verb("vg list", "Show the volume groups that are active. Asks nobody.", "swd.cli.verbs.volumes:known"),
    Verb(
        "vg info",
        "Show a volume group with its physical and logical volumes.",
        "swd.cli.verbs.volumes:info",
        (Argument("vg", "VG"),),
        (_DEVICE,),
        options_key=True,
    ),
    Verb(
        "vg activate",
        "Check a volume group, or all that are there, and record it: lvm://VG/LV works from then on. Before the "
        "network is there this prints nothing.",
        "swd.cli.verbs.volumes:activate",
        (Argument("vg", "[VG]", required=False),),
        (
            _DEVICE,
            Option(("--partial",), "Although disks are missing: what they hold is EIO.", "flag", default=False),
            Option(("--rw",), "For writing, too, where the volume allows it (docs/volumes.md).", "flag", default=False),
        ),
        options_key=True,
    ),
    Verb(
        "vg deactivate",
        "The volume group, or all, is active no more. Refused while a process has a volume of it open.",
        "swd.cli.verbs.volumes:deactivate",
        (Argument("vg", "[VG]", required=False),),
    ),
    Verb(
        "lv list",
        "Show the logical volumes of a group, or of all active ones: sizes, types, what can be read and written.",
        "swd.cli.verbs.volumes:volumes_of",
        (Argument("vg", "[VG]", required=False),),
        (_DEVICE,),
        options_key=True,
    ),
    Verb(
        "lv info",
        "Show a logical volume with its segments.",
        "swd.cli.verbs.volumes:volume",
        (Argument("name", "VG/LV"),),
        (_DEVICE,),
        options_key=True,
    ),
    Verb(
        "phase show",
        "Say what the network phase is, since when, who set it, and by what evidence.",
        "swd.cli.verbs.phase:show",
    ),
    Verb(
        "phase begin",
        "Enter the phase before the network is up: remote storage answers ENETUNREACH at once, and quietly.",
        "swd.cli.verbs.phase:begin",
        options=(Option(("--force",), "Even after `phase complete` in this boot.", "flag", default=False),),
    ),
    Verb(
        "phase complete",
        "The first attempt at network initialisation is over, successful or not.",
        "swd.cli.verbs.phase:complete",
    ),
    Verb(
        "mount",
        "Mount the file system on a device by this host's kernel (FUSE and a loop device; needs root). "
        "Read-only, unless -o rw, which is EXPERIMENTAL.\n\n"
        "A file system with a journal that was not unmounted cleanly is refused (EBUSY): "
        "`-o ro,noload` (ext) or `-o ro,norecovery` (XFS) shows it as it is.",
        "swd.cli.verbs.mount:mount",
        (_DEV, Argument("directory", "DIR", "file")),
        (
            Option(("-t", "--type"), "The type of the file system; without it, what blkid finds.", "text", "TYPE"),
            Option(
                ("-o", "--options"),
                "Options as of mount(8), separated by commas; `nosuid,nodev` hold unless `suid` or `dev` is given.",
                "text",
                "OPTIONS",
                many=True,
            ),
            _FORCE,
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "umount",
        "Write, flush and unmount what `mount` mounted, and end the process behind it; cleans up if that was killed. "
        "EIO, when it is unmounted, if not all that was written is safe.",
        "swd.cli.verbs.mount:umount",
        (Argument("name", "[DIR|DEV]", "file", required=False),),
        (Option(("--all",), "Everything that swd has mounted, as at shutdown.", "flag", default=False),),
    ),
    Verb(
        "placement check",
        "Follow what this host mounts, swaps to, dumps to and boots from down to its devices, and refuse (EINVAL) what "
        "may not be on iSCSI: /, /boot, /usr where the boot needs it, /var, primary swap, dump.",
        "swd.cli.verbs.placement:check",
        options=(
            Option(("--root",), "Look at the host, or the image of one, below this folder.", "file", "DIR", "/"),
            Option(("--fstab",), "Look at this file instead of its /etc/fstab.", "file", "FILE"),
        ),
    ),
    Verb(
        "startup",
        "Do what [startup] of the configuration lists, in boot order: discover, log in, activate volume groups, check "
        "file systems.\n\n"
        "--pass 1 comes before the network: it fails at once, without a word, with ENETUNREACH. --pass 2 comes after "
        "the first attempt at the network, successful or not, does it all for real, and ends with the errno of the "
        "first failure. --watch waits for the network, ends the phase, runs pass 2, and again when the network changes "
        "as long as something is missing.",
        "swd.cli.verbs.startup:startup",
        options=(
            Option(("--pass",), "Which pass.", "text", "1|2", choices=("1", "2"), parameter="number"),
            Option(("--watch",), "Stay between the passes; needs the extra `net`.", "flag", default=False),
        ),
    ),
    Verb(
        "startup install",
        "Put systemd units (or rc scripts) that do all this on a host, and enable them. Refuses with EINVAL where "
        "`placement check` would.",
        "swd.cli.verbs.startup:install",
        options=(
            _ROOT,
            Option(("--rc",), "rc scripts for /etc/init.d instead of systemd units.", "flag", default=False),
            Option(
                ("--watch",), "Let `startup --watch` wait, not network-online.target.", "flag", default=False
            ),
            Option(("--swdctl",), "Where swdctl is on that host; default: where it is here.", "file", "PATH"),
        ),
    ),
    Verb(
        "startup uninstall",
        "Take away what `startup install` put there, and nothing else.",
        "swd.cli.verbs.startup:uninstall",
        options=(_ROOT,),
    ),
    Verb(
        "target serve",
        "Serve local DEVs from the embedded target until Ctrl-C. For demonstrations and tests, not for real data.\n\n"
        "With --user, secrets come from --secret-file or SWD_CHAP_SECRET (mutual: SWD_CHAP_TARGET_SECRET); discovery "
        "asks for them too.",
        "swd.cli.verbs.serve:serve",
        options=_SERVE,
    ),
    Verb(
        "target faults",
        "Say what a fault plan will do, a line a fault, or what is wrong with it and where; without PLAN, list the "
        "kinds of fault, with an example of each.",
        "swd.cli.verbs.serve:faults",
        (Argument("plan", "[PLAN]", "file", required=False),),
    ),
    Verb(
        "bench",
        "Measure how fast a device is: latency (4 KiB, one at a time), iops (4 KiB, 32 and 128 under way), throughput "
        "(1 MiB, 8 under way), each after a warm-up. Nothing is written, unless --write is given.\n\n"
        "--write measures writes and a mix of 70 % reads and 30 % writes, too. It DESTROYS THE DATA on the whole "
        "device, and refuses one that holds any, see --overwrite. Ctrl-C prints what was measured until then.",
        "swd.cli.verbs.bench:bench",
        (_DEV,),
        (
            Option(
                ("--profile",),
                "Only this load. Repeatable.",
                many=True,
                choices=("latency", "iops", "throughput", "mixed"),
            ),
            Option(
                ("--way",),
                "How I/Os are asked for. Repeatable; loads that cannot go this way are left out.",
                many=True,
                choices=("sync", "batch", "stream", "threads", "asyncio", "uvloop"),
            ),
            Option(("--seconds",), "How long each load is measured.", "number", "N", default=3.0),
            Option(("--warm-up",), "Seconds before that, which do not count.", "number", "N", default=1.0),
            Option(("--write",), "Measure writes, too: DESTROYS THE DATA on the device.", "flag", default=False),
            Option(("--png",), "Draw a picture of it; needs the extra `plot`.", "file", "FILE"),
            _OVERWRITE,
            _FORCE,
        ),
        gate="devices",
        options_key=True,
    ),
    Verb(
        "demo",
        "The whole story on an embedded target, in seconds; with a DEV, the read-only part on your own target.",
        "swd.cli.verbs.demo:demo",
        (Argument("dev", "[DEV]", "dev", required=False),),
        gate="devices",
        options_key=True,
    ),
)
