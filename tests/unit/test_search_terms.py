"""What a mail is found by, whatever its writing."""

from __future__ import annotations

import pytest

from shared.mail.search_terms import numbers, terms_of, terms_sought
from shared.mail.summary import MailHeaders


@pytest.mark.parametrize(
    ("subject", "sought"),
    [
        ("Re: Invoice no. 2026-113 (overdue)", "invoice 2026-113"),
        ("Re: Invoice no. 2026-113 (overdue)", "OVERDUE"),
        ("Ihre Rechnung für die Straße", "RECHNUNG STRASSE"),
        ("Ihre Rechnung fu\u0308r Mai", "für"),
        ("ΟΔΟΣ", "οδος"),
        ("İstanbul toplantı", "i\u0307stanbul"),
        ("ＡＢＣ１２３ 見積書の送付", "abc123"),
        ("請求書の件について", "請求書"),
        ("INV請求書2026", "inv 2026 請求"),
        ("청구서를 보내드립니다", "청구서"),
        ("ใบแจ้งหนี้เดือนนี้", "แจ้งหนี้"),
        ("заказ №15", "ЗАКАЗ 15"),
        ("फ़ोन बिल", "बिल"),
        ("order_4711_final.pdf", "4711 final"),
        ("Mein Résumé", "resume"),
        ("Mein Re\u0301sume\u0301", "RÉSUMÉ"),
        ("Größe und Straße", "grosse strasse"),
        ("İstanbul toplantı", "istanbul"),
        ("Ёлка, Εντολή", "елка εντολη"),
        ("ガイドの件", "ガイド"),
    ],
)
def test_words_of_a_subject_find_it(subject: str, sought: str) -> None:
    terms = terms_sought(sought)
    assert terms
    assert terms <= terms_of(MailHeaders(subject=subject))


@pytest.mark.parametrize(
    "sought",
    [
        "alice.miller@branch.example",
        "<Alice.Miller@Branch.Example>",
        "Alice Miller",
        "alice",
        "@branch.example",
        "branch.example",
        "Bob@elsewhere.example",
        "carol@third.example",
        "Alice Miller <alice.miller@branch.example>, bob@elsewhere.example",
        "jörg@bücher.example",
    ],
)
def test_addresses_and_names_find_it(sought: str) -> None:
    headers = MailHeaders(
        sender="Alice.Miller@branch.example",
        sender_name="Alice Miller",
        to=("bob@elsewhere.example", "JÖRG@bücher.example"),
        cc=("carol@third.example",),
    )
    assert terms_sought(sought) <= terms_of(headers)


@pytest.mark.parametrize("sought", ["voice", "@example.org", "bob@example.org", "invoices", "45"])
def test_nothing_else_finds_it(sought: str) -> None:
    headers = MailHeaders(subject="invoice 456", sender="a@sub.example.org", to=("b@example.org",))
    assert not terms_sought(sought) <= terms_of(headers)


def test_marks_count_where_they_are_sought_and_in_writings_that_need_them() -> None:
    assert not terms_sought("résumé") <= terms_of(MailHeaders(subject="resume"))
    assert not terms_sought("カイト") <= terms_of(MailHeaders(subject="ガイド"))
    headers = MailHeaders(sender="m@example.org", sender_name="Jürgen Müller")
    assert terms_sought("jurgen müller") <= terms_of(headers)


def test_every_recipient_of_many_is_a_term() -> None:
    people = tuple(f"person-{number}@example.org" for number in range(2000))
    terms = terms_of(MailHeaders(to=people))
    assert all(terms_sought(person) <= terms for person in people)


def test_a_search_without_words_has_no_terms() -> None:
    assert terms_sought(" … -- ()") == set()


def test_numbers_fit_an_integer_of_postgres_and_are_the_same_everywhere() -> None:
    found = numbers([b"invoice", b"alice@example.org", "請求".encode()])
    assert all(-(2**31) <= number < 2**31 for number in found)
    # They are kept for as long as mails are: they must not change.
    assert found == [275060548, 257857103, -1518504426]
