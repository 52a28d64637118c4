"""A Posthouse as large as somebody's, whose things all have the names that break pages: one long
word, right-to-left, emoji, markup, hundreds of characters."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.header import Header
from pathlib import Path
from typing import Any, Final

from pysequoia import Tsk

from posthouse import MailEvent, Reject
from shared.connection_editing import edit
from shared.storage import connections as stored
from shared.storage.pool import Session
from tests.e2e.site import Site
from tests.e2e.test_handlers import program
from tests.e2e.test_people import PASSWORD
from tests.integration.api.test_certificates import p12
from tests.servers.openssl_ca import OpensslCa

WORD: Final = "Rechnungseingangsbenachrichtigungspostfach"
NAMES: Final = (
    WORD * 5,
    "\u05d3\u05d5\u05d0\u05e8 \u202e txt.exe \u05e9\u05dc\u05d5\u05dd",
    "\U0001f4ec\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\u200d\u2620\ufe0f family",
    "Invoices of the head office, those of the branches, and whatever else somebody sent " * 3,
    "<b>bold</b> \"quoted\" & 'more' </td></table>",
    "Z\u0351\u0310a\u0334\u0315lgo \u0627\u0644\u0641\u0648\u0627\u062a\u064a\u0631",
    "support",
)


def name(number: int, limit: int = 200) -> str:
    """A name of at most `limit` characters, another one for each number."""
    return f"{NAMES[number % len(NAMES)][: limit - 8].strip()} {number}"


def word(number: int, limit: int) -> str:
    """The same where only letters, digits and hyphens go: a handler's name."""
    return (f"{number}-" + "w" * (limit if number % 3 == 0 else 12))[:limit]


@contextmanager
def filled(site: Site, folder: Path, *, connections: int, others: int) -> Iterator[dict[str, str]]:
    """Things of every kind in `site`; yields the addresses of one of each.

    `others`: how many of each other kind, people and tokens for example.
    """
    certificates = [
        site.upload("certificates", p12(f"{WORD}{n}@example.com"[-60:]), password="open sesame")
        for n in range(min(others, 8))
    ]
    credentials = [site.api("POST", "/credentials", credential(n)) for n in range(others)]
    add_connections(site, connections)
    (folder / "import.csv").write_bytes(connections_file(min(connections, 60)))
    _states(site)
    user = site.new_mailbox()
    site.dovecot.deliver(user, [hostile_mail(n, user) for n in range(others)])
    handler = word(0, 50)
    mailbox = site.add_connection(user, name=name(3, 190), handler=handler)
    site.api("PATCH", f"/connections/{mailbox}", {"tags": [WORD[:50], "\u05e9\u05dc\u05d5\u05dd"]})
    attached = [one["id"] for one in certificates[:3]]
    site.api("PATCH", f"/connections/{mailbox}", {"certificate_ids": attached})
    (taking,) = site.api("GET", f"/handlers?q={handler}")["items"]
    for number in range(1, min(others, 12)):
        made = {"name": word(number, 64), "description": name(number), "connections": [mailbox]}
        site.api("POST", "/handlers", made | {"enabled": number % 4 > 0})
    site.enable(mailbox)
    site.wait_taken(mailbox, others)

    def dead() -> int:
        queue = site.api("GET", f"/handlers/{taking['id']}")["queue"]
        return int(queue["dead_letters"]) if queue else 0

    with program(site, handler, _reject):
        site.stack.wait(lambda: dead() == others, "rejected")
    _ledger(site, mailbox, others)
    people_and_settings(site, folder, others)
    queries = (
        ("mail", f"SELECT id FROM message WHERE connection_id = {mailbox} LIMIT 1"),
        ("kept", "SELECT id FROM quarantine LIMIT 1"),
        ("person", "SELECT id FROM person ORDER BY id LIMIT 1"),
        ("other", "SELECT id FROM connection ORDER BY id LIMIT 1"),
        ("forwarding", f"SELECT max(id) FROM handler WHERE id <> {taking['id']}"),
    )
    found = {key: str(site.stack.query(statement)[0][0]) for key, statement in queries}
    forward = {"address": f"https://{WORD.lower()}.example/{WORD * 4}", "headers": {"X-Key": "k"}}
    site.api("PATCH", f"/handlers/{found['forwarding']}", {"forward": forward})
    hook = site.api("GET", "/webhooks")["items"][0]["id"]
    yield found | {
        "connection": str(mailbox),
        "handler": str(taking["id"]),
        "certificate": str(certificates[0]["id"]),
        "credential": str(credentials[0]["id"]),
        "hook": str(hook),
    }


def add_connections(site: Site, count: int) -> None:
    """Connections of a company, in one transaction: an import of so many takes minutes."""

    def insert(session: Session) -> None:
        for number in range(count):
            stored.insert(
                session, edit(None, _described(number) | {"password": "secret"}).connection
            )

    site.stack.database.perform(insert)


