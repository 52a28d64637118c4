"""A whole Posthouse of real processes, for tests that watch mails go through it.

The services run as they do in production (`posthouse scheduler`, ...), each in its own process,
against the Postgres, broker and mail servers of the test session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from shared.connections import edit
from shared.handlers import Handler
from shared.storage import connections, handlers, scheduling
from shared.storage.pool import Database
from shared.vault import Place, Vault, new_key
from tests.rig.zygote import Child
from tests.servers.mail_server import MailServer

ROOT = Path(__file__).resolve().parents[2]


class Starter(Protocol):
    """Starts one process of a service, however that is done (`Zygote`, `Containers`)."""

    def fork(
        self,
        service: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        die_at: str = "",
        stall_at: str = "",
    ) -> Child: ...


class House:
    """Services, and the state they share. Use as a context manager: it ends what it started."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        folder: Path,
        *,
        zygote: Starter,
        output_url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.zygote = zygote
        self.store = folder / "store"
        self.database_url = database_url
        self.database = Database(database_url, size=4)
        self.key = new_key()
        self.vault = Vault.from_settings([self.key])
        self.broker_url = broker_url
        self.output_url = output_url or broker_url
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("POSTHOUSE_")},
            "POSTHOUSE_DATABASE_URL": database_url,
            "POSTHOUSE_BROKER_URL": broker_url,
            "POSTHOUSE_OUTPUT_URL": self.output_url,
            "POSTHOUSE_STORE_URL": f"file://{self.store}",
            "POSTHOUSE_SECRET_KEYS": self.key,
            "POSTHOUSE_ADMIN_TOKEN": "test-token-of-20-characters",
            "POSTHOUSE_HANDLER_CHECK_SECONDS": "0.5",
            "PYTHONPATH": str(ROOT),
            **{f"POSTHOUSE_{k.upper()}": v for k, v in (settings or {}).items()},
        }
        self.processes: list[Child] = []

    def __enter__(self) -> House:
        self.database.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.database.close()

    def start(
        self,
        *services: str,
        settings: Mapping[str, str] | None = None,
        die_at: str = "",
        stall_at: str = "",
    ) -> list[Child]:
        """One process for each name given; a name may stand there twice."""
        environment = {
            **self.environment,
            **{f"POSTHOUSE_{k.upper()}": v for k, v in (settings or {}).items()},
        }
        started = [
            self.zygote.fork(
                service, environment, self.log_of(service), die_at=die_at, stall_at=stall_at
            )
            for service in services
        ]
        self.processes += started
        return started

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def stop(self) -> None:
        """SIGTERM to everything, as an orderly end; raises where a process does not end by it."""
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.terminate()
        stuck = []
        for process in running:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                stuck.append(process.args)
                process.kill()
                process.wait()
        self.processes.clear()
        assert not stuck, f"ended only by SIGKILL: {stuck}"

    def kill(self, process: Child) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.processes.remove(process)

    def add_handler(self, name: str = "archive") -> int:
        with self.database.transaction() as session:
            return handlers.insert(session, Handler(name=name))

    def add_connection(self, password: str = "secret", **fields: Any) -> int:
        """An enabled connection; `fields` as the API takes them."""
        change = edit(None, {"password": password, "enabled": True, **fields})
        with self.database.transaction() as session:
            identifier = connections.insert(session, change.connection)
            place = Place("connection", "password", str(identifier))
            connections.write_password(
                session, identifier, self.vault.seal(password.encode(), place)
            )
            scheduling.enable(session, identifier)
        return identifier

    def watch(self, server: MailServer, user: str, **fields: Any) -> int:
        """An enabled connection to a mailbox of `server`, in plain text; IMAP unless said."""
        server.add_user(user)
        mode = fields.get("mode", "imap")
        return self.add_connection(
            **{
                "name": user,
                "mode": mode,
                "host": "127.0.0.1",
                "port": server.imap_port if mode == "imap" else server.pop3_port,
                "security": "none",
                "username": user,
                **fields,
            }
        )

    def run_once(self, connection_id: int) -> None:
        """Fetches now, and returns when that run is over."""
        asked = "SELECT last_run_at FROM connection_state WHERE connection_id = %s"
        before = self.query(asked, connection_id)
        self.fetch_now(connection_id)
        self.wait(lambda: self.query(asked, connection_id) != before, "one more run")

    def fetch_now(self, connection_id: int) -> None:
        with self.database.transaction() as session:
            scheduling.due_now(session, [connection_id])

    def hasten(self) -> None:
        """Lets so much time pass that whatever a dead process held is free again."""
        self.execute("UPDATE lease SET until = now() WHERE until > now()")
        self.execute("UPDATE outbox SET claimed_until = NULL WHERE claimed_until IS NOT NULL")
        self.hurry()

    def hurry(self) -> None:
        """Lets intervals, back-off and grace periods pass."""
        self.execute("UPDATE outbox SET next_attempt_at = now() WHERE next_attempt_at > now()")
        self.execute("UPDATE connection_state SET due_at = now() WHERE due_at IS NOT NULL")

    def execute(self, statement: str) -> None:
        """Changes the database behind the services' backs."""
        # Over many rows in no order, beside services that hold some: Postgres may ask to repeat.
        self.database.perform(lambda session: session.execute(statement))

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database.transaction() as session:
            return session.execute(sql, values).fetchall()

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Polls until `condition`; fails with the ends of the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.tails()}"
            time.sleep(0.05)

    def wait_settled(self, mails: int, seconds: float = 60) -> None:
        """Until this many mails are in the ledger, published and settled."""

        def settled() -> bool:
            (row,) = self.query(
                "SELECT (SELECT count(*) FROM message WHERE published_at IS NOT NULL"
                " AND settled_at IS NOT NULL), (SELECT count(*) FROM outbox),"
                " (SELECT count(*) FROM settlement)"
            )
            return bool(row[0] >= mails and row[1] == 0 and row[2] == 0)

        self.wait(settled, f"{mails} mails published and settled", seconds)

    def tails(self, characters: int = 2500) -> str:
        """The ends of the logs, and the work that is left, for a message of failure."""
        left = self.query(
            "SELECT count(*), min(attempts), max(attempts), max(emissions), min(error),"
            " min(next_attempt_at - now())::text, max(claimed_until - now())::text FROM outbox"
        )
        repeats = self.query("SELECT handler_id, repeats, count(*) FROM delivery GROUP BY 1, 2")
        states = self.query("SELECT connection_id, health, lane, due_at FROM connection_state")
        return f"outbox {left}\ndeliveries {repeats}\nstates {states}\n" + "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-characters:]}"
            for path in sorted(self.folder.glob("*.log"))
        )
