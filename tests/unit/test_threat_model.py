"""docs/threat-model.md names the tests that try to break it: each sentence one, and each exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
_NAMED = re.compile(r"`((?:sdk/)?tests/[\w/]+\.py)::(test_\w+)`")
_ANY_TEST = re.compile(r"`[^`]*\btest_\w+`")


def sentences() -> list[str]:
    """Every sentence, and every row of a table as one or more; but for what is said not to be
    guarded against."""
    promised, _, unguarded = DOCUMENT.partition("## What nothing guards against")
    assert unguarded and "## " not in unguarded
    found: list[str] = []
    for block in re.split(r"\n(?=- |\||#|\n)", promised):
        text = " ".join(block.split())
        if text and not text.startswith(("#", "|---", "| Who |", "| … |")):
            found += re.split(r"(?<=[.?!])\s+(?=[A-Z`*])", text)
    return found


@pytest.mark.parametrize("sentence", sentences(), ids=lambda text: text[:60])
def test_a_sentence_names_a_test(sentence: str) -> None:
    assert _NAMED.search(sentence), "say which test tries to break it, or do not promise it"


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{path}::{name}"
        for path, name in _NAMED.findall(DOCUMENT)
        if name not in functions_of(ROOT / path)
    ]
    assert len(sentences()) > 90
    assert not missing


@cache
def functions_of(file: Path) -> frozenset[str]:
    """The names of its functions; none, where there is no such file."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


def test_a_test_is_named_by_its_path() -> None:
    """A bare name is found by nobody, and may not exist."""
    assert [one for one in _ANY_TEST.findall(DOCUMENT) if not _NAMED.fullmatch(one)] == []
