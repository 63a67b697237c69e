# SPDX-License-Identifier: Apache-2.0
"""Write man/swdctl.1 from the table of verbs: `python tools/man_page.py` in the top folder."""

from __future__ import annotations

from pathlib import Path

from swd.cli.examples import EXAMPLES
from swd.cli.table import VERBS, Argument, Option, Verb

HEAD = r""".\" SPDX-License-Identifier: Apache-2.0
.\" Made by tools/man_page.py; do not edit.
.TH SWDCTL 1 "" "swd" "User Commands"
.SH NAME
swdctl \- remote SCSI disks over iSCSI, in user space
.SH SYNOPSIS
.B swdctl
[\fB\-\-json\fR] [\fB\-\-verbose\fR] [\fB\-\-debug\fR] \fIVERB\fR [\fIARGUMENT\fR...]
.SH DESCRIPTION
.B swdctl
discovers iSCSI targets, reads, writes and copies their disks, controls them, and says what it knows of them. It needs
no root, no kernel module and no daemon: each call logs in, does its work, and logs out.
.PP
A device (DEV) is
.BR iscsi://HOST[:PORT]/TARGET/LUN ,
a hardware path
.BR 255/0/SESSION.BUS.TARGET.LUN ,
.BR wwid:IDENTITY ,
.BR lvm://VG/LV ,
.BR mem://SIZE ,
.BR file:///PATH ,
a path with a / in it, or
.B isw:
(the driver itself). Counts take K, M, G and T, powers of 1024.
.PP
Before the first attempt at network initialisation (\fBswdctl phase\fR), whatever leads to iSCSI ends at once, with
ENETUNREACH and without a word; \fB\-\-verbose\fR says why.
.SH OPTIONS
.TP
.B \-\-json
The answer, and any error, as JSON; the schemas are in docs/schemas.
.TP
.B \-\-verbose
Say more on stderr.
.TP
.B \-\-debug
Let an exception through, with its traceback.
.TP
\fB\-O\fR \fIKEY\fR=\fIVALUE\fR
An option of the device or portal, wherever a verb takes one: docs/configuration.md has all keys.
.SH VERBS
"""

TAIL = r""".SH EXIT STATUS
0; else the errno of the platform (6 ENXIO, 13 EACCES, 16 EBUSY, ...); 2 for wrong usage; 255 for a bug in swd, with a
line that names the file of the trace; 130, 143, 141 for SIGINT, SIGTERM and a closed standard output.
.SH ENVIRONMENT
.TP
.B SWD_CONFIG
The configuration file, instead of /etc/swd/swd.toml and $XDG_CONFIG_HOME/swd/swd.toml.
.TP
.B SWD_RUNTIME_DIR\fR, \fBSWD_STATE_DIR
Folders of the network phase and of the registry.
.TP
.B SWD_INITIATOR_NAME
Our iSCSI name.
.TP
.B SWD_CHAP_SECRET\fR, \fBSWD_CHAP_TARGET_SECRET
CHAP secrets. No argument and no DEV takes one.
.TP
.B SWD_CRC
A CRC32C kernel instead of the fastest of this processor; \fBswdctl info \-\-build\fR names those that there are.
.SH SEE ALSO
.BR tshark (1)
"""


def text() -> str:
    """The whole page."""
    return HEAD + "".join(map(_verb, VERBS)) + TAIL


def _verb(verb: Verb) -> str:
    words = " ".join(_argument(one) for one in verb.arguments)
    lines = [f".SS {_bold('swdctl ' + verb.name)} {words}".rstrip(), *_prose(verb.help)]
    for option in verb.options:
        lines += [".TP", _option(option), _escaped(option.help)]
    examples = EXAMPLES.get(verb.name, ())
    if examples:
        lines += [".PP", ".nf", *(f"    {_escaped(line)}" for line in examples), ".fi"]
    return "\n".join(lines) + "\n"


def _prose(help: str) -> list[str]:
    lines: list[str] = []
    for paragraph in help.split("\n\n"):
        lines += [".PP", _escaped(paragraph)]
    return lines[1:]


def _argument(row: Argument) -> str:
    return rf"\fI{_escaped(row.metavar)}\fR"


def _option(row: Option) -> str:
    flags = ", ".join(_bold(flag) for flag in row.flags)
    return flags if row.kind == "flag" else rf"{flags} \fI{_escaped(row.metavar or row.kind.upper())}\fR"


def _bold(words: str) -> str:
    return rf"\fB{_escaped(words)}\fR"


def _escaped(words: str) -> str:
    """Text that troff takes for text."""
    safe = words.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return "\\&" + safe if safe[:1] in (".", "'") else safe


if __name__ == "__main__":
    page = Path(__file__).resolve().parent.parent / "man" / "swdctl.1"
    page.parent.mkdir(exist_ok=True)
    page.write_text(text(), encoding="utf-8")
