# SPDX-License-Identifier: Apache-2.0
"""Write docs/states.md from the tables of `swd.proto.fsm`: `python tools/states_doc.py` in the top folder."""

from __future__ import annotations

from pathlib import Path

from swd.proto import recovery
from swd.proto.fsm import MACHINES, Machine, Row

HEAD = """# States

The state machines of swd, as the code walks on them (`swd/proto/fsm.py`); a step that is not drawn here is a fault of
swd, and is counted as `illegal_transition`. Labels (T1, N5, M2) are RFC 7143's; rows without one are swd's own.
`Session.states` and `swdctl info --json` show where a session stands and the last labels that it passed. This page is
made by `tools/states_doc.py`; do not edit it.

With one connection a session and recovery level 0, what is lost and comes back passes
`T1 T4 T5 N1`, `T15 N5`, `M2 T1 T4 T5 M4 N6 N1`, and a logout `T9 T13 N3`. Transitions of RFC 7143 that need a target's
eyes or a second connection (T3, T6, T8, T18, N2, N4, N7 to N11) have no row.
"""


def text() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n{_section(machine)}" for machine in MACHINES) + _orders()


def _section(machine: Machine) -> str:
    title = machine.name[0].upper() + machine.name[1:]
    lines = [f"## {title}", "", f"{machine.clause}.", "", *_diagram(machine), ""]
    lines += ["| state | means |", "| --- | --- |"]
    lines += [f"| {state} | {what} |" for state, what in machine.states.items()]
    lines += ["", "| from | event | to | label | when |", "| --- | --- | --- | --- | --- |", *map(_row, machine.rows)]
    return "\n".join(lines) + "\n"


def _orders() -> str:
    """What becomes of the commands that were open: `proto/recovery.py`."""
    again = ", ".join(f"{words} (`{opcode:02X}`)" for opcode, words in recovery.REPLAYABLE.items())
    first, longest = f"{recovery.FIRST_DELAY:g} s", f"{recovery.LONGEST_DELAY:g} s"
    last = ", ".join(f"`{opcode:02X}`" for opcode in sorted(recovery.FLUSHES))
    return f"""
## Orders of the recovery

swd: `proto/recovery.py`. For each command that was sent and not answered, the first line that fits:

| command | becomes |
| --- | --- |
| its opcode is not in the list below | its caller gets `EIO`: it may have been done |
| it was sent {recovery.MAX_REPLAYS + 1} times already | its caller gets `EIO` |
| a flush ({last}) | sent again, after all others |
| any other | sent again, in the old order |

From loss {recovery.ONE_BY_ONE_FROM} without a completed command on they are sent one by one. The first pause is
Time2Wait; later ones are {first}, doubled each time up to {longest}, less up to a half by chance.

Sent again: {again}.
"""


def _diagram(machine: Machine) -> list[str]:
    """Mermaid, which GitHub draws. Its names take no spaces, hence the numbers."""
    names = {state: f"s{number}" for number, state in enumerate(machine.states)}
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state}" as {name}' for state, name in names.items()]
    lines += [f"    [*] --> {names[machine.first]}"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in machine.rows:
        arrows.setdefault((row.state, row.to), []).append(f"{row.label} {row.event}".strip())
    lines += [f"    {names[a]} --> {names[b]}: {', '.join(words)}" for (a, b), words in arrows.items()]
    lines += [f"    {names[state]} --> [*]" for state in machine.states if state in machine.ends]
    return [*lines, "```"]


def _row(row: Row) -> str:
    return f"| {row.state} | {row.event} | {row.to} | {row.label} | {row.when} |"


if __name__ == "__main__":
    Path(__file__).resolve().parent.parent.joinpath("docs", "states.md").write_text(text(), encoding="utf-8")
