"""An installation of its own that mails keep arriving at while a drill is held."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from cli.demo.certificate import PASSWORD, DemoCertificate
from cli.demo.samples import compose, encrypted
from shared.errors import PosthouseError
from shared.storage.database_roles import SERVICES
from shared.storage.migrate import migrate
from tests.rig.forkserver import Forkserver
from tests.rig.mails import mail
from tests.rig.rollout import Rollout
from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.rig.storm_handlers import Recorder
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

HANDLER = "archive"
#: Everything twice where two can stand beside each other, as in a cluster.
REPLICAS = {"scheduler": 1, "fetcher": 2, "decryptor": 2, "admin": 1}
SETTINGS = {"lease_seconds": "5", "claim_seconds": "10", "read_timeout_seconds": "5"}
_BURST = 5
_PAUSE_S = 0.25
_SETTLED_S = 120.0


@dataclass(slots=True)
class Outcome:
    """What became of the mails: counts of distinct ones."""

    sent: int
    lost: int
    twice: int
    failed_runs: int
    quarantined: int
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.sent > 0 and not self.lost and not self.quarantined


class Site:
    """Postgres, a broker, Dovecot, the services, a handler, and who sends mails.

    Use it as a context manager, in the thread that outlives it: servers end with their thread.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: RedisServer | RabbitServer | None = None,
        settings: Mapping[str, str] | None = None,
        users: int = 4,
        durable: bool = False,
        before: Path | None = None,
    ) -> None:
        """`before` is the checkout of another version, whose services are there first."""
        self.folder = folder
        self.settings = {**SETTINGS, **(settings or {})}
        self.users = [f"drill{number}" for number in range(users)]
        self.sent: list[str] = []
        self.connections: list[int] = []
        self._given = broker
        self._durable = durable
        self._before = before
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Site:
        try:
            self._set_up()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):
            self.stack.stop()
        self._resources.close()

    def _set_up(self) -> None:
        enter = self._resources.enter_context
        self.folder.mkdir(parents=True, exist_ok=True)
        self.forkserver = Forkserver()
        self._resources.callback(self.forkserver.close)
        self.postgres = enter(PostgresServer(durable=self._durable))
        self.broker = self._given or enter(RedisServer())
        self.dovecot = enter(Dovecot())
        self.database_url = self.postgres.create_database()
        if not self._before:
            migrate(self.database_url)
        self.stack = self._new_stack()
        if self._before:
            self.migrate(self._before)
        else:
            self.stack.add_handler(HANDLER)
        self.handler = self.handle(self.broker.url)
        self.certificate = DemoCertificate.of(self.folder / "certificate")

    def _new_stack(self) -> Stack:
        stack = Stack(
            self.database_url,
            self.broker.url,
            self.folder,
            forkserver=self.forkserver,
            settings=self.settings,
        )
        stack.database.open()
        self._resources.callback(stack.database.close)
        return stack

    def reopen(self) -> None:
        """After the database was replaced: another stack on it, with the keys of the former."""
        keys = self.stack.secret_keys
        self.stack = self._new_stack()
        self.stack.secret_keys = keys

    def handle(self, url: str) -> Recorder:
        """A handler that takes its events from the broker at `url`."""
        recorder = Recorder(url, HANDLER)
        recorder.start()
        self._resources.callback(recorder.stop)
        return recorder

    def start(self, replicas: Mapping[str, int] = REPLICAS) -> Rollout:
        """Starts the services, and one connection a user, of each protocol in turn."""
        rollout = Rollout(self.stack, replicas)
        for number, user in enumerate(self.users):
            self.connections.append(
                self.stack.watch(
                    self.dovecot,
                    user,
                    mode="pop3" if number % 4 == 3 else "imap",
                    after_download="delete" if number % 2 else "mark-read",
                )
            )
            self.stack.add_certificate(self.certificate, self.connections[-1])
        return rollout

    def migrate(self, code: Path) -> None:
        """`posthouse migrate` of that checkout, with the services' accounts."""
        environment = {
            **os.environ,
            **self.stack.environment_of("migrate"),
            "PYTHONPATH": os.pathsep.join([str(code), str(code / "sdk/src")]),
        }
        self.stack.has_accounts = True
        for service in SERVICES:
            address = self.stack.url_of(service)
            environment[f"POSTHOUSE_{service.upper()}_DATABASE_URL"] = address
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cli.main", "migrate"],
            cwd=code,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"posthouse migrate of {code}: {done.stderr}")

    def describe(self, rollout: Rollout) -> None:
        """The handler and a connection a user through the API, whose requests no version breaks."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        with rollout.api() as api, httpx.Client(headers=headers, timeout=60) as client:

            def post(path: str, **body: Any) -> int:
                answer = client.post(f"{api}/{path}", **body)
                assert answer.is_success, answer.text
                return int(answer.json()["id"])

            post("handlers", json={"name": HANDLER})
            certificate = post(
                "certificates",
                files={"file": ("drill.p12", self.certificate.pkcs12)},
                data={"password": PASSWORD},
            )
            for number, user in enumerate(self.users):
                self.dovecot.add_user(user)
                has_pop3 = number % 4 == 3
                connection = post(
                    "connections",
                    json={
                        "name": user,
                        "mode": "pop3" if has_pop3 else "imap",
                        "host": "127.0.0.1",
                        "port": self.dovecot.pop3_port if has_pop3 else self.dovecot.imap_port,
                        "security": "none",
                        "username": user,
                        "password": "secret",
                        "after_download": "delete" if number % 2 else "mark-read",
                        "certificate_ids": [certificate],
                    },
                )
                post(f"connections/{connection}/enable", json={"acknowledged": True})
                self.connections.append(connection)

    # ---- mails

    @contextlib.contextmanager
    def mailing(self) -> Iterator[None]:
        """Mails arrive for the block: some twenty a second, one of ten encrypted."""
        enough = threading.Event()

        def send() -> None:
            for number in count(len(self.sent)):
                self.send(number, _BURST)
                if enough.wait(_PAUSE_S):
                    return

        hurrying = threading.Thread(target=self._hurry, args=(enough,), daemon=True)
        sender = threading.Thread(target=send, daemon=True)
        hurrying.start()
        sender.start()
        try:
            yield
        finally:
            enough.set()
            sender.join(60)
            hurrying.join(60)

    def send(self, number: int, mails: int) -> None:
        """To one user after the other."""
        user = self.users[number % len(self.users)]
        burst = [mail(number * 100 + i, 2500, seed=21) for i in range(mails)]
        if number % 2:
            sealed = compose("sender@example.org", f"{user}@example.org", "Sealed", f"{number}\n")
            octets = encrypted(sealed, self.certificate)
            burst[0] = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.dovecot.deliver(user, burst)
        self.sent.extend(sha256(item).hexdigest() for item in burst)

    def _hurry(self, enough: threading.Event) -> None:
        """Minutes become seconds, as for somebody who presses "fetch now": by a statement that the
        schema of every version takes."""
        due = "UPDATE connection_state SET due_at = now() WHERE connection_id = ANY(%s)"
        while not enough.wait(0.5):
            with (
                contextlib.suppress(PosthouseError),
                self.stack.database.transaction() as session,
            ):
                session.execute(f"{due} AND due_at > now()", (self.connections,))

    # ---- the end

    def settle(self, handlers: list[Recorder] | None = None, seconds: float = _SETTLED_S) -> bool:
        """Fair weather until every mail was handed over; False where it never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(PosthouseError):
                if not self._missing(handlers) and self.stack.count("outbox") == 0:
                    return True
                self.stack.hurry()
            time.sleep(0.5)
        return False

    def outcome(self, handlers: list[Recorder] | None = None) -> Outcome:
        """Waits for the end, and counts."""
        settled = self.settle(handlers)
        taken = handlers or [self.handler]
        ids = {identifier for recorder in taken for identifier in recorder.seen}
        arrivals = sum(sum(recorder.seen.values()) for recorder in taken)
        found = Outcome(
            sent=len(set(self.sent)),
            lost=len(self._missing(handlers)),
            twice=arrivals - len(ids),
            failed_runs=int(
                self.stack.query("SELECT count(*) FROM fetch_run WHERE error IS NOT NULL")[0][0]
            ),
            quarantined=self.stack.count("quarantine"),
        )
        if not settled:
            found.notes.append(self.stack.tails())
        return found

    def _missing(self, handlers: list[Recorder] | None) -> set[str]:
        taken = handlers or [self.handler]
        return set(self.sent) - {d for recorder in taken for d in recorder.digests.values()}

    # ---- what operators type

    def posthouse(self, *arguments: str, **settings: str) -> str:
        """The command line with the migration's account and all keys; returns what it says."""
        environment = {
            **os.environ,
            **self.stack.environment_of("migrate"),
            "POSTHOUSE_SECRET_KEYS": ",".join(self.stack.secret_keys),
            **{f"POSTHOUSE_{name.upper()}": value for name, value in settings.items()},
        }
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"posthouse {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


def say(text: str) -> None:
    """One sentence of what was seen."""
    print(text, flush=True)
