# SPDX-License-Identifier: Apache-2.0
"""The tables of states: sound as graphs, and true to RFC 7143's labels."""

from __future__ import annotations

import pytest

from swd.proto import fsm
from swd.proto.fsm import CONNECTION, MACHINES, SESSION, IllegalStep, Machine, Row, Walk

# RFC 7143 8.1.1 (the initiator's table), 8.2 and 8.3, written down from the text: label -> (from, to).
RFC = {
    "T1": ("S1", "S2"),
    "T2": ("S2", "S1"),
    "T4": ("S2", "S4"),
    "T5": ("S4", "S5"),
    "T7": ("S4", "S1"),
    "T9": ("S5", "S6"),
    "T10": ("S7", "S6"),
    "T11": ("S5", "S7"),
    "T12": ("S7", "S7"),
    "T13": ("S6", "S1"),
    "T14": ("S6", "S6"),
    "T15": ("S5", "S8"),
    "T16": ("S7", "S8"),
    "T17": ("S6", "S8"),
    "M1": ("S8", "S1"),
    "M2": ("S8", "R2"),
    "M3": ("R2", "S8"),
    "M4": ("R2", "S1"),
    "N1": ("Q1", "Q3"),
    "N3": ("Q3", "Q1"),
    "N5": ("Q3", "Q4"),
    "N6": ("Q4", "Q1"),
}


def test_labels_lead_where_the_rfc_says() -> None:
    rows = [row for machine in (CONNECTION, SESSION) for row in machine.rows]
    assert {row.label: (row.state[:2], row.to[:2]) for row in rows} == RFC
    assert len(rows) == len(RFC)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_table_is_sound(machine: Machine) -> None:
    keys = [(row.state, row.event) for row in machine.rows]
    assert len(set(keys)) == len(keys), "two rows for one event in one state"
    assert {place for row in machine.rows for place in (row.state, row.to)} == set(machine.states)
    reached, left = {machine.first}, len(machine.states)
    while left:  # every state is reached ...
        reached |= {row.to for row in machine.rows if row.state in reached}
        left -= 1
    assert reached == set(machine.states)
    for state in machine.states:  # ... and none is a trap
        assert (state in machine.ends) == (not [row for row in machine.rows if row.state == state and row.to != state])


def test_a_walk_takes_legal_steps_only_and_stays_where_it_is() -> None:
    taken: list[Row] = []
    walk = Walk(CONNECTION, taken.append)
    for event in ("connect", "connected", "login done", "lost", "login again", "login again done"):
        walk.step(event)
    assert [row.label for row in taken] == ["T1", "T4", "T5", "T15", "M2", "M4"]
    for event in ("login done", "logout", "no such event"):
        assert not walk.can(event)
        with pytest.raises(IllegalStep, match="cannot be in state S1 FREE"):
            walk.step(event)
    assert walk.state == fsm.FREE
    assert len(taken) == 6
