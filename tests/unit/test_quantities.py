"""One thing is not `1 things`: every text that counts asks the one function that knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.alerts.handlers import HandlerBacklogOld
from shared.quantities import counted, limit, sized

_ROOT = Path(__file__).parents[2]
_NOUNS = (
    "mails|messages|mailboxes|connections|handlers|dead letters|events|changes|things|faults|errors"
    "|certificates|credentials|attempts|times|days|folders|items|tags|tokens|webhooks|fields|parts"
    "|consumers|kinds|sessions|lines|header blocks"
)
_MANY = re.compile(rf" (?:more |new |past )?(?:{_NOUNS})\b")
#: `MOST_ROWS`, `len(HEADINGS)`: what is never one.
_CONSTANT = re.compile(r"\b_?[A-Z][A-Z0-9_]+\b")
_IN_TEMPLATE = re.compile(rf"\|\s*(?:number|length|count)\s*\}}\}} (?:{_NOUNS})\b")


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 mails"), (1, "1 mail"), (2, "2 mails"), (2000, "2,000 mails")]
)
def test_one_is_one(value: int, words: str) -> None:
    assert counted(value, "mail") == words


def test_a_verb_follows_and_numbers_are_written_as_asked() -> None:
    assert counted(1, "mail is", "mails are") == "1 mail is"
    assert counted(2, "mail is", "mails are") == "2 mails are"
    assert counted(1000, "mailbox", "mailboxes", written=str) == "1000 mailboxes"


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (157_286_400, "150 MiB"),
        (65_536, "64 KiB"),
        (2**30, "1 GiB"),
        (1_000_000, "1.0 MB"),
        (0, "0 B"),
    ],
)
def test_a_limit_that_is_a_power_of_two_says_so(octets: int, words: str) -> None:
    assert limit(octets) == words


@pytest.mark.parametrize(
    ("octets", "words"),
    [(1, "1 B"), (999, "999 B"), (1200, "1.2 kB"), (157_286_400, "157 MB"), (4 * 10**12, "4.0 TB")],
)
def test_sizes_are_those_of_the_glossary(octets: int, words: str) -> None:
    assert sized(octets) == words


def test_an_alert_of_one_mail_that_waits() -> None:
    told = HandlerBacklogOld(
        handler_id=1, name="tickets", backlog=1, oldest_at="2026-11-22T12:00:00+02:00"
    )
    assert "1 mail waits, the oldest since 2026-11-22 10:00 UTC" in told.sentence


def test_no_text_puts_a_number_before_a_plural_by_itself() -> None:
    found = [
        f"{path.relative_to(_ROOT)}:{line}: {text}"
        for folder in ("cli", "services", "shared")
        for path in sorted((_ROOT / folder).rglob("*.py"))
        for line, text in _plurals(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_no_template_does() -> None:
    folder = _ROOT / "services/admin/templates"
    found = {
        path.name: hits
        for path in folder.rglob("*.html")
        if (hits := _IN_TEMPLATE.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def _plurals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts with a number and a plural after it; not where one was asked for, nor for constants."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.IfExp, ast.JoinedStr))]
    asked = {
        id(branch)
        for node in nodes
        if isinstance(node, ast.IfExp)
        and any(isinstance(one, ast.Constant) and one.value == 1 for one in ast.walk(node.test))
        for branch in (node.body, node.orelse)
    }
    for node in nodes:
        if not isinstance(node, ast.JoinedStr) or id(node) in asked:
            continue
        for number, text in zip(node.values, node.values[1:], strict=False):
            if (
                isinstance(number, ast.FormattedValue)
                and isinstance(text, ast.Constant)
                and _MANY.match(str(text.value))
                and not _CONSTANT.search(ast.unparse(number.value))
            ):
                yield node.lineno, ast.unparse(node)
