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
        ("encrypted // don't\n|| subject.matches('Printer') // won't", True),
        ("subject == 'x' // subject.matches('(')\n// was kind == 'newsletter'", False),
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


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        # Operators of other languages.
        ('kind = "person"', "Comparison is =="),
        ('kind === "person"', "Comparison is =="),
        ('kind <> "person"', "unequal: !="),
        ('kind is "person"', "Comparison is =="),
        ('kind == "person" and size > 3', "and is written &&"),
        ('kind == "person" OR size > 3', "or is ||"),
        ("not encrypted", "not is !"),
        ('kind == "person" & size > 3', "Both is &&"),
        ('kind == "person" | size > 3', "either is ||"),
        ('!kind == "person"', '!(kind == "…")'),
        ('subject =~ "x"', 'subject.matches("…")'),
        ('subject like "x"', 'subject.contains("…")'),
        ('kind == "person";', "without ; at its end"),
        ("if encrypted then true", "question ? one : other"),
        # Texts.
        ("kind == “person”", "straight quotes"),
        ('kind == "person', "its second quote is missing"),
        ("kind == person", 'A text stands in quotes: "person"'),
        ("connection == Desk", 'A text stands in quotes: "Desk"'),
        ("kind == 'Person'", "Did you mean 'person'?"),
        ("'auto-repli' != kind || kind != 'auto-repli'", "Did you mean 'auto-reply'?"),
        ("signature == 'good'", "One of: none, valid"),
        ("folder == 'inbox'", 'folder == "INBOX"'),
        ("size > 3 && folder != 'Inbox'", 'folder == "INBOX"'),
        # Calls.
        ('contains(subject, "x")', 'behind a point: subject.contains("…")'),
        ('subject contains "x"', 'subject.contains("…")'),
        ('subject.includes("x")', "Did you mean contains?"),
        ('subject.startswith("x")', "Did you mean startsWith?"),
        ('subject.lower() == "x"', 'subject.matches("(?i)…")'),
        ('parts.any(p, p == "image/png")', "any is called exists"),
        ('parts.exists(p == "image/png")', "take a name and a question"),
        ('subject.contains("a", "b")', 'subject.contains("…")'),
        ("subject.isEmpty()", "Calls are: contains"),
        ("has(kind)", '"x-loop" in headers'),
        # Names.
        ('subjct == "x"', "Did you mean subject?"),
        ('Subject == "x"', "Did you mean subject?"),
        ('from == "a@example.org"', "Did you mean sender?"),
        ("attachments.size() > 0", "Did you mean parts?"),
        ('data.mail.kind == "person"', "Facts stand without what they are of: kind"),
        ('text.contains("x")', "do not read the text of a mail"),
        ("encrypted == True", "It is written true"),
        ("today > 3", "CEL over: recipients"),
        # Types.
        ("size > '20 MB'", "whole number of octets"),
        ("size > 20MB", "whole number of octets"),
        ("size > 20,000", "whole number of octets"),
        ("encrypted == 'true'", "encrypted, or !encrypted"),
        ("subject == 3", "only size is a number"),
        ("subject == null", 'subject == ""'),
        ("'x' in subject", 'subject.contains("…")'),
        ("recipients == 'a@example.org'", '"…" in parts'),
        ("recipients.endsWith('example.org')", "parts.exists(one"),
        ("headers['x-loop'] == 'yes'", 'headers["x-loop"].exists(v'),
        ("authentication['dmarc'] == 'pass'", '"dmarc=pass" in authentication'),
        ("authentication.dmarc == 'pass'", '"dmarc=pass" in authentication'),
        ("sender.domain == 'example.org'", 'sender.endsWith("@example.org")'),
        ("subject.length > 3", "subject.size()"),
        ("encrypted && 'x'", "Both sides are questions"),
        ("encrypted ? true : 1", "question ? one : other"),
        ("kind", 'such as kind == "person"'),
    ],
)
def test_a_slip_of_somebody_new_to_the_language_is_answered_with_what_was_meant(
    text: str, hint: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rules({"expression": text})
    assert refused.value.field == "expression"
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "expression",
    [
        # What looks like a slip stands in a text, or is the name of somebody's own.
        "subject.contains('a = b and not c; kind == \"nobody\"')",
        "parts.exists(kind, kind == 'text/plain')",
        'kind == "person" || kind in ["auto-reply"]',
        "signature != 'invalid'",
        "sender == 'anna@customer.example' && subject == 'Anna'",
        "'INBOX' == folder || folder in ['INBOX', 'Inbox/Sales']",
        "subject in ['A', 'B'] // sender == 'Anna' and kind == 'persn'",
        "recipients.exists(sender, sender == 'Anna')",
        "sender == '\\x41nna'",
    ],
)
def test_what_is_right_is_taken_for_no_slip(expression: str) -> None:
    assert read_rules({"expression": expression}).expression == expression


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind in ["person", "lst"]', "no mail has the kind 'lst'. Did you mean 'list'?"),
        ("subject == 'lst' && kind in ['lst',]", "no mail has the kind 'lst'."),
        ("'persn' != kind", "no mail has the kind 'persn'."),
        ('kind == r"persn"', "no mail has the kind 'persn'."),
        ("!(signature in ['none', 'valit'])", "no mail has the signature 'valit'."),
        ('folder in ["Sales", "inbox"]', "the inbox is not called 'inbox'."),
        ("'Inbox' == folder", "the inbox is not called 'Inbox'."),
        ('sender == "Anna@Customer.example"', 'fits in any case: "anna@customer.example".'),
        ("sender in ['a@b.example', 'B@b.example']", "'B@b.example' is not in lower case"),
        ("sender.endsWith('@Customer.example')", "'@Customer.example' is not in lower case"),
        ("'Desk@b.example' in recipients", "'Desk@b.example' is not in lower case"),
        ("'Image/png' in parts", "'Image/png' is not in lower case"),
        ("'DMARC=pass' in authentication", "'DMARC=pass' is not in lower case"),
        ("'X-Loop' in headers", "'X-Loop' is not in lower case"),
        ("headers['X-Loop'].exists(v, v == 'Yes')", "'X-Loop' is not in lower case"),
    ],
)  # fmt: skip
def test_a_text_that_no_mail_has_is_refused(text: str, words: str) -> None:
    """The answer would be the same for every mail."""
    with pytest.raises(InvalidInput) as refused:
        read_rules({"expression": text})
    assert refused.value.field == "expression"
    assert words in f"{refused.value} {refused.value.hint}"


def test_a_saved_expression_with_a_word_that_no_mail_has_is_still_read() -> None:
    assert read_rules({"expression": "kind == 'nobody'"}, stored=True).expression
