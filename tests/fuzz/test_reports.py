# SPDX-License-Identifier: Apache-2.0
"""tools/valgrind.py and tools/sanitize.py: which reports are about swd."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

LOST = "Leak_DefinitelyLost"


@pytest.fixture
def tool(root: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(root / "tools")
    spec = importlib.util.spec_from_file_location(f"tool_{request.param}", root / "tools" / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "build", raising=False)
    return module


def frame(fn: str, obj: str) -> str:
    return f"<frame><fn>{fn}</fn><obj>{obj}</obj></frame>"


SWD, PYTHON = frame("__pyx_f_3swd_end", "/x/swd/_engine.so"), frame("PyObject_Call", "/x/libpython3.11.so")


@pytest.mark.parametrize("tool", ["valgrind"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "stacks", "ours"),
    [
        ("InvalidRead", [SWD + PYTHON], True),
        ("InvalidWrite", [PYTHON, SWD], True),  # of what swd had freed
        ("InvalidRead", [PYTHON], False),
        (LOST, [frame("malloc", "/x/vgpreload.so") + SWD], True),
        (LOST, [frame("malloc", "/x/vgpreload.so") + PYTHON], False),
        ("Leak_StillReachable", [SWD], False),
        ("UninitCondition", [SWD, frame("malloc", "/x/vgpreload.so") + SWD], True),
        ("UninitValue", [SWD, frame("malloc", "/x/vgpreload.so") + frame("_PyLong_New", "/x/libpython3.11.so")], False),
        ("InvalidRead", [SWD, frame("_PyLong_New", "/x/libpython3.11.so")], True),
    ],
)
def test_what_valgrind_says(tool: ModuleType, tmp_path: Path, kind: str, stacks: list[str], ours: bool) -> None:
    text = "".join(f"<stack>{stack}</stack>" for stack in stacks)
    report = tmp_path / "report.xml"
    report.write_text(f"<valgrindoutput><error><kind>{kind}</kind><what>w</what>{text}</error></valgrindoutput>")
    found, others = tool.faults(report)
    assert (len(found), sum(others.values())) == ((1, 0) if ours else (0, 1))
    assert not found or "__pyx_f_3swd_end" in found[0]


@pytest.mark.parametrize("tool", ["sanitize"], indirect=True)
def test_what_the_sanitizers_say(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "REPORTS", tmp_path)
    assert tool.reported() == []
    (tmp_path / "report.1").write_text("==1==WARNING: AddressSanitizer failed to allocate 0xff bytes\n")
    assert tool.reported() == []
    (tmp_path / "report.2").write_text("==2==ERROR: AddressSanitizer: heap-buffer-overflow\n")
    (tmp_path / "report.3").write_text("_engine.c:1:2: runtime error: signed integer overflow\n")
    assert [path.name for path in tool.reported()] == ["report.2", "report.3"]


@pytest.mark.parametrize("tool", ["sanitize"], indirect=True)
@pytest.mark.parametrize(("statuses", "end"), [([1, 0, 0], 1), ([0, 0, 2], 1), ([0, 0, 0], 0)])
def test_every_folder_is_run_though_one_fails(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[int], end: int
) -> None:
    ran: list[str] = []

    def suite(_python: Path, chosen: list[str], _env: dict[str, str]) -> int:
        ran.append(chosen[0])
        return statuses[len(ran) - 1]

    for name, value in {"WORK": tmp_path, "REPORTS": tmp_path / "reports", "suite": suite}.items():
        monkeypatch.setattr(tool, name, value)
    monkeypatch.setattr(tool, "interpreter", lambda: Path())
    monkeypatch.setattr(tool, "install", lambda _python: None)
    monkeypatch.setattr(tool, "parts", lambda: [["a"], ["b"], ["c"]])
    monkeypatch.setattr(tool.sys, "argv", ["sanitize.py"])
    monkeypatch.setattr(tool.signal, "signal", lambda *_: None)
    assert tool.main() == end
    assert ran == ["a", "b", "c"]


@pytest.mark.parametrize("tool", ["sanitize", "valgrind"], indirect=True)
def test_what_is_left_out_is_there(tool: ModuleType, root: Path) -> None:
    for name in tool.LEFT_OUT:
        path, _, test = name.removeprefix("tests/").partition("::")
        assert (root / "tests" / path).exists()
        assert not test or f"def {test}(" in (root / "tests" / path).read_text()
