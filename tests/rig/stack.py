"""A whole Posthouse of real processes, for tests that watch mails go through it.

The services run as they do in production (`posthouse scheduler`, ...), each in its own process,
against the Postgres, broker and mail servers of the test session.
"""

from __future__ import annotations

import json
import os
import secrets as secrets_module
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from cli.demo.certificate import PASSWORD, DemoCertificate
from shared.certificates import parse_certificate
from shared.connection_editing import edit
from shared.forward_editing import edit as edit_forward
from shared.handlers import edit as edit_handler
from shared.storage import certificates, connections, forwards, handlers, scheduling
from shared.storage.certificates import Certificate
from shared.storage.database_roles import SERVICES
from shared.storage.pool import Database
from shared.storage.sealed_columns import columns_of
from shared.vault import (
    SecretKey,
    SecretPath,
    Vault,
    forward_path,
    new_key,
    private_key_path,
    signing_key_path,
)
from shared.webhook_signatures import new_secret
from tests.rig.forkserver import Child
from tests.servers.accounts import make_accounts, url_of
from tests.servers.mail_server import MailServer

ROOT = Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "test-token-of-20-characters"


class Starter(Protocol):
    """Starts one process of a service, however that is done (`Forkserver`, `Containers`)."""

    def fork(
        self,
        service: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        die_at: str = "",
        stall_at: str = "",
    ) -> Child: ...


#: What the events of a stack's handlers are signed with.
SIGNING_KEY = "posthouse_signing_of_a_test_stack"


