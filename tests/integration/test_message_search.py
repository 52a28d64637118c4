"""Where is my mail: by message-id, words and addresses in the whole ledger, by parts in turns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from shared.clock import utc_now
from shared.storage import message_search
from shared.storage.message_filter import MessageFilter
from shared.storage.message_search import MessagePage
from shared.storage.messages import MessageState
from tests.integration.rows import Session, add_connection, add_message

NOW = utc_now()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def connection(session: Session) -> int:
    return add_connection(session)


def subjects(page: MessagePage) -> list[str]:
    return [one.subject for one in page.items]


def find(session: Session, q: str, **more: object) -> MessagePage:
    return message_search.search(session, MessageFilter(q=q), **more)  # type: ignore[arg-type]


def test_words_and_addresses_find_mails_of_any_age(session: Session, connection: int) -> None:
    for days, subject, sender, to in (
        (0.1, "Invoice 17 for May", "anna@shop.example", "in@us.example"),
        (5, "Your invoice 18", "ben@shop.example", "in@us.example"),
        (25, "INVOICE 19", "carl@other.example", "ANNA@shop.example"),
        (26, "Invoices of the year", "dora@other.example", "in@us.example"),
    ):
        add_message(
            session,
            connection,
            NOW - timedelta(days=days),
            subject=subject,
            sender=sender,
            recipients=(to,),
        )
    found = find(session, "invoice")
    assert subjects(found) == ["Invoice 17 for May", "Your invoice 18", "INVOICE 19"]
    assert found.next is None
    assert found.looked_back_to is None
    assert subjects(find(session, "anna@SHOP.example")) == ["Invoice 17 for May", "INVOICE 19"]
    assert subjects(find(session, "@shop.example invoice")) == [
        "Invoice 17 for May",
        "Your invoice 18",
    ]
    assert subjects(find(session, "invoice 19 carl")) == ["INVOICE 19"]
    # No mail has this word: it is looked for as a part.
    assert subjects(find(session, "nvoices of")) == ["Invoices of the year"]
    assert subjects(find(session, "invoice nobody")) == []


def test_pages_of_a_word_go_on_over_all_days_without_gap_or_repeat(
    session: Session, connection: int
) -> None:
    for number in range(23):
        add_message(
            session, connection, NOW - timedelta(days=1.1 * number), subject=f"report {number}"
        )
        add_message(session, connection, NOW - timedelta(days=1.1 * number + 0.01), subject="other")
    seen: list[str] = []
    before = None
    for _ in range(10):
        page = find(session, "report", before=before, limit=4)
        seen += subjects(page)
        if page.next is None:
            break
        before = page.next
    assert seen == [f"report {number}" for number in range(23)]


def test_a_page_behind_the_last_mail_with_a_word_does_not_turn_to_parts(
    session: Session, connection: int
) -> None:
    first = add_message(session, connection, NOW - timedelta(days=2), subject="report")
    add_message(session, connection, NOW - timedelta(days=3), subject="reporting")
    page = find(session, "report", before=first)
    assert (subjects(page), page.next) == ([], None)


def test_two_words_of_one_number_are_not_mistaken_for_each_other(
    session: Session, connection: int
) -> None:
    # CRC-32 gives both the same number.
    add_message(session, connection, NOW - timedelta(hours=1), subject="codding")
    add_message(session, connection, NOW - timedelta(hours=2), subject="gnu")
    assert subjects(find(session, "codding")) == ["codding"]
    assert subjects(find(session, "gnu")) == ["gnu"]


def test_parts_of_words_are_looked_for_in_so_many_mails_at_a_time(
    session: Session, connection: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_search, "_MOST", 3)
    times = [NOW - timedelta(hours=number) for number in range(8)]
    for number, at in enumerate(times):
        add_message(
            session, connection, at, subject="xyzzy" if number in (1, 7) else f"number {number}"
        )
    page = find(session, "yzz")
    assert subjects(page) == ["xyzzy"]
    assert page.looked_back_to is not None
    assert abs(page.looked_back_to - times[2]) < timedelta(seconds=1)
    page = find(session, "yzz", before=page.next)
    assert subjects(page) == []
    page = find(session, "yzz", before=page.next)
    assert (subjects(page), page.next, page.looked_back_to) == (["xyzzy"], None, None)


def test_words_within_a_connection_a_time_and_a_state(session: Session, connection: int) -> None:
    other = add_connection(session, "other")
    add_message(session, connection, NOW - timedelta(days=3), subject="report one")
    add_message(session, other, NOW - timedelta(days=3), subject="report two")
    add_message(session, connection, NOW - timedelta(days=9), subject="report three")
    add_message(session, connection, NOW - timedelta(days=3), subject="report", published=False)
    wanted = MessageFilter(
        q="report",
        connection_id=connection,
        since=NOW - timedelta(days=5),
        until=NOW - timedelta(days=1),
        state=MessageState.PUBLISHED,
    )
    assert subjects(message_search.search(session, wanted)) == ["report one"]
