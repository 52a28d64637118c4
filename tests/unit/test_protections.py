"""The lists of protections fit the tree, and what removes them tells held from not held."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.protections import ROOT, Protection, protections
from tests.protections.copied_tree import CopiedTree
from tests.protections.verdicts import Word, verdict

PRODUCT = ("cli/", "services/", "shared/", "sdk/src/")
MODULE = """
def share(whole, by):
    if by == 0:
        return 0
    unit = 1
    return whole / by * unit
"""
TESTS = """
import some_module

def test_no_share():
    assert some_module.share(1, 0) == 0

def test_half():
    assert some_module.share(4, 2) == 2
"""


def test_each_protection_stands_once_in_its_module() -> None:
    wrong = []
    for one in protections():
        assert one.module.startswith(PRODUCT), f"{one.full_name}: no module of the product"
        try:
            changed = one.removed_from((ROOT / one.module).read_text(encoding="utf-8"))
            if one.module.endswith(".py"):
                ast.parse(changed)
        except (OSError, ValueError, SyntaxError) as error:
            wrong.append(f"{one.full_name}: {error}")
    assert not wrong


def test_each_protection_says_what_it_protects_in_a_sentence() -> None:
    assert not [one.full_name for one in protections() if not one.protects.endswith(".")]


def test_no_protection_is_listed_twice() -> None:
    times = Counter((one.module, one.remove, one.replace) for one in protections())
    assert not [place for place, number in times.items() if number > 1]


def test_the_tests_of_each_protection_exist() -> None:
    missing = [
        f"{one.full_name}: {test}"
        for one in protections()
        for test in one.tests
        if not _exists(test)
    ]
    assert not missing


def _exists(test: str) -> bool:
    path, *names = test.split("::")
    if not (ROOT / path).exists():
        return False
    return not names or names[-1].partition("[")[0] in _functions(ROOT / path)


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> CopiedTree:
    root, copy = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("copy")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "some_module.py").write_text(MODULE)
    (root / "test_some.py").write_text(TESTS)
    return CopiedTree(root, copy)


@pytest.mark.parametrize(
    ("remove", "replace", "test", "word"),
    [
        ("    if by == 0:\n        return 0\n", "", "test_no_share", Word.HELD),
        ("    if by == 0:\n        return 0\n", "", "test_half", Word.NOT_HELD),
        # It stands there no more, there is no such test, or the module is no program.
        ("    if by < 0:\n", "", "test_no_share", Word.BROKEN),
        ("    if by == 0:\n", "    if not by:\n", "test_gone", Word.BROKEN),
        ("    unit = 1\n", "", "test_half", Word.BROKEN),
        ("\n\ndef share", "\nimport gone\n\ndef share", "test_half", Word.BROKEN),
    ],
)
def test_what_is_said_of_a_removed_protection(
    remove: str, replace: str, test: str, word: Word, tree: CopiedTree
) -> None:
    tests = [f"test_some.py::{test}"]
    one = Protection("some", "one", "some_module.py", "A share.", remove, tests, replace)
    assert verdict(tree, one, 60).word is word


def test_what_was_removed_is_there_again(tree: CopiedTree) -> None:
    with tree.changed("some_module.py", "raise SystemExit"):
        assert (tree.folder / "some_module.py").read_text() == "raise SystemExit"
    assert (tree.folder / "some_module.py").read_text() == MODULE
