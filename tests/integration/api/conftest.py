"""A running admin service for the tests of the API and of the commands over it."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import requests

from cli.main import main
from services.admin.main import Admin, build
from services.admin.settings import AdminSettings
from shared.storage.pool import Database
from shared.vault import new_key
from tests.servers.accounts import make_accounts, url_of
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.postgres import PostgresServer
from tests.servers.processes import free_port

TOKEN = "bootstrap-canary-4711"


class Api:
    """The service in a thread of this process, on a port of its own, and a client of it.

    It works under its own role, as it is installed; `execute` is the owner of `database_url`, who
    may do more.
    """

    def __init__(self, database_url: str, folder: Path, **settings: Any) -> None:
        self.owner_url = database_url
        self.port, self.health_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        values: dict[str, Any] = dict(  # noqa: C408
            database_url=admins_own(database_url),
            broker_url="redis://127.0.0.1:1/0",
            store_url=f"file://{folder}",
            secret_keys=(new_key(),),
            admin_token=TOKEN,
            port=self.port,
            health_port=self.health_port,
            public_url=self.url,
        )
        self.settings = AdminSettings(**(values | settings))
        self.admin: Admin = build(self.settings)
        self.database: Database = self.admin.app_state.database
        self.authorization = {"Authorization": f"Bearer {TOKEN}"}
        self.session = requests.Session()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.admin.run, args=(self._stop,))
        self.http = httpx.Client(
            base_url=self.url + "/api/v1/",
            headers=self.authorization,
            timeout=60,
        )

    def __enter__(self) -> Api:
        self._thread.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if (
                    httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", timeout=5).status_code
                    == 200
                ):
                    return self
            except httpx.TransportError:
                assert self._thread.is_alive(), "the admin service ended at once"
            time.sleep(0.02)
        raise TimeoutError("the admin service does not answer")

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.session.close()
        self._stop.set()
        self._thread.join(timeout=40)
        assert not self._thread.is_alive(), "the admin service does not stop"

    def as_token(self, token: str) -> httpx.Client:
        """A client with another token."""
        return httpx.Client(
            base_url=self.http.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def create(self, **fields: Any) -> dict[str, Any]:
        """A connection; what is not given is made up."""
        body = {
            "name": f"box {uuid.uuid4().hex[:8]}",
            "mode": "imap",
            "host": "mail.invalid",
            "username": "ann",
            "password": "secret",
        }
        answer = self.http.post("connections", json=body | fields)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def execute(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner_url) as session:
            cursor = session.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description else []


def admins_own(database_url: str) -> str:
    """The address under the account of the admin service."""
    with Database(database_url, size=1) as database:
        make_accounts(database, database_url)
    return url_of("admin", database_url)


@pytest.fixture(scope="module")
def api(
    postgres: PostgresServer, schema_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """One service a module, on a database of the module's own."""
    url = postgres.create_database(schema_template)
    with Api(url, tmp_path_factory.mktemp("store")) as running:
        yield running
    postgres.drop_database(url)


@pytest.fixture
def on_dovecot(dovecot: Dovecot, mail_user: str) -> dict[str, Any]:
    """The fields of a connection to an empty mailbox of the session's Dovecot."""
    return {
        "mode": "imap",
        "host": "127.0.0.1",
        "port": dovecot.imap_port,
        "security": "none",
        "username": mail_user,
        "password": PASSWORD,
    }


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Posthouse = Callable[..., Ran]


@pytest.fixture
def posthouse(
    api: Api, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Posthouse:
    """Runs a command as the console script does; standard input is no terminal."""
    monkeypatch.setenv("POSTHOUSE_URL", api.url)
    monkeypatch.setenv("POSTHOUSE_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["posthouse", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
            sys.exit(0)
        captured = capfd.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