class Stack:
    """Services, and the state they share. Use as a context manager: it ends what it started."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        folder: Path,
        *,
        forkserver: Starter,
        output_url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.forkserver = forkserver
        self.store = folder / "store"
        self.database_url = database_url
        self.database = Database(database_url, size=4)
        self.secret_keys = [new_key()]
        self.broker_url = broker_url
        self.output_url = output_url or broker_url
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("POSTHOUSE_")},
            "POSTHOUSE_BROKER_URL": broker_url,
            "POSTHOUSE_OUTPUT_URL": self.output_url,
            "POSTHOUSE_STORE_URL": f"file://{self.store}",
            "POSTHOUSE_HANDLER_CHECK_SECONDS": "0.5",
            "POSTHOUSE_ALERT_AFTER_MINUTES": "0",
            "PYTHONPATH": str(ROOT),
            **{f"POSTHOUSE_{k.upper()}": v for k, v in (settings or {}).items()},
        }
        self.processes: list[Child] = []
        #: Whether the services' accounts are there, with their rights.
        self.has_accounts = False

    def __enter__(self) -> Stack:
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
        chosen = {f"POSTHOUSE_{k.upper()}": v for k, v in (settings or {}).items()}
        started = [
            self.forkserver.fork(
                service,
                {**self.environment_of(service), **chosen},
                self.log_of(service),
                die_at=die_at,
                stall_at=stall_at,
            )
            for service in services
        ]
        self.processes += started
        return started

    def url_of(self, service: str) -> str:
        """The database under the service's own account."""
        if not self.has_accounts:
            self.has_accounts = True
            make_accounts(self.database, self.database_url)
        return url_of(service, self.database_url)

    @property
    def vault(self) -> Vault:
        return Vault.from_settings(self.secret_keys)

    def keys_of(self, service: str) -> str:
        """POSTHOUSE_SECRET_KEYS for a service: what it needs of the stack's keys."""
        keys = [SecretKey.parse(entry) for entry in self.secret_keys]
        if service == "admin":
            return ",".join(map(str, keys))
        return ",".join(str(part) for key in keys for part in key.of(columns_of(service)))

    def environment_of(self, service: str) -> dict[str, str]:
        """The settings of a service, or of `migrate`: what it has alone, and what all have."""
        if service not in SERVICES:
            return {"POSTHOUSE_DATABASE_URL": self.database_url, **self.environment}
        own = {
            "POSTHOUSE_DATABASE_URL": self.url_of(service),
            "POSTHOUSE_SECRET_KEYS": self.keys_of(service),
        }
        token = {"POSTHOUSE_ADMIN_TOKEN": ADMIN_TOKEN} if service == "admin" else {}
        return own | token | self.environment

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

    def add_handler(self, name: str = "archive", **fields: Any) -> int:
        """A handler; `fields` as the API takes them."""
        handler = edit_handler(None, {"name": name, **fields})
        with self.database.transaction() as session:
            identifier = handlers.insert(session, handler)
            sealed = self.vault.seal(SIGNING_KEY.encode(), signing_key_path(identifier))
            handlers.write_signing_keys(session, identifier, sealed, None)
        return identifier

    def forward(self, handler_id: int, address: str, **fields: Any) -> str:
        """Passes a handler's events on; `fields` as the API takes them. Returns the secret."""
        given = {"address": address, **fields}
        if address.startswith("http"):
            given = {"secret": new_secret(), **given}
        forward, secrets = edit_forward(None, given)
        key = secrets_module.token_bytes(32)
        with self.database.transaction() as session:

            def seal(column: str, value: bytes) -> bytes:
                return self.vault.seal(value, forward_path(column, handler_id))

            forwards.insert(
                session,
                handler_id,
                forward,
                address=seal("address", address.encode()),
                link_key=seal("link_key", key),
            )
            secret = secrets.secret or ""
            if secret:
                forwards.write_secrets(session, handler_id, seal("secret", secret.encode()), None)
            if secrets.credentials:
                sealed = seal("credentials", json.dumps(dict(secrets.credentials)).encode())
                forwards.write_credentials(session, handler_id, sealed)
            if secrets.headers:
                sealed = seal("headers", json.dumps(dict(secrets.headers)).encode())
                forwards.write_headers(session, handler_id, sealed)
            if secrets.client_certificate:
                sealed = seal("client_certificate", secrets.client_certificate.encode())
                forwards.write_client_certificate(session, handler_id, sealed)
        return secret

    def change_handler(self, name: str, **fields: Any) -> None:
        with self.database.transaction() as session:
            (found,) = [one for one in handlers.search(session) if one.name == name]
            handlers.update(session, edit_handler(found, fields))

    def add_connection(self, password: str = "secret", **fields: Any) -> int:
        """An enabled connection; `fields` as the API takes them."""
        change = edit(None, {"password": password, "enabled": True, **fields})
        with self.database.transaction() as session:
            identifier = connections.insert(session, change.connection)
            if change.password:
                path = SecretPath("connection", "password", str(identifier))
                sealed = self.vault.seal(change.password.encode(), path)
                connections.write_password(session, identifier, sealed)
            if change.client_certificate:
                path = SecretPath("connection", "client_certificate", str(identifier))
                sealed = self.vault.seal(change.client_certificate.encode(), path)
                connections.write_client_certificate(session, identifier, sealed)
            scheduling.enable(session, identifier)
        return identifier

    def add_plain_connection(self, port: int, *, username: str = "alice", **fields: Any) -> int:
        """One to a server of this machine, without TLS."""
        local: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "security": "none",
            "username": username,
        }
        return self.add_connection(**local, **fields)

    def add_certificate(self, certificate: DemoCertificate, connection_id: int) -> None:
        """What encrypted mails of this connection are opened with."""
        parsed = parse_certificate(certificate.pkcs12, PASSWORD)
        described = Certificate(
            kind=parsed.kind,
            name=f"certificate {connection_id}",
            alias="",
            subject=parsed.subject,
            issuer=parsed.issuer,
            serial=parsed.serial,
            fingerprint=parsed.fingerprint,
            not_before=parsed.not_before,
            not_after=parsed.not_after,
            emails=parsed.emails,
            key_type=parsed.key_type,
        )
        with self.database.transaction() as session:
            identifier = certificates.insert(
                session, described, der=parsed.certificate, chain=parsed.chain
            )
            sealed = self.vault.seal(parsed.private_key, private_key_path(identifier))
            certificates.write_key(session, identifier, sealed)
            session.execute(
                "INSERT INTO connection_certificate VALUES (%s, %s)", (connection_id, identifier)
            )
            # As an edit does it: whoever knows the connection reads it again.
            session.execute(
                "UPDATE connection SET updated_at = now() WHERE id = %s", (connection_id,)
            )

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
            scheduling.make_due(session, [connection_id])

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
