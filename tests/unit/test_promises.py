"""A promise that docs/promises.md calls kept has a test that breaks when it is not."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| ([A-Z]\d+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
_STATES = {"kept", "partly", "not yet"}


def promises() -> dict[str, tuple[str, str]]:
    """Id → state and reading, as the document has them."""
    rows = _ROW.findall((ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))
    found = {identifier: (state.strip(), text) for identifier, state, text in rows}
    assert len(found) == len(rows), "an id stands there twice"
    return found


def marked_tests(root: Path = ROOT) -> dict[str, list[str]]:
    """Id → the tests that carry its mark: on the function, its class, or the whole module."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder in (root / "tests", root / "sdk" / "tests"):
        for path in sorted(folder.rglob("test_*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            whole = [
                mark
                for node in tree.body
                if isinstance(node, ast.Assign)
                and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)
                for mark in _marks([node.value])
            ]
            for name, marks in _tests(tree.body, whole):
                for mark in marks:
                    found[mark].append(f"{path.relative_to(root)}::{name}")
    return found


def _tests(body: list[ast.stmt], inherited: list[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += _tests(node.body, inherited + _marks(node.decorator_list))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[:5] == "test_":
            found.append((node.name, inherited + _marks(node.decorator_list)))
    return found


def _marks(nodes: list[ast.expr]) -> list[str]:
    return [
        str(argument.value)
        for node in nodes
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "promise"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    ]


def test_every_promise_has_a_state() -> None:
    found = promises()
    expected = {
        *(f"M{n}" for n in range(1, 28)),
        *(f"A{n}" for n in range(1, 6)),
        *(f"C{n}" for n in range(1, 5)),
        *(f"H{n}" for n in range(1, 7)),
        *(f"I{n}" for n in range(1, 10)),
        *(f"F{n}" for n in range(1, 6)),
        *(f"R{n}" for n in range(1, 4)),
        *(f"D{n}" for n in range(1, 3)),
        *(f"T{n}" for n in range(1, 5)),
    }
    assert set(found) == expected
    assert {state for state, _ in found.values()} <= _STATES


def test_every_kept_promise_has_a_test() -> None:
    tests = marked_tests()
    untested = [i for i, (state, _) in promises().items() if state == "kept" and not tests[i]]
    assert not untested, f"called kept, but no test carries promise(...): {untested}"


def test_every_mark_names_a_promise() -> None:
    unknown = {mark: names for mark, names in marked_tests().items() if mark not in promises()}
    assert not unknown


def test_marks_are_found_on_functions_classes_and_modules(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(
        "pytestmark = [pytest.mark.promise('M1')]\n"
        "@pytest.mark.promise('M2')\n"
        "class TestIt:\n"
        "    @pytest.mark.slow\n"
        "    @pytest.mark.promise('M3', 'M4')\n"
        "    def test_method(self): ...\n"
        "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.promise('M5'))])\n"
        "async def test_function(): ...\n"
        "def helper(): ...\n"
    )
    found = marked_tests(tmp_path)
    assert set(found) == {"M1", "M2", "M3", "M4", "M5"}
    assert len(found["M1"]) == 2 and found["M3"] == ["tests/test_x.py::test_method"]


def test_a_mark_without_an_id_is_no_mark() -> None:
    assert _marks([ast.parse("pytest.mark.promise()", mode="eval").body]) == []
    assert pytest.mark.promise("M1").args == ("M1",)
