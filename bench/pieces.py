"""What each step of a fetch costs: the profile behind `make bench NAME=fetch`.

`make bench NAME=pieces`. The fetcher's own steps, one after the other in one process and without
its services: processor time of this process (waiting excluded) and the wall clock (what the mail
server, the disk and Postgres do included), both for each mail.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import report
from bench.corpora import small
from services.fetcher.settings import FetcherSettings
from services.fetcher.storing import Intake, batches
from shared.connection_editing import edit
from shared.errors import PosthouseError
from shared.mailbox.base import Login, MailRef
from shared.mailbox.open import open_mailbox
from shared.storage import connections, ledger, scheduling, settlements
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import KnownMails
from shared.storage.migrate import migrate
from shared.storage.pool import Database
from shared.storage.settlements import Settled
from shared.store import FileStore
from tests.rig.leasing import acquire
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer


class Nowhere:
    """A sink that drops what it is given."""

    def begin(self, ref: MailRef) -> None: ...

    def write(self, chunk: bytes | memoryview) -> None: ...

    def end(self) -> None: ...

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None: ...


class Clocks:
    """Adds up processor time and wall clock by the name of a step."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        processor, wall = time.process_time(), time.perf_counter()
        yield
        before = self.spent.get(name, (0.0, 0.0))
        self.spent[name] = (
            before[0] + time.process_time() - processor,
            before[1] + time.perf_counter() - wall,
        )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench pieces", description=__doc__)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    size = int(FetcherSettings.model_fields["batch_mails"].default)
    clocks = Clocks()
    with (
        PostgresServer(durable=True) as postgres,
        Dovecot() as dovecot,
        tempfile.TemporaryDirectory() as folder,
    ):
        url = postgres.create_database()
        migrate(url)
        dovecot.deliver("a", small(chosen.mails))
        with Database(url, size=4) as database:
            _fetch(dovecot, database, Path(folder), chosen.mails, size, clocks)
    lines = [
        "# What each step of a fetch costs",
        "",
        f"{chosen.mails:,} mails of 8 kB in batches of {size}, one process. {report.machine()}",
        "",
        "| step | processor time, µs a mail | wall clock, µs a mail |",
        "|---|---|---|",
    ]
    for name, (processor, wall) in clocks.spent.items():
        lines.append(
            f"| {name} | {1e6 * processor / chosen.mails:.1f} | {1e6 * wall / chosen.mails:.1f} |"
        )
    report.write("pieces", lines, {}, keep=not chosen.no_write)
    return 0


def _fetch(
    dovecot: Dovecot, database: Database, folder: Path, mails: int, size: int, clocks: Clocks
) -> None:
    fields = {
        "name": "a",
        "mode": "imap",
        "host": "127.0.0.1",
        "port": dovecot.imap_port,
        "security": "none",
        "username": "a",
        "password": "secret",
        "enabled": True,
    }
    with database.transaction() as session:
        identifier = connections.insert(session, edit(None, fields).connection)
        scheduling.enable(session, identifier)
        (lease,) = acquire(session, ["a"], "bench", 600)
        (connection,) = connections.get_many(session, [identifier])
    store = FileStore(folder / "store")
    mailbox = open_mailbox(connection, Login("a", password="secret"), read_timeout_s=60)
    with clocks("open the folder"):
        status = mailbox.open("")
    folder_ref = FolderRef(identifier, "", status.uid_validity)
    known = KnownMails(database, identifier, "", status.uid_validity)
    with clocks("list what is new"):
        listing = mailbox.list_new(known, connection.selection, limit=mails)
    with clocks("(read the bodies and drop them)"):
        for batch in batches(listing.new, size, 1 << 24):
            mailbox.download(batch, Nowhere(), limit=1 << 27)
    for batch in batches(listing.new, size, 1 << 24):
        with Intake(store) as intake:
            with clocks("read the bodies, digest, read headers, write"):
                mailbox.download(batch, intake, limit=1 << 27)
            with clocks("sync the pack and its folder"):
                intake.keep()
            with clocks("commit the ledger"), database.transaction() as session:
                ledger.commit_batch(session, lease, folder_ref, intake.messages)
            with clocks("set the flags"):
                settled = mailbox.settle(intake.refs, connection.after_download)
            with clocks("commit that they are set"), database.transaction() as session:
                keys = [ref.key for ref in settled]
                settlements.record_settled(session, [Settled(folder_ref, keys, deleted=False)])
    mailbox.close()
