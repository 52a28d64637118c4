"""What people write into rules, and what mails have: other letters, other forms, no sense."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from services.decryptor.choosing_handlers import rule_facts
from shared.errors import InvalidInput
from shared.mail.comparable_addresses import comparable
from shared.mail.summary import read_headers
from shared.rules.facts import RuleFacts, kept, with_kept
from shared.rules.ruleset import read_rules, stored_rules

pytestmark = pytest.mark.promise("R1")


def takes(rule: dict[str, Any], facts: RuleFacts) -> bool | None:
    return read_rules({"accept": [rule]}).judge(facts).takes


def sent_from(address: str) -> RuleFacts:
    mail: Any = SimpleNamespace(
        headers=read_headers(f"From: <{address}>\r\nTo: <{address}>\r\n\r\n".encode()),
        size=1,
        folder="",
    )
    outcome: Any = SimpleNamespace(security={}, opened=None)
    return rule_facts(mail, outcome, None, {"delivered_to": [{"address": address}]}, None)


@pytest.mark.parametrize(
    ("value", "address", "fits"),
    [
        ("@bücher.example", "a@xn--bcher-kva.example", True),
        ("@xn--bcher-kva.example", "a@bücher.example", True),
        ("@*.bücher.example", "a@shop.xn--bcher-kva.example", True),
        ("BÜCHER.example", "a@bücher.example", True),
        ("@bücher.example", "a@BU\u0308CHER.example", True),
        ("jörg@bücher.example", "jörg@XN--BCHER-KVA.example", True),
        ("jörg@bücher.example", "jörg+x@xn--bcher-kva.example", True),
        ("@straße.example", "a@strasse.example", False),
        ("@bücher.example", "a@bucher.example", False),
        # What is not ASCII never becomes ASCII.
        ("@bank.example", "a@ban\u212a.example", False),
        ("@bank.example", "a@xn--bank-.example", False),
        ("@аррӏе.example", "a@xn--80ak6aa92e.example", True),
        ("@аррӏе.example", "a@xn---80ak6aa92e.example", False),  # Python reads both alike
        ("@ΑΣ.example", "a@ασ.example", True),
        ("@bank.example", "a@ｂank.example", False),
        ("ki@bank.example", "\u212ai@bank.example", False),
        ("@xn--a.example", "a@xn--a.example", True),
        ("@xn--\u00fc.example", "a@xn--\u00fc.example", True),
        ("*@example.org", "a@example.org", True),
    ],
)
def test_an_address_fits_however_its_domain_is_written(
    value: str, address: str, fits: bool
) -> None:
    facts = sent_from(address)
    assert takes({"sender": value}, facts) is fits
    assert takes({"recipient": value}, facts) is fits
    # What the ledger keeps of it says the same.
    kept_only = with_kept(RuleFacts(), kept({"delivered_to": [{"address": address}]}), opened=True)
    assert takes({"recipient": value}, kept_only) is fits


def test_no_label_takes_long_or_fails() -> None:
    for domain in ("xn--" + "a" * 63, "xn--" + "9" * 59, "xn---", "xn--\ud800", "." * 300):
        assert comparable(f"ü@{domain}").startswith("ü@")


@pytest.mark.parametrize(
    ("subject", "wanted", "fits"),
    [
        ("Bu\u0308ro", "büro", True),
        ("BÜRO", "bu\u0308ro", True),
        ("STRASSE 1", "Straße", True),
        ("Buero", "büro", False),
    ],
)
def test_a_text_is_found_however_its_accents_are_written(
    subject: str, wanted: str, fits: bool
) -> None:
    facts = RuleFacts(subject=subject, headers={"x-a": ["first", subject]})
    assert takes({"subject": wanted}, facts) is fits
    assert takes({"header": f"X-A: {wanted}"}, facts) is fits


@pytest.mark.parametrize(
    "rule",
    [
        {"sender": "<a@example.org>"},
        {"sender": "a@example.org,b@example.org"},
        {"sender": "sup*@example.org"},
        {"sender": "a@*.example.org.*"},
        {"recipient": "@"},
        {"recipient": "a@"},
        {"recipient": "*"},
        {"recipient": ".example.org"},
        {"recipient": "example.org."},
        {"recipient": "a@example..org"},
        {"tag": "+"},
        {"tag": "a b"},
        {"tag": "support+billing@example.org"},
        {"authentication": "dmarc=passed"},
        {"authentication": "spf=ok"},
    ],
    ids=repr,
)
def test_what_no_mail_can_have_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rules({"accept": [rule]})
    assert refused.value.hint
    # Where it was saved before that was checked, the other rules go on to count.
    saved = stored_rules(json.dumps({"accept": [rule, {"subject": "x"}]}))
    assert saved.judge(RuleFacts(subject="x", envelope=(), authentication=())).takes


def test_an_expression_that_would_be_refused_today_is_in_doubt() -> None:
    saved = stored_rules(json.dumps({"expression": "subject.matches('(') || knd == 'x'"}))
    assert saved.judge(RuleFacts(subject="x")).takes is None


def test_values_are_kept_as_they_are_meant() -> None:
    made = read_rules({"accept": [{"tag": "+billing"}, {"encrypted": [True, False]}]})
    assert made.to_json()["accept"] == [{"tag": "billing"}, {"encrypted": [True, False]}]
    assert made.sentences == [
        "Takes mails with the tag “billing”.",
        "Takes mails that came encrypted or unencrypted.",
    ]
    assert takes({"authentication": "compauth=odd"}, RuleFacts(authentication=("compauth=odd",)))
