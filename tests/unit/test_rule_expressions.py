"""The expert's form of rules: how a wrong one is refused, and what regular expressions may cost."""

from __future__ import annotations

import pytest

from shared.errors import InvalidInput
from shared.rules.ruleset import read_rules
from tests.unit.test_rules import KNOWN, rules


def test_regular_expressions_of_one_answer_cannot_work_for_long() -> None:
    """A match of this one takes milliseconds, and is asked for 8,000 times."""
    many = KNOWN._replace(parts=tuple(f"a/{n}" for n in range(20)), subject="ab" * 450)
    hard = "subject.matches('[ab]{1,500}[ab]{1,400}c')"
    for _ in range(3):
        hard = f"parts.exists(p, {hard})"
    verdict = rules(expression=hard).judge(many)
    assert verdict.takes is None
    assert "take too much work" in verdict.reason
    # The next answer begins anew.
    assert rules(expression="subject.matches('^(ab)+$')").judge(many).takes is True


@pytest.mark.parametrize(
    ("expression", "takes"),
    [
        ("subject.matches('^Pr.*r$')", True),
        ("matches(subject, 'x')", False),
        ("subject . matches (\n'(?i)PRINTER')", True),
        (r"subject.matches(r'^\w+$')", True),
        ("parts.exists(matches, matches == 'text/plain')", True),
        ("subject.contains('matches(') || subject.contains(\"it's matches('\")", False),
        (r"subject.contains('\'') || subject.matches('Printer')", True),
        ("headers['x-loop'].exists(v, v.matches(sender) || v.matches('yes'))", True),
    ],
)
def test_regular_expressions_are_asked_wherever_they_stand(expression: str, takes: bool) -> None:
    assert rules(expression=expression).judge(KNOWN).takes is takes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind == 3", "no matching overload for '==' applied to '(string, int)'"),
        ("kind ==", "mismatched input the end"),
        ("encrypted &&\n  knd == 'person'", "line 2, column 3: undeclared reference to 'knd'"),
        ("string(size) == '1'", "'string' is left out here"),
        ("subject.matches(size)", "line 1, column 16: found no matching overload for 'matches'"),
        ("matches(subject, '(')", "missing ): ("),
    ],
)
def test_a_wrong_expression_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match="The expression is not right") as refused:
        read_rules({"expression": text})
    assert said in str(refused.value)
    assert "expecting {" not in str(refused.value)
