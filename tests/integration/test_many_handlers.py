"""Sixty handlers of the same mails: lists, searches by state and a handler's page look at the mails
that they show, and not at every delivery there is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shared.clock import utc_now
from shared.storage import handler_queues, message_search
from shared.storage.message_filter import MessageFilter
from shared.storage.messages import MessageState
from tests.integration.rows import Session, add_connection, add_handler, add_message

pytestmark = pytest.mark.promise("D2", "M20")
HANDLERS, MAILS = 60, 400
NOW = utc_now()
LAST_MAIL = NOW - timedelta(hours=1)


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url) as opened:
        yield opened


@pytest.fixture
def mails(session: Session) -> list[uuid.UUID]:
    """The newest first; nothing of them is acknowledged."""
    connection = add_connection(session)
    for number in range(HANDLERS):
        add_handler(session, f"handler-{number}", NOW - timedelta(days=1))
    made = [
        add_message(session, connection, LAST_MAIL - timedelta(seconds=n), subject=f"mail {n}")
        for n in range(MAILS)
    ]
    session.execute(
        "INSERT INTO delivery (message_id, handler_id, published_at, position) SELECT m.id, h.id,"
        " m.published_at, floor(extract(epoch FROM m.published_at) * 1000)::bigint || '-' || h.id"
        " FROM message AS m, handler AS h"
    )
    session.execute("UPDATE handler_queue SET acknowledged = '1-0', backlog = %s", (MAILS,))
    session.commit()
    session.execute("ANALYZE")
    session.commit()
    return made


def handlers(session: Session) -> list[int]:
    return [int(str(row[0])) for row in session.execute("SELECT id FROM handler ORDER BY id")]


def deliveries_read(session: Session) -> int:
    """Rows of deliveries that this transaction has read so far."""
    row = session.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname LIKE 'delivery%'"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def shown(session: Session, state: MessageState | None) -> list[str]:
    page = message_search.search(session, MessageFilter(state=state), limit=10)
    assert {one.state for one in page.items} <= {state or MessageState.PUBLISHED}
    return [one.subject for one in page.items]


def held(session: Session, mail: uuid.UUID) -> None:
    """A consumer of one handler has this mail in hand, and has read no further."""
    (handler, *_) = handlers(session)
    session.execute(
        "UPDATE handler_queue AS q SET read_position = d.position, in_hand = jsonb_build_array("
        " jsonb_build_object('position', d.position, 'consumer', 'night', 'deliveries', 1,"
        " 'since', now())) FROM delivery AS d"
        " WHERE d.handler_id = q.handler_id AND q.handler_id = %s AND d.message_id = %s",
        (handler, mail),
    )
    session.commit()


def test_a_list_finds_out_what_became_of_the_mails_that_it_shows(
    session: Session, mails: list[uuid.UUID]
) -> None:
    assert shown(session, None) == [f"mail {n}" for n in range(10)]
    assert deliveries_read(session) <= 12 * HANDLERS


def test_mails_of_a_state_are_found_among_the_first(
    session: Session, mails: list[uuid.UUID]
) -> None:
    assert shown(session, MessageState.PUBLISHED) == [f"mail {n}" for n in range(10)]
    # Those of the first window, and of those shown once more, what they are.
    assert deliveries_read(session) <= 270 * HANDLERS < MAILS * HANDLERS


def test_few_dead_letters_are_found_among_many_mails(
    session: Session, mails: list[uuid.UUID]
) -> None:
    session.execute(
        "INSERT INTO dead_letter (handler_id, message_id, died_at, reason, deliveries, given_up)"
        " VALUES (%s, %s, now(), 'No ticket', 1, false)",
        (handlers(session)[7], mails[-1]),
    )
    session.execute(
        "INSERT INTO message_history (message_id, at, what, handler_id)"
        " VALUES (%s, now(), 'discarded', %s)",
        (mails[-2], handlers(session)[7]),
    )
    session.commit()
    assert shown(session, MessageState.DEAD_LETTER) == [f"mail {MAILS - 1}"]
    assert deliveries_read(session) <= 3 * HANDLERS


def test_what_is_in_hand_is_found_among_many_mails(
    session: Session, mails: list[uuid.UUID]
) -> None:
    held(session, mails[-3])
    assert shown(session, MessageState.IN_HAND) == [f"mail {MAILS - 3}"]
    assert deliveries_read(session) <= MAILS + 3 * HANDLERS


def test_a_stuck_handler_shows_the_oldest_that_waits_and_what_is_in_hand(
    session: Session, mails: list[uuid.UUID]
) -> None:
    held(session, mails[-3])
    (handler, *_) = handlers(session)
    waiting = handler_queues.oldest_waiting(session, handler)
    # The two before the mail in hand were read and are in nobody's hand: acknowledged.
    assert [one.subject for one in waiting] == [f"mail {MAILS - n}" for n in range(4, 9)]
    assert [one.subject for one in handler_queues.in_hand(session, handler)] == [
        f"mail {MAILS - 3}"
    ]


def test_what_is_in_hand_and_was_delivered_again_meanwhile_is_still_known(
    session: Session, mails: list[uuid.UUID]
) -> None:
    """Its delivery has the position of the later event; the former one is in the history."""
    held(session, mails[-3])
    (handler, *_) = handlers(session)
    session.execute(
        "INSERT INTO message_history (message_id, at, what, handler_id, detail)"
        " SELECT message_id, published_at, 'published', handler_id,"
        " jsonb_build_object('position', position) FROM delivery"
        " WHERE message_id = %s AND handler_id = %s",
        (mails[-3], handler),
    )
    session.execute(
        "UPDATE delivery SET position = '9999999999999-0', repeats = 1, published_at = now()"
        " WHERE message_id = %s AND handler_id = %s",
        (mails[-3], handler),
    )
    (one,) = handler_queues.in_hand(session, handler)
    assert (one.message_id, one.subject) == (mails[-3], f"mail {MAILS - 3}")


def test_a_queue_that_only_counts_shows_as_many_as_it_has(
    session: Session, mails: list[uuid.UUID]
) -> None:
    (handler, *_) = handlers(session)
    session.execute(
        "UPDATE handler_queue SET acknowledged = '', consumers = %s, backlog = 3"
        " WHERE handler_id = %s",
        (Jsonb([]), handler),
    )
    session.execute("UPDATE delivery SET position = '' WHERE handler_id = %s", (handler,))
    session.commit()
    waiting = handler_queues.oldest_waiting(session, handler)
    assert [one.subject for one in waiting] == ["mail 2", "mail 1", "mail 0"]
    session.execute("UPDATE handler_queue SET backlog = 0 WHERE handler_id = %s", (handler,))
    assert handler_queues.oldest_waiting(session, handler) == []


def test_a_search_by_what_handlers_did_goes_on_to_the_last_mail(
    session: Session, mails: list[uuid.UUID]
) -> None:
    session.execute("UPDATE handler_queue SET watermark = %s", (NOW,))
    session.execute(
        "UPDATE handler_queue SET watermark = %s WHERE handler_id = %s",
        (LAST_MAIL - timedelta(seconds=MAILS - 5.5), handlers(session)[0]),
    )
    session.commit()
    assert shown(session, MessageState.ACKNOWLEDGED) == [f"mail {MAILS - 5 + n}" for n in range(5)]