def connections_file(count: int) -> bytes:
    """The first of them as a CSV file: each is there already."""
    out = io.StringIO()
    lines = csv.writer(out, quoting=csv.QUOTE_ALL)
    lines.writerow([*_described(0), "password"])
    for number in range(count):
        described = _described(number)
        described["tags"] = ",".join(described["tags"])
        lines.writerow([*described.values(), "secret"])
    return out.getvalue().encode()


def _described(number: int) -> dict[str, Any]:
    host = f"{WORD.lower()}.{WORD.lower()}.example" if number % 4 == 0 else "mail.example.com"
    return {
        "name": name(number),
        "mode": ("imap", "pop3")[number % 2],
        "username": f"{WORD * (1 + number % 3)}{number}@example.com",
        "host": host,
        "description": name(number + 3),
        "tags": [f"branch-{number % 9}", _tag(number)] if number % 5 else [],
    }


def _tag(number: int) -> str:
    """In which there is no comma."""
    return name(number, 50).replace(",", "").strip()


def credential(number: int) -> dict[str, object]:
    return {
        "name": name(number, 100),
        "provider": "microsoft",
        "grant": ("authorization-code", "client-credentials")[number % 2],
        "client_id": WORD,
        "client_secret": "a-secret",
        "tenant": "contoso.onmicrosoft.com",
    }


def hostile_mail(number: int, user: str) -> bytes:
    subject = Header(name(number, 300).replace("\n", " "), "utf-8").encode()
    sender = Header(name(number + 1, 90), "utf-8").encode()
    return (
        f"From: {sender} <{WORD}{number}@{WORD}.example>\r\nTo: {user}@example.com\r\n"
        f"Subject: {subject}\r\nMessage-ID: <{uuid.uuid4().hex}@{WORD}.example>\r\n"
        "Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\n\r\n{name(number, 2000)}\r\n{WORD * 20}\r\n"
    ).encode()


def _reject(event: MailEvent) -> None:
    raise Reject(f"There is no ticket {WORD * 3}. {NAMES[3]}")


def _states(site: Site) -> None:
    """Working, failing with long reasons, without authorisation, pending: by turns."""
    error = {
        "code": "tls-failed",
        "message": f"{WORD * 3} is refused: {NAMES[3]}",
        "hint": NAMES[1],
        "at": "2026-11-29T01:00:00+00:00",
    }
    site.stack.execute("UPDATE connection SET enabled = true WHERE id % 6 > 0")
    site.stack.query(
        "UPDATE connection_state SET failures = 3, error = %s::jsonb, health = CASE"
        " mod(connection_id, 6) WHEN 1 THEN 'failing' ELSE 'needs-authorisation' END"
        " WHERE mod(connection_id, 6) IN (1, 2) RETURNING 1",
        json.dumps(error),
    )
    site.stack.execute(
        "UPDATE connection_state SET health = 'working', last_success_at = now(),"
        " last_run_at = now(), last_run_ms = 12 WHERE mod(connection_id, 6) IN (3, 4)"
    )


def _ledger(site: Site, mailbox: int, count: int) -> None:
    site.stack.query(
        "INSERT INTO fetch_run (id, connection_id, duration_ms) SELECT"
        " (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - n), 12, '0') || '7000'"
        " || substr(md5(n::text), 1, 16))::uuid, %s, n * 100 FROM generate_series(1, 60) AS n"
        " RETURNING 1",
        mailbox,
    )
    for number in range(count):
        site.stack.query(
            "INSERT INTO quarantine (id, connection_id, native_key, code, reason, size, subject,"
            " sender, sent_at) VALUES (%s, %s, %s, 'too-large', %s, 40000000, %s, %s, now())"
            " RETURNING 1",
            uuid.uuid4(),
            mailbox,
            f"key-{number}",
            f"{WORD * 2} {NAMES[3]}",
            name(number, 300),
            f"{WORD}{number}@{WORD}.example",
        )


def people_and_settings(site: Site, folder: Path, count: int) -> None:
    for number in range(min(count, 14)):
        role = ("viewer", "operator", "admin")[number % 3]
        part = {"tags": [f"branch-{number}", WORD[:50]]} if role != "admin" and number % 2 else {}
        person = {"name": name(number, 90), "role": role, "password": PASSWORD}
        site.api("POST", "/people", person | part)
        site.api("POST", "/tokens", {"name": name(number, 90), "role": role} | part)
    for number in range(min(count, 4)):
        hook = {"name": name(number, 90), "url": f"https://{WORD.lower()}.example/{WORD * 3}"}
        site.api("POST", "/webhooks", hook | {"enabled": False})
        ca = OpensslCa(folder / f"ca-{number}", f"{WORD} {number}"[:60])
        site.upload("trust-anchors", ca.cert.read_bytes())
        site.upload("revocation-lists", ca.published())
        sender = Tsk.generate(f"{WORD} <{WORD}{number}@example.org>").extract_certificate()
        site.upload("sender-keys", str(sender).encode())
