"""What is known of 1,000,000 mails that stay on an IMAP server: octets in Postgres, processor time.

`make bench NAME=known`. Rows as commits leave them, packed as once a day, and then recognised
after a change of UIDVALIDITY, 5,000 listed mails at a time, as a run does it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from bench import report
from shared.connection_editing import edit
from shared.storage import connections, known_sets
from shared.storage.header_digests import short
from shared.storage.migrate import migrate
from shared.storage.pool import Database
from tests.servers.postgres import PostgresServer

_LISTED = 5000
_FOLDER = "INBOX"
_SIZES = "SELECT pg_total_relation_size('known_content'), pg_total_relation_size('packed_content')"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench known", description=__doc__)
    parser.add_argument("--mails", type=int, default=1_000_000)
    parser.add_argument("--listings", type=int, default=10, help="of 5,000 mails, recognised")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    count = chosen.mails
    with PostgresServer(durable=True) as postgres:
        url = postgres.create_database()
        migrate(url)
        with Database(url, size=1) as database:
            connection = _filled(database, count)
            loose, _ = _sizes(database)

            def pack() -> None:
                with database.transaction() as session:
                    uids = range(1, count + 1)
                    known_sets.prune(session, connection, _FOLDER, 100, uids, packing=True)

            packing = _spent(pack)
            _, packed = _sizes(database)
            again = _spent(pack)

            def rebind() -> None:
                for begin in range(1, chosen.listings * _LISTED, _LISTED):
                    mails = {2 * count - n: _digest(n) for n in range(begin, begin + _LISTED)}
                    with database.transaction() as session:
                        known_sets.rebind(session, connection, _FOLDER, 200, mails)

            rebinding = _spent(rebind) / chosen.listings
    lines = [
        "# What is known of mails that stay on an IMAP server",
        "",
        f"{count:,} mails in one folder. Processor time of the fetcher's side. {report.machine()}",
        "",
        "| | |",
        "|---|---|",
        f"| a row each, octets a mail | {loose / count:.1f} |",
        f"| packed, octets a mail, with index | {packed / count:.1f} |",
        f"| packing them all, s | {packing:.1f} |",
        f"| looking through them once a day, s | {again:.1f} |",
        f"| recognising {_LISTED:,} listed ones, s | {rebinding:.2f} |",
        "",
        *report.verdicts([("octets a mail", packed / count, "≤", 12)]),
    ]
    report.write("known", lines, {}, keep=not chosen.no_write)
    return 0


def _filled(database: Database, count: int) -> int:
    fields = {"name": "c", "mode": "imap", "host": "h", "username": "u", "password": "p"}
    with database.transaction() as session:
        connection = connections.insert(session, edit(None, fields).connection)
        statement = (
            "COPY known_content (connection_id, folder, uid_validity, uid, digest) FROM STDIN"
        )
        with session.cursor() as cursor, cursor.copy(statement) as copy:
            for uid in range(1, count + 1):
                copy.write_row((connection, _FOLDER, 100, uid, "\\x" + short(_digest(uid)).hex()))
    return connection


def _digest(number: int) -> bytes:
    return sha256(str(number).encode()).digest()[:16]


def _sizes(database: Database) -> tuple[int, int]:
    with database.transaction() as session:
        row = session.execute(_SIZES).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _spent(act: Callable[[], None]) -> float:
    """Seconds of this process' processor time."""
    before = time.process_time()
    act()
    return time.process_time() - before
