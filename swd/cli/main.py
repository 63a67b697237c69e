# SPDX-License-Identifier: Apache-2.0
"""`swdctl`: makes click commands from `cli.table`, calls the verb, prints its record once, ends with the right status.

Everything beyond click and the table is imported when a verb needs it: `swdctl --version` and `--help` load no numpy,
no rich and no protocol code, and a boot script's `swdctl phase begin` costs little more.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import click

from swd.cli.call import Call, HungUp, Reported, Terminated, UsageProblem
from swd.cli.examples import EXAMPLES
from swd.cli.table import GROUPS, VERBS, Argument, Option, Verb

Around = Callable[[], contextlib.AbstractContextManager[Any]]

_EPILOG: Final = (
    "Exit status: 0, or the errno of the platform (6 ENXIO, 16 EBUSY), 2 for wrong usage, 255 for a bug in swd.\n\n"
    "Devices: iscsi://HOST[:PORT]/TARGET/LUN, a hardware path 255/0/S.B.T.L, wwid:IDENTITY, lvm://VG/LV, mem://SIZE, "
    "file:///PATH, or a path with a `/` in it.\n\n"
    "Begin with `swdctl demo`, or with `swdctl discover HOST`; `swdctl VERB --help` has examples."
)


def _size(text: str) -> int:
    """A count of bytes: `4096`, `64M`, `1T` (powers of 1024)."""
    from swd.errors import InvalidArgument
    from swd.proto.units import parse_size

    try:
        return parse_size(text)
    except InvalidArgument as error:
        raise click.BadParameter(error.reason) from None


_KINDS: Final[dict[str, Any]] = {
    "text": click.STRING,
    "dev": click.STRING,
    "portal": click.STRING,
    "file": click.STRING,
    "size": _size,
    "int": click.INT,
    "number": click.FLOAT,
    "flag": click.BOOL,
}


def _common() -> list[click.Parameter]:
    """The switches that every verb takes, before its name or after it."""
    return [
        click.Option(["--json"], is_flag=True, help="The answer, and any error, as JSON."),
        click.Option(["--verbose"], is_flag=True, help="Say more on stderr."),
        click.Option(["--debug"], is_flag=True, help="Let an exception through, with its traceback."),
    ]


_OPTIONS_KEY: Final = click.Option(
    ["-O", "option"], multiple=True, metavar="KEY=VALUE", help="An option of the device, e.g. data_digest=crc32c!"
)


def _argument(row: Argument) -> click.Argument:
    nargs = -1 if row.many else 1
    default = {} if row.default is None else {"default": row.default}
    return click.Argument(
        [row.name], metavar=row.metavar, required=row.required, nargs=nargs, type=_KINDS[row.kind], **default
    )


def _option(row: Option) -> click.Option:
    return click.Option(
        [*row.flags, row.name],
        help=row.help,
        type=click.Choice(row.choices) if row.choices else _KINDS[row.kind],
        is_flag=row.kind == "flag",
        metavar=row.metavar,
        default=None if row.many else row.default,
        multiple=row.many,
        required=row.required,
        show_default=isinstance(row.default, str),
    )


def command(verb: Verb) -> click.Command:
    """The click command of a row."""

    @click.pass_context
    def callback(ctx: click.Context, /, **arguments: Any) -> None:
        run_verb(verb, _call(verb, ctx, arguments), arguments, ctx.obj or contextlib.nullcontext)

    parameters: list[click.Parameter] = [*map(_argument, verb.arguments), *map(_option, verb.options)]
    parameters += [_OPTIONS_KEY] if verb.options_key else []
    return click.Command(
        verb.name.split()[-1],
        callback=callback,
        params=[*parameters, *_common()],
        help=verb.help,
        epilog=_examples(verb.name),
    )


def _examples(name: str) -> str | None:
    """For the end of a verb's help; \\b keeps click from filling the lines."""
    lines = EXAMPLES.get(name, ())
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None


def _call(verb: Verb, ctx: click.Context, arguments: dict[str, Any]) -> Call:
    """The common switches, wherever on the line they stood; takes them out of the verb's own arguments."""
    above: list[dict[str, Any]] = []
    while (parent := ctx.parent) is not None:
        ctx = parent
        above.append(ctx.params)
    switches = {
        name: bool(arguments.pop(name)) or any(params.get(name) for params in above)
        for name in ("json", "verbose", "debug")
    }
    return Call(verb=verb.name, options=_pairs(arguments.pop("option", ())), **switches)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """`-O key=value` words as a dict. An unknown or repeated key is EINVAL, as in a DEV; no message shows a value."""
    if not words:
        return {}
    from swd.driver.devsw import DEVSW
    from swd.errors import InvalidArgument
    from swd.proto import options

    known = {key for row in DEVSW for key in row.options}
    pairs: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UsageProblem("-O takes KEY=VALUE, e.g. -O header_digest=crc32c")
        if key not in known:  # also what would be no option but another argument of swd.open
            raise options.unknown(key, known, "-O")
        if key in pairs:
            raise InvalidArgument(f"option {key!r} is given twice: give it once")
        pairs[key] = value
    return pairs


