"""docs/threat-model.md and docs/verdicts.md name the tests that try to break them: each sentence
one, in its words or in a note of the page, and each exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("threat-model.md", "verdicts.md")
}
_NAMED = re.compile(r"`((?:sdk/)?tests/[\w/]+\.py)::(test_\w+)`")
_ANY_TEST = re.compile(r"`[^`]*\btest_\w+`")
_NOTE = re.compile(r"\[\^([\w-]+)\](?!:)")
_WORD = re.compile(r"\w")
#: A quotation says how to read a page, and promises nothing.
_NO_PROMISE = ("#", ">", "|---", "| Who |", "| … |", "[^")
_UNGUARDED = "## What nothing guards against"
_VERDICTS = "## What a verdict about a mail promises"


def notes(name: str) -> dict[str, str]:
    """The notes of a page, by their marks."""
    found = re.findall(r"(?ms)^\[\^([\w-]+)\]: (.*?)(?=^\S|^\n|\Z)", PAGES[name])
    assert len(found) == len(dict(found)), "two notes have one mark"
    return dict(found)


def sentences(name: str) -> list[str]:
    """Every sentence, and every row of a table as one or more; but for what is said not to be
    guarded against."""
    promised, _, unguarded = PAGES[name].partition(_UNGUARDED)
    assert "## " not in unguarded
    found: list[str] = []
    for block in re.split(r"\n(?=- |\||#|\n|\[\^)", promised):
        text = " ".join(block.split())
        if text and not text.startswith(_NO_PROMISE):
            found += re.split(r"(?<=[.?!])\s+(?=[A-Z`*])", text)
    return [one for one in found if _WORD.search(one)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [(name, one) for name in PAGES for one in sentences(name)],
    ids=lambda text: text[:60],
)
def test_a_sentence_names_a_test(name: str, sentence: str) -> None:
    said = notes(name)
    named = sentence + "".join(said[mark] for mark in _NOTE.findall(sentence))
    assert _NAMED.search(named), "say which test tries to break it, or do not promise it"


@pytest.mark.parametrize(("name", "least"), [("threat-model.md", 90), ("verdicts.md", 40)])
def test_every_test_that_is_named_exists(name: str, least: int) -> None:
    missing = [
        f"{path}::{test}"
        for path, test in _NAMED.findall(PAGES[name])
        if test not in functions_of(ROOT / path)
    ]
    assert len(sentences(name)) > least
    assert not missing


@cache
def functions_of(file: Path) -> frozenset[str]:
    """The names of its functions; none, where there is no such file."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


@pytest.mark.parametrize("name", PAGES)
def test_a_test_is_named_by_its_path(name: str) -> None:
    """A bare name is found by nobody, and may not exist."""
    assert [one for one in _ANY_TEST.findall(PAGES[name]) if not _NAMED.fullmatch(one)] == []


@pytest.mark.parametrize("name", PAGES)
def test_each_note_is_referred_to(name: str) -> None:
    assert set(notes(name)) == set(_NOTE.findall(PAGES[name]))


def test_what_a_verdict_promises_is_one_page() -> None:
    """What a reviewer reads at once; its tests are in notes below it. Before all other sections."""
    before, _, rest = PAGES["threat-model.md"].partition(_VERDICTS)
    page = rest.partition("\n## ")[0].partition("\n[^")[0]
    assert "\n## " not in before
    words = [one for one in _NOTE.sub("", page).split() if _WORD.search(one)]
    assert 400 < len(words) <= 680
    assert len(page.splitlines()) <= 70
    assert max(map(len, page.splitlines())) <= 120
    assert not _ANY_TEST.search(page)
