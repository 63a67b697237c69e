# SPDX-License-Identifier: Apache-2.0
"""Write the tables in docs/faults.md from `swd.target.faults`: conditions, words, and every kind with its example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from swd.target.faults import CONDITIONS, KINDS, Kind
from swd.target.faults.kinds import REQUIRED, allowed
from swd.target.faults.words import COMMANDS, EVENTS, REASONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
_ANY = 18  # PDUs of RFC 7143: what can strike all of them strikes any
_PLACES = {
    "wire": "PDUs as they come or go",
    "answer": "PDUs that the target sends",
    "request": "Requests, before they are carried out",
    "login": "Logins",
}


def text() -> str:
    """The page with the tables of now."""
    page = PAGE.read_text()
    for name, lines in (("conditions", conditions()), ("kinds", kinds()), ("words", words())):
        begin, end = f"<!-- {name}: written by tools/faults_doc.py -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


def conditions() -> Iterator[str]:
    yield "| key | means |"
    yield "| --- | --- |"
    for name, row in CONDITIONS.items():
        yield f"| `{name}` | {row['help']} |"


def kinds() -> Iterator[str]:
    for place, heading in _PLACES.items():
        yield f"\n### {heading}\n"
        for kind in KINDS.values():
            if kind.place == place:
                yield from _kind(kind)


def words() -> Iterator[str]:
    yield "| key | words |"
    yield "| --- | --- |"
    commands = {name: "/".join(f"{code:02X}h" for code in codes) for name, codes in COMMANDS.items()}
    yield f"| `command` | {_listed(commands)} |"
    yield f"| `event` | {_listed({name: str(code) for name, code in EVENTS.items()})} |"
    yield f"| `reason` | {_listed({name: f'{code:02X}h' for name, code in REASONS.items()})} |"


def _kind(kind: Kind) -> Iterator[str]:
    yield f"**`{kind.name}`**: {kind.help}{' *(on a DEV, too)*' if kind.block else ''}. Strikes {_strikes(kind)}.\n"
    for param in kind.params:
        default = "" if param.default is REQUIRED else " (default: none)" if param.default is None else ""
        if param.default is not REQUIRED and param.default is not None:
            default = f" (default: {str(param.default).lower() if isinstance(param.default, bool) else param.default})"
        yield f"- `{param.name}`: {param.help}{default}"
    yield f'- example: `do = "{kind.name}", {kind.example}`'
    yield f"- a good initiator: {kind.good}\n"


def _strikes(kind: Kind) -> str:
    may = allowed(kind)
    default = " and ".join(kind.pdus) if len(kind.pdus) < 5 else "all of these"
    if may == kind.pdus:
        return default if len(may) < 5 else f"{_listing(may)}"
    return f"{default or 'nothing'} unless `pdu` says otherwise ({_listing(may)})"


def _listing(names: tuple[str, ...]) -> str:
    if len(names) == _ANY:
        return "any PDU"
    if len(names) < 5:
        return ", ".join(names)
    return "any that the target sends" if "DATA_IN" in names else "any request"


def _listed(table: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in table.items())


if __name__ == "__main__":
    PAGE.write_text(text())