def run_verb(verb: Verb, call: Call, arguments: dict[str, Any], around: Around = contextlib.nullcontext) -> None:
    """Ask the phase gate, call the function inside `around()` (a trace), print its record."""
    from swd.cli.voice import speaking

    failure: BaseException | None = None
    with speaking(verbose=call.verbose, debug=call.debug, as_json=call.json):
        gate(verb, arguments)
        try:
            with around():
                record = _function(verb.function)(call, **arguments)
        except Reported as ended:
            record, failure = ended.record, ended.failure
    if record is not None:
        from swd.cli import render

        render.emit(render.as_json(record) if call.json else render.as_text(record, render.width_of(sys.stdout)))
    if failure is not None:
        raise failure


def gate(verb: Verb, arguments: dict[str, Any]) -> None:
    """Before anything else is touched (socket, name look-up, output file): is this verb, or a DEV of it, gated?

    A DEV that cannot be read ends the look: the verb meets that error itself, in the order of its arguments.
    """
    if verb.gate == "always":
        from swd.driver import phase

        phase.gate(verb.name)
    elif verb.gate == "devices":
        from swd.driver import phase
        from swd.errors import SwdError
        from swd.proto.url import parse_dev

        for row in verb.arguments:
            text = arguments.get(row.name)
            if row.kind == "dev" and text is not None and text != "-":
                try:
                    dev = parse_dev(text)
                except SwdError:
                    return
                phase.gate(dev)


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import swd

        click.echo(f"swdctl {swd.__version__}")
        ctx.exit()


_VERSION: Final = click.Option(
    ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)


def _unless_followed(own: click.Command) -> Callable[..., None]:
    """The callback of a group that is a verb, too (`startup` beside `startup install`)."""

    def callback(**arguments: Any) -> None:
        if click.get_current_context().invoked_subcommand is None and own.callback is not None:
            own.callback(**arguments)

    return callback


class _Group(click.Group):
    """A group whose commands are made when they are asked for: help lists the table, and nothing is imported for it."""

    def __init__(self, prefix: str = "", **settings: Any) -> None:
        super().__init__(no_args_is_help=False, **settings)  # its status differs between versions of click
        self._prefix = prefix

    def _words(self) -> Iterator[str]:
        for verb in VERBS:
            if verb.name.startswith(self._prefix):
                yield verb.name[len(self._prefix) :].split()[0]

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(dict.fromkeys(self._words()))

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        full = self._prefix + cmd_name
        own = next((command(verb) for verb in VERBS if verb.name == full), None)
        if full not in GROUPS:
            return own
        if own is None:
            return _Group(full + " ", name=cmd_name, help=GROUPS[full])
        return _Group(
            full + " ",
            name=cmd_name,
            help=f"{GROUPS[full]}\n\n{own.help}",
            params=own.params,
            callback=_unless_followed(own),
            invoke_without_command=True,
        )


def application() -> click.Group:
    """The whole of `swdctl` as one click group."""
    return _Group(
        name="swdctl",
        callback=lambda **_switches: None,  # the verb reads the switches from the context
        params=[_VERSION, *_common()],
        help="Remote SCSI disks over iSCSI, in user space: discover, read, write, copy and control them.",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )


def run(words: Sequence[str]) -> int:
    """One call of `swdctl` with these words; returns the exit status. Only `--debug` lets an exception out of here."""
    app = application()
    try:
        # Not app.main(), which has ideas of its own about EPIPE and Ctrl-C.
        with app.make_context("swdctl", list(words)) as context:
            app.invoke(context)
        return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.UsageError as error:
        return _report_usage(error, words)
    except BaseException as error:
        if "--debug" in words or isinstance(error, SystemExit):
            raise
        return _report(error, words)


def _report_usage(error: click.UsageError, words: Sequence[str]) -> int:
    from swd.cli.explain import Exit

    if "--json" not in words:
        with contextlib.suppress(OSError):
            error.show()
        return int(Exit.USAGE)
    return _report(UsageProblem(error.format_message()), words)


def _report(error: BaseException, words: Sequence[str]) -> int:
    """Say on stderr why it failed, as text or JSON as was asked; returns the exit status."""
    from swd.cli.explain import verdict

    judged = verdict(error, verbose="--verbose" in words)
    if judged.lines and sys.stderr is not None:
        with contextlib.suppress(OSError):  # a stderr that takes nothing must not change the status; `_settle` mutes it
            sys.stderr.write(judged.as_json() if "--json" in words else judged.as_text())
    return judged.status


def _occupy_standard_descriptors() -> None:
    """Where 0, 1 or 2 came closed, put nothing there: else the next file that is opened would be somebody's stdout."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR if fd == 0 else os.O_RDONLY)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise HungUp if number == signal.SIGHUP else Terminated


def _settle(status: int) -> int:
    """Flush what is left; a broken stream is pointed at nothing, so that the interpreter's exit is silent too."""
    from swd.cli.render import mute

    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            mute(fd)
            status = status or error.errno or 1
    return status


def main() -> int:
    """The `swdctl` command: returns the exit status."""
    _occupy_standard_descriptors()
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it, and so do we then
        signal.signal(signal.SIGHUP, _terminated)
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # a second one, while the first was being handled
        status = 128 + signal.SIGINT
    return _settle(status)


if __name__ == "__main__":
    sys.exit(main())
