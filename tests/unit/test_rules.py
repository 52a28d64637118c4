"""The language of rules: how it is written, kept, read aloud, and what it refuses."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.decryptor.choosing_handlers import rule_facts
from services.decryptor.mail_facts import MailFactsReader
from services.decryptor.private_folder import PrivateFolder
from shared.errors import InvalidInput
from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.mail.summary import read_headers
from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome, RawRef
from shared.rules.choosing import BY_GROUP, BY_RULES, Candidate, LeftOut, choose
from shared.rules.conditions import FIELDS
from shared.rules.facts import RuleFacts, kept, with_kept
from shared.rules.ruleset import Rules, read_rules
from shared.storage.outbox_claims import Claimed

KNOWN = RuleFacts(
    connection="Desk",
    sender="ann@example.org",
    addressed=("support@example.net",),
    subject="Printer",
    size=2000,
    envelope=(),
    kind="person",
    parts=("text/plain",),
    parts_complete=True,
    authentication=("dmarc=pass",),
    headers={"x-loop": ["yes"]},
)
#: What is known of a mail whose facts could not be read.
UNREAD = with_kept(KNOWN._replace(headers=None), {"x": 1}, opened=True)._replace(
    envelope=None, kind=None, parts=None, authentication=None
)


def rules(*accept: dict[str, Any], reject: Any = (), expression: str = "") -> Rules:
    return read_rules({"accept": list(accept), "reject": list(reject), "expression": expression})


def test_rules_are_read_aloud_by_their_numbers() -> None:
    made = rules(
        {"kind": ["person", "list"], "recipient": "example.net"},
        {"size": ">1mb", "header": "X-Loop:yes"},
        reject=[{"encrypted": True, "signature": "invalid"}],
        expression="size > 3",
    )
    assert made.sentences == [
        "Takes mails addressed to anybody at example.net, of the kind person or list.",
        "Takes mails with the header field X-Loop with “yes” in it, of more than 1 MB.",
        "Never takes mails whose signature is invalid, that came encrypted.",
        "Only where size > 3",
    ]
    assert read_rules(made.to_json()) == made


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"accept": {}},
        {"deny": []},
        {"accept": [{}]},
        {"accept": [{"colour": "red"}]},
        {"accept": [{"kind": "letter"}]},
        {"accept": [{"kind": []}]},
        {"accept": [{"subject": ""}]},
        {"accept": [{"subject": "a\nb"}]},
        {"accept": [{"subject": "a\u202eb"}]},
        {"accept": [{"subject": "\ud800"}]},
        {"accept": [{"subject": "x" * 321}]},
        {"accept": [{"size": "big"}]},
        {"accept": [{"part": "pdf"}]},
        {"accept": [{"sender": "a@b@c"}]},
        {"accept": [{"authentication": "dmarc"}]},
        {"accept": [{"header": "not a name"}]},
        {"accept": [{"subject": None}]},
        {"accept": [{"kind": "person"}] * 51},
        {"expression": 3},
        {"expression": "size"},
        {"expression": "nothing == 1"},
        {"expression": "kind == 3"},
        {"expression": "subject + subject == ''"},
        {"expression": "[1].map(a, a).size() == 1"},
        {"expression": "(" * 100 + "true" + ")" * 100},
        {"expression": "true" + " " * 2000 + "|| true"},
        {"expression": "!!(!!!!!!(!!!!(((((!!(!!(!!!!((" * 8},
        {"expression": "\0"},
        {"expression": "kind == 'a\u202eb'"},
        {"expression": "kind == 'a\x9bb'"},
        {"expression": "subject.matches('(')"},
        {"expression": "subject.matches('a{1,900}b{200}')"},
        {"expression": f"subject.matches('{'a' * 501}')"},
        {"accept": [{"subject": ["x"] * 51}]},
    ],
    ids=repr,
)
def test_what_is_no_rule_is_refused_with_a_sentence(value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rules(value)
    assert str(refused.value).strip()
    parts = ("rules", "accept", "reject", "expression", "deny")
    assert refused.value.field.partition("[")[0] in parts


def test_all_that_is_wrong_is_said_at_once_with_what_was_meant() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rules(
            {
                "acept": [],
                "accept": [{"kind": "persn", "sise": "> 1 MB"}, {}],
                "reject": [{"size": "20 XB"}],
                "expression": "kind + 1 == 2",
            }
        )
    told = {one.field: f"{one} {one.hint}" for one in refused.value.every}
    assert list(told) == [
        *("acept", "accept[0].kind", "accept[0].sise", "accept[1]", "reject[0].size"),
        "expression",
    ]
    assert "Did you mean 'accept'?" in told["acept"]
    assert "Rule 1, there is no fact 'sise'. Did you mean 'size'?" in told["accept[0].sise"]
    assert "Rule 3, size: '20 XB' is not a size." in told["reject[0].size"]
    assert "line 1, column 6: '+' is left out here" in told["expression"]


@pytest.mark.promise("R1")
@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"authentication": "dmarc=pass"}, True),
        ({"authentication": "DMARC=fail"}, False),
        ({"authentication": "spf=none"}, True),
        ({"recipient": "support@example.net", "kind": "person"}, True),
        ({"recipient": "support@example.net", "kind": "list"}, False),
        ({"size": "<= 2 kB"}, True),
        ({"size": "< 2000"}, False),
        ({"header": "X-LOOP"}, True),
    ],
    ids=repr,
)
def test_a_rule_fits_where_all_its_facts_hold(rule: dict[str, Any], fits: bool) -> None:
    assert rules(rule).judge(KNOWN).takes is fits
    rejected = rules(reject=[rule]).judge(KNOWN)
    assert rejected.takes is not fits
    assert rejected.reason.startswith("rule 1, ") == fits


@pytest.mark.promise("R1")
@pytest.mark.parametrize(
    "made",
    [
        rules({"kind": "bounce"}),
        rules({"part": "image/*"}),
        rules(reject=[{"kind": "person"}]),
        rules(reject=[{"header": "X-Loop"}]),
        rules({"tag": "sales"}),
        rules(expression='kind == "bounce"'),
        rules(expression='"x" in headers'),
    ],
    ids=str,
)
def test_in_doubt_a_handler_gets_the_mail(made: Rules) -> None:
    verdict = made.judge(UNREAD)
    assert verdict.takes is None
    assert verdict.reason


def of_mail(header: bytes, folder: str = "") -> RuleFacts:
    """What a decryptor asks the rules of a mail with this header."""
    raw, now, nobody = RawRef("key", 0, 1), datetime.now(UTC), frozenset[int]()
    read = read_headers(header)
    mail = Claimed(UUID(int=1), 1, 1, 1, b"", raw, read, now, None, 0, True, nobody, None)
    mail = mail._replace(folder=folder)
    facts = MailFactsReader(0, PrivateFolder(Path())).of_bytes(header, None)
    return rule_facts(mail, DecryptOutcome(mail.id, PLAIN), None, facts, header)


def test_what_was_not_read_to_its_end_is_in_doubt() -> None:
    many = b"To: " + b", ".join(b"a%d@example.org" % n for n in range(151)) + b"\r\n\r\n"
    for rule in ({"recipient": "a150@example.org"}, {"recipient": "z@x.org"}, {"tag": "x"}):
        assert rules(rule).judge(of_mail(many)).takes is None, rule
    for text in ("recipients.exists(r, r == 'a150@example.org')", "!('x' in tags)"):
        assert rules(expression=text).judge(of_mail(many)).takes is None, text
    assert rules({"recipient": "a9@example.org"}).judge(of_mail(many)).takes is True
    few = b"To: a@example.org\r\nX-Long: " + b"y " * 1500 + b"z\r\n\r\n"
    assert rules({"recipient": "z@x.org"}).judge(of_mail(few)).takes is False
    assert rules({"header": "X-Long: z"}).judge(of_mail(few)).takes is None
    assert rules({"header": "X-Other: z"}).judge(of_mail(few)).takes is False
    fields = b"".join(b"X-%d: y\r\n" % n for n in range(501)) + b"\r\n"
    assert rules({"header": "X-500"}).judge(of_mail(fields)).takes is None
    assert rules(expression="'x-500' in headers").judge(of_mail(fields)).takes is None
    for text, takes in (
        ("headers['x-long'].exists(v, v.contains('z'))", None),
        ("headers.exists(n, headers[n].exists(v, v.contains('z')))", None),
        ("'x-other' in headers", False),
        ('headers["to"].exists(v, v.contains("a@"))', True),
    ):
        assert rules(expression=text).judge(of_mail(few)).takes is takes, text
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(30)
    )
    assert rules({"part": "image/*"}).judge(of_mail(deep)).takes is None


def test_what_a_connection_that_is_gone_was_is_in_doubt() -> None:
    """Its mails are published all the same, to whoever takes all connections."""
    found = of_mail(b"From: ann@example.org\r\n\r\n", folder="Support")
    assert rules({"folder": "Support"}).judge(found).takes is True  # the mail's own is known
    assert rules({"folder": "INBOX"}).judge(found).takes is False
    for rule, text in (
        ({"connection": "Desk"}, "connection == 'Desk'"),
        ({"authentication": "dmarc=pass"}, "'dmarc=pass' in authentication"),
    ):
        assert rules(rule).judge(found).takes is None, rule
        assert rules(expression=text).judge(found).takes is None, text


def test_what_is_known_decides_although_something_is_not() -> None:
    assert rules({"kind": "bounce", "subject": "other"}).judge(UNREAD).takes is False
    assert rules(reject=[{"sender": "ann@example.org"}]).judge(UNREAD).takes is False
    assert rules(expression='kind == "bounce" && size > 9000').judge(UNREAD).takes is False
    assert rules(expression='kind == "bounce" || size > 9').judge(UNREAD).takes is True


def test_what_may_stand_behind_the_end_of_a_long_subject_is_in_doubt() -> None:
    whole = of_mail(b"Subject: " + b"a " * 490 + b"Order 7\r\n\r\n")
    for rule in (rules({"subject": "Order 7"}), rules(expression="subject.contains('Order 7')")):
        assert rule.judge(whole).takes is True, rule
    assert rules({"subject": "Order 8"}).judge(whole).takes is False
    long = of_mail(b"Subject: " + b"a " * 500 + b"Order 7\r\n\r\n")
    for rule in (rules({"subject": "Order 7"}), rules(expression="subject.contains('Order 7')")):
        assert rule.judge(long).takes is None, rule
    assert rules({"subject": "a a"}).judge(long).takes is True


def test_what_a_mail_says_in_an_error_is_cut_and_without_controls() -> None:
    sender = "(\u202e\x9b31m" + "z" * 1000
    found = rules(expression="subject.matches(sender)").judge(KNOWN._replace(sender=sender))
    assert found.takes is None
    assert 0 < len(found.reason) <= 200
    assert not set("\u202e\x9b") & set(found.reason)


def test_an_expression_cannot_work_for_long() -> None:
    many = KNOWN._replace(
        parts=tuple(f"a/{n}" for n in range(200)), subject="a" * 900, headers=None
    )
    hard = rules(expression="parts.all(a, parts.all(b, parts.all(c, subject.matches('(a|aa)+$'))))")
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert hard.judge(many).takes is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 64 * 1024


def test_what_the_ledger_keeps_answers_as_the_mail_does() -> None:
    mail = (
        b"Delivered-To: a+b@example.org\r\nAuto-Submitted: auto-replied\r\n"
        b"Authentication-Results: mx.google.com; "
        + b"dkim=pass header.d=x.org; "
        * 25
        + b"dmarc=fail header.from=x.org\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nHi\r\n--b\r\n'
        b"Content-Type: Image/PNG\r\n\r\n\r\n--b--\r\n"
    )
    facts = read_facts(region(mail), trusted=("mx.google.com",), text_limit=0).to_json()
    found = kept(facts)
    assert found == {
        "k": "auto-reply",
        "d": ["a+b@example.org"],
        "p": "t image/png",
        "n": 1,
        "a": "dkim=pass dmarc=fail",
    }
    plain = read_facts(region(b"Subject: x\r\n\r\nHi"), trusted=(), text_limit=0)
    assert kept(plain.to_json()) == {}
    again = with_kept(RuleFacts(), found, opened=True)
    assert again.parts == ("text/plain", "image/png")
    assert again.authentication == ("dkim=pass", "dmarc=fail")
    answered = with_kept(RuleFacts(), {}, opened=True)
    assert (answered.kind, answered.parts) == ("person", ("text/plain",))


FIRST = Candidate(1, "first", rules({"subject": "a"}), "desk", 5)
SECOND = Candidate(2, "second", Rules(), "desk", 9)
VALUES: dict[str, list[Any]] = {
    "recipient": ["a@b", "@*.b"],
    "tag": ["x"],
    "sender": ["b.example"],
    "subject": ["x"],
    "header": ["x", "x: y"],
    "kind": ["list"],
    "size": ["> 3"],
    "part": ["a/*"],
    "folder": ["INBOX"],
    "connection": ["x"],
    "authentication": ["spf=none", "spf=pass"],
    "signature": ["valid"],
    "encrypted": [True],
}
ALONE = Candidate(3, "alone")


def test_what_was_decided_stands_whatever_the_rules_say() -> None:
    def facts() -> RuleFacts:
        return KNOWN._replace(subject="a")

    everybody = [SECOND, FIRST, ALONE]
    made = choose(everybody, facts, asked={1, 2, 3})
    assert made.chosen == {1, 3}
    assert [(one.handler_id, one.by, one.reason) for one in made.left_out] == [
        (2, BY_GROUP, "first of the group desk has it")
    ]
    # Chosen before: it keeps the mail. Left out before: it does not get it.
    assert choose(everybody, facts, asked={1, 2, 3}, chosen={2}).chosen == {2, 3}
    assert choose(
        everybody, facts, asked={1, 2, 3}, left_out={1: LeftOut(1, BY_RULES, "")}
    ).chosen == {2, 3}
    # Had by one of the group: nobody else of it is asked for.
    assert choose(everybody, facts, asked={2, 3}, delivered={1}).chosen == {3}


def test_why_an_expression_has_no_answer_can_be_kept_whatever_a_mail_says() -> None:
    odd = KNOWN._replace(subject="a\0b\u202ec\nd")
    verdict = rules(expression="headers[subject].size() > 0").judge(odd)
    assert verdict.takes is None
    assert verdict.reason.isprintable()


def test_facts_are_read_only_where_a_rule_asks() -> None:
    def facts() -> RuleFacts:
        raise AssertionError("read")

    assert choose([SECOND, ALONE], facts, asked={2, 3}).chosen == {2, 3}


#: Anything that JSON can say, near enough to rules that some of it is.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["> 3 kB"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "accept", "reject", "expression"]) | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
_TEXTS = st.text(max_size=30)
_FACTS = st.builds(
    RuleFacts,
    connection=_TEXTS,
    sender=_TEXTS,
    addressed=st.lists(_TEXTS, max_size=3).map(tuple),
    subject=_TEXTS | st.just("\ud800"),
    envelope=st.none() | st.lists(_TEXTS, max_size=3).map(tuple),
    kind=st.none() | _TEXTS,
    parts=st.none() | st.lists(_TEXTS, max_size=3).map(tuple),
    authentication=st.none() | st.lists(_TEXTS, max_size=3).map(tuple),
    headers=st.none() | st.dictionaries(_TEXTS, st.lists(_TEXTS, max_size=2), max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(value=_JSON)
def test_anything_is_either_rules_that_come_back_the_same_or_refused(value: Any) -> None:
    try:
        made = read_rules(value)
    except InvalidInput:
        return
    assert read_rules(made.to_json()) == made


@settings(max_examples=200, deadline=None)
@given(facts=_FACTS)
def test_whatever_a_mail_says_rules_have_an_answer(facts: RuleFacts) -> None:
    for field, values in VALUES.items():
        for value in values:
            rules({field: value}).judge(facts)
    verdict = rules(
        expression='subject.contains(sender) || parts.exists(p, p == kind) || "x" in headers'
    ).judge(facts)
    assert verdict.takes in (True, False, None)
