"""Rows put into Postgres as a mailbox of some days ago would have left them."""

from __future__ import annotations

import uuid
from datetime import datetime

import psycopg

from shared.clock import new_id
from shared.mail.search_terms import numbers, terms_of
from shared.mail.summary import MailHeaders
from shared.messages import RawRef
from shared.store import Store

NOWHERE = RawRef("raw/none", 0, 0)
Session = psycopg.Connection[tuple[object, ...]]


def add_connection(session: Session, name: str = "inbox") -> int:
    """An enabled connection that has been polled; returns its id."""
    row = session.execute(
        "INSERT INTO connection (name, mode, host, username, enabled) "
        "VALUES (%s, 'imap', 'mail.example', %s, true) RETURNING id",
        (name, f"{name}@mail.example"),
    ).fetchone()
    assert row is not None
    session.execute(
        "INSERT INTO connection_state (connection_id, due_at, health) "
        "VALUES (%s, now(), 'working')",
        row,
    )
    return int(str(row[0]))


def add_handler(session: Session, name: str, watermark: datetime, enabled: bool = True) -> int:
    """A handler that has acknowledged everything published before `watermark`."""
    row = session.execute(
        "INSERT INTO handler (name, enabled) VALUES (%s, %s) RETURNING id", (name, enabled)
    ).fetchone()
    assert row is not None
    session.execute(
        "INSERT INTO handler_queue (handler_id, watermark) VALUES (%s, %s)", (row[0], watermark)
    )
    return int(str(row[0]))


def add_message(
    session: Session,
    connection_id: int,
    at: datetime,
    *,
    ref: RawRef = NOWHERE,
    opened: RawRef | None = None,
    sender: str = "sender@example.org",
    recipients: tuple[str, ...] = (),
    subject: str = "",
    published: bool = True,
    handler_id: int | None = None,
) -> uuid.UUID:
    """A mail downloaded `at`; where not `published` it waits in the outbox."""
    identifier = new_id(at)
    session.execute(
        "INSERT INTO message (id, connection_id, folder, native_key, sequence, size, sha256, "
        "raw_key, raw_offset, opened_key, opened_offset, opened_size, sender, recipients, subject, "
        "terms, downloaded_at, published_at) "
        "VALUES (%s, %s, '', %s, 1, %s, '', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            identifier,
            connection_id,
            identifier.hex,
            ref.size,
            ref.key,
            ref.offset,
            opened and opened.key,
            opened and opened.offset,
            opened and opened.size,
            sender,
            list(recipients),
            subject,
            numbers(terms_of(MailHeaders(sender=sender, to=recipients, subject=subject))),
            at,
            at if published else None,
        ),
    )
    if not published:
        session.execute(
            "INSERT INTO outbox (message_id, connection_id, next_attempt_at) "
            "VALUES (%s, %s, now())",
            (identifier, connection_id),
        )
    if handler_id is not None:
        session.execute(
            "INSERT INTO delivery (message_id, handler_id, published_at) VALUES (%s, %s, %s)",
            (identifier, handler_id, at),
        )
    return identifier


def keep(store: Store, mails: list[bytes], day: datetime) -> list[RawRef]:
    """One object of the store, as of `day`, that holds `mails`."""
    refs = []
    with store.pack() as pack:
        pack.key = f"raw/{day:%Y/%m/%d}/{new_id(day).hex}"
        for mail in mails:
            refs.append(RawRef(pack.key, pack.size, len(mail)))
            pack.write(mail)
        pack.commit()
    return refs
