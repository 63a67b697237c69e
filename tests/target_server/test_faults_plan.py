# SPDX-License-Identifier: Apache-2.0
"""Plans as they are written: what is read, what is refused and in which words, what is said of them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import InvalidArgument, MediumError
from swd.target.faults import CONDITIONS, KINDS, Fault, Plan
from swd.target.faults.answers import ACTIONS as ANSWERS
from swd.target.faults.kinds import Kind, allowed
from swd.target.faults.requests import ACTIONS as REQUESTS
from swd.target.faults.words import Range

WHOLE = """\
# what a bad week looks like
seed = 7

[[fault]]
do = "reset"
pdu = ["DATA_IN", "R2T"]
nth = 3
connection = "2-"

[[fault]]
do = "check_condition"
sense = "3/11/00"
command = "READ"
lba = "100-199"
lun = 1
every = 5
count = 2
"""


def example(kind: Kind) -> Plan:
    """The plan in the example of a kind, as docs/faults.md shows it."""
    keys = re.sub(r', (?=[a-z_0-9]+ = )', "\n", kind.example)
    return Plan.parse(f'[[fault]]\ndo = "{kind.name}"\n{keys}\n')


def test_a_plan_is_the_same_in_toml_and_in_python() -> None:
    assert Plan.parse(WHOLE) == Plan(
        [
            Fault("reset", pdu=["DATA_IN", "R2T"], nth=3, connection="2-"),
            Fault("check_condition", sense="3/11/00", command="READ", lba="100-199", lun=1, every=5, count=2),
        ],
        seed=7,
    )


def test_it_says_what_it_will_do() -> None:
    first, second = Plan.parse(WHOLE).explain()
    assert first == (
        "1. reset: on DATA_IN or R2T, connection 2-, the 3rd time -- the connection is reset (RST) instead of the PDU"
    )
    assert second == (
        "2. check_condition (sense = 3/11/00): on SCSI_COMMAND, of READ, block 100-199, LUN 1, "
        "every 5th time, 2 times at most -- the command ends with CHECK CONDITION and this sense"
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_an_example_that_works_words_for_people_and_a_function(name: str) -> None:
    kind = KINDS[name]
    (fault,) = example(kind).faults
    assert fault.kind is kind
    assert kind.help
    assert kind.good.endswith(".")
    functions = {"wire": ANSWERS, "answer": ANSWERS, "request": REQUESTS}.get(kind.place, {name: None})
    assert name in functions or name == "stop_reading"  # the connection itself is deaf
    assert set(kind.pdus) <= set(allowed(kind))
    assert not {param.name for param in kind.params} & set(CONDITIONS)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[[fault]]\ndo = "dorp"', 2, "there is no fault 'dorp'; did you mean 'drop'?"),
        ('[[fault]]\nnth = 1', 1, "fault 1 does not say what to do"),
        ('[[fault]]\ndo = 3', 2, "does not say what to do"),
        ('[[fault]]\ndo = "drop"\n\nnht = 1', 4, "drop has no 'nht'; did you mean 'nth'?"),
        ('[[fault]]\ndo = "drop"\nnth = 0', 3, "nth is 0, but has to be a whole number from 1 on"),
        ('[[fault]]\ndo = "drop"\nnth = true', 3, "nth is True, but has to be"),
        ('[[fault]]\ndo = "drop"\npdu = "DATAIN"', 3, "did you mean 'DATA_IN'?"),
        ('[[fault]]\ndo = "drop"\npdu = []', 3, "pdu is [], but has to be PDU names"),
        ('[[fault]]\ndo = "drop"\nlba = "9-5"', 3, "does not end before it begins"),
        ('[[fault]]\ndo = "drop"\nlba = "-5"', 3, "a number, or a range"),
        ('[[fault]]\ndo = "drop"\nchance = 1.5', 3, "a probability"),
        ('[[fault]]\ndo = "drop"\nstate = "asleep"', 3, "known: login, discovery, full_feature"),
        ('[[fault]]\ndo = "drop"\ncommand = 256', 3, "a whole number from 0 to 255"),
        ('[[fault]]\ndo = "drop"\n[[fault]]\ndo = "delay"', 4, "delay needs seconds"),
        ('[[fault]]\ndo = "wrong_data_sn"\npdu = "R2T"', 3, "cannot strike R2T, only DATA_IN"),
        ('[[fault]]\ndo = "check_condition"\nsense = "3/11"', 3, 'sense as "KEY/ASC/ASCQ"'),
        ('[[fault]]\ndo = "check_condition"\nsense = ""', 3, "or 1 to 252 bytes of it"),
        (f'[[fault]]\ndo = "check_condition"\nsense = "{"00" * 253}"', 3, "or 1 to 252 bytes of it"),
        ('[[fault]]\ndo = "wrong_field"\npdu = "R2T"\nfield = "data_sn"\nvalue = 1', 4, "R2T has no field 'data_sn'"),
        ('[[fault]]\ndo = "wrong_field"\nfield = "itt"\nvalue = 1', 2, "wrong_field needs pdu"),
        ('[[fault]]\ndo = "drop"\nnth = 1\nevery = 2', 2, "contradict"),
        ('[[fault]]\ndo = "drop"\nonce = true\ncount = 2', 2, "contradict"),
        ('[[fault]]\ndo = "drop"\nsince = 2\nuntil = 1', 2, "the fault would never strike"),
        ('[[fault]]\ndo = "login_status"\nstatus = "03"', 3, "four hex digits"),
        ('sede = 3', 1, "a plan has no 'sede'; did you mean 'seed'?"),
        ('seed = "x"', 1, "seed has to be a whole number"),
        ('[fault]\ndo = "drop"', 1, "[[fault]] tables"),
        ('fault = [1]', 1, "[[fault]] tables"),
        ('[[fault]]\ndo = "drop"\nself = 1', 3, "drop has no 'self'"),
        (f'[[fault]]\ndo = "drop"\nnth = 0x{"f" * 4000}', 3, "nth is a number beyond all measure, but has to be"),
        (f'[[fault]]\ndo = "wrong_data_sn"\nby = -{"9" * 30}', 3, "but has to be a whole number of at most 64 bits"),
        (f'[[fault]]\ndo = "drop"\nlba = "{"9" * 30}"', 3, "a number, or a range"),
        (f'seed = 0x{"f" * 4000}', 1, "seed has to be a whole number of at most 64 bits"),
        ('[[fault]]\ndo = "drop"\nlun = 16384', 3, "LUN 16384 is out of range"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_its_place(text: str, line: int, words: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        Plan.load(file)
    said = str(caught.value)
    assert said.startswith(f"{file}:{line}: ")
    assert words in said
    assert "\n" not in said


def test_what_is_no_plan_at_all(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    with pytest.raises(MediumError, match="cannot be read: No such file"):
        Plan.load(file)
    with pytest.raises(MediumError, match="cannot be read: Is a directory"):
        Plan.load(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="no text in UTF-8"):
        Plan.load(file)
    file.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InvalidArgument, match="longer than"):
        Plan.load(file)
    file.write_text(f"seed = {'9' * 5000}")
    with pytest.raises(InvalidArgument, match="not valid TOML: a number of thousands of digits"):
        Plan.load(file)
    file.write_text("do = [")
    with pytest.raises(InvalidArgument, match="not valid TOML"):
        Plan.load(file)


def test_python_gets_the_same_words() -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'reset'"):
        Fault("rset")
    with pytest.raises(InvalidArgument, match="nth is -1"):
        Fault("reset", nth=-1)
    with pytest.raises(InvalidArgument, match="of at most 64 bits"):
        Plan(seed=1 << 64)
    with pytest.raises(TypeError, match="a plan is made of Faults"):
        Plan([{"do": "reset"}])  # type: ignore[list-item]


def test_a_fault_is_one_line_whatever_it_lies() -> None:
    (line,) = Plan([Fault("wrong_key", key="InitialR2T", value="\x1b[2J\n" + "x" * 5000)]).explain()
    assert line.isprintable()
    assert r"value = \x1b[2J\nxxx" in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("span", "first", "count", "touches"),
    [
        (Range(5, 9), 0, 5, False),
        (Range(5, 9), 0, 6, True),
        (Range(5, 9), 9, 1, True),
        (Range(5, 9), 10, 4, False),
        (Range(5, None), 1 << 40, 1, True),
        (Range(5, 5), 5, 0, True),
    ],
)
def test_a_range_of_blocks(span: Range, first: int, count: int, touches: bool) -> None:
    assert span.meets(first, count) is touches


WORDS = st.sampled_from([*KINDS, *CONDITIONS, "do", "seed", "fault", "[[fault]]", "=", '"', "[", "]", "\n", "3", "#"])
KEYS = st.sampled_from([*CONDITIONS, *(param.name for kind in KINDS.values() for param in kind.params)])
VALUES = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers() | st.text(max_size=4), max_size=3)
    | st.dictionaries(st.text(max_size=2), st.integers())
)


@given(st.lists(WORDS | st.text(max_size=3), max_size=30).map(" ".join))
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        Plan.parse(text)


@given(st.sampled_from([*KINDS]), st.dictionaries(KEYS, VALUES, max_size=4))
def test_no_value_makes_it_fail_in_another_way(do: str, keys: dict[str, object]) -> None:
    with contextlib.suppress(InvalidArgument):
        Fault(do, **keys)
