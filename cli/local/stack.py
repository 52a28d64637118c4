"""What runs in one `posthouse up`, in which order, and with which settings."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from dotenv import dotenv_values

from cli.local.broker import OwnBroker
from cli.local.console import Console
from cli.local.data_folder import DataFolder, free_port, is_free, naming
from cli.local.demo_processes import Demo
from cli.local.postgres import OwnPostgres
from cli.local.supervisor import CRASH, Child, Program, Supervisor
from cli.run_service import SERVICES
from services.admin.settings import AdminSettings
from shared.errors import InvalidInput, TryAgain
from shared.settings import PREFIX, Settings, load
from shared.storage import schema
from shared.storage.database_roles import Account, grant_services
from shared.storage.pool import Database
from shared.storage.sealed_columns import columns_of
from shared.telemetry.logs import without_secrets
from shared.vault import SecretKey, new_key

_READY_SECONDS: Final = 180.0  # a busy machine is slow, and a crashed Postgres recovers first


class LocalStack:
    """Starts everything, keeps it running, stops it: children first, what they stand on last."""

    def __init__(
        self,
        folder: DataFolder,
        supervisor: Supervisor,
        console: Console,
        *,
        port: int,
        demo: bool,
    ) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._console = console
        self._port = port
        self._environment: dict[str, str] = {}
        self._accounts: dict[str, str] = {}  # addresses of Postgres, one a service
        self._keys: list[SecretKey] = []
        self._own: list[tuple[str, str, str]] = []  # what runs where, for people
        self._infrastructure: list[Child] = []  # Postgres and the broker
        self._services: list[Child] = []
        self._demo = Demo(folder, supervisor, console) if demo else None

    def start(self, give_up: Callable[[], bool]) -> None:
        """Returns when everything can be used, or early where `give_up()`."""
        left_over = self._supervisor.stop_left_over()
        if left_over:
            self._console.say(f"[dim]Stopped what an earlier run left: {', '.join(left_over)}.[/]")
        if not is_free(self._port):
            raise InvalidInput(
                f"Port {self._port} is in use.",
                field="port",
                hint="Choose another one with --port, or stop what listens there.",
            )
        self._start_infrastructure(give_up)
        if give_up():
            return
        self._settle_settings()
        self._migrate(give_up)
        for name in SERVICES:
            self._services.append(self._supervisor.start(self._service(name)))
        if self._demo is not None:
            self._demo.start_mailbox()
        self._supervisor.wait_ready(self._services, _READY_SECONDS, give_up)
        if self._demo is not None and not give_up():
            self._demo.settle(self.url, self._environment, give_up)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def supervise(self) -> None:
        self._supervisor.supervise()

    def stop(self) -> None:
        """Handlers and services finish what they hold before the ground goes."""
        if self._demo is not None:
            self._demo.stop()
        self._supervisor.stop(self._services)
        for child in reversed(self._infrastructure):
            self._supervisor.stop([child])
        self._supervisor.stop()

    def print_summary(self, seconds: float) -> None:
        """What runs where and how to log in."""
        say = self._console.say
        say(f"\n[bold green]Posthouse is ready[/] [dim]({seconds:.1f} s)[/]\n")
        say(f"  Pages and API  [link={self.url}]{self.url}[/]  [dim](API: {self.url}/api/v1)[/]")
        say(f"  Log in with    {self._environment[f'{PREFIX}ADMIN_TOKEN']}")
        for what, where, note in self._own:
            say(f"  {what:<14} {where}  [dim]{note}[/]")
        say(f"  Data and logs  {self._folder.root}")
        if option := naming(self._folder.root):
            say(f"  Commands       find it with {option}")
        if self._demo is not None:
            self._demo.print_summary()
        say("\nCtrl-C stops everything.\n")

    def _start_infrastructure(self, give_up: Callable[[], bool]) -> None:
        if _is_set("DATABASE_URL"):
            self._note("Postgres", "DATABASE_URL")
        else:
            postgres = OwnPostgres(self._folder)
            postgres.prepare()
            self._infrastructure.append(self._supervisor.start(postgres.program()))
            self._set("DATABASE_URL", postgres.url)
            self._accounts = {name: postgres.url_of(name) for name in SERVICES}
            self._own.append(("Postgres", f"127.0.0.1:{postgres.port}", "own, kept below"))
        if _is_set("BROKER_URL"):
            self._note("Broker", "BROKER_URL")
        else:
            broker = OwnBroker(self._folder)
            broker.prepare()
            self._infrastructure.append(self._supervisor.start(broker.program()))
            self._set("BROKER_URL", broker.url)
            queues = "" if _is_set("OUTPUT_URL") else "; handlers' queues too"
            self._own.append(("Broker", broker.url, f"own Valkey{queues}"))
        if _is_set("OUTPUT_URL"):
            self._note("Handlers' queues", "OUTPUT_URL")
        if _is_set("STORE_URL"):
            self._note("Store", "STORE_URL")
        else:
            self._set("STORE_URL", (self._folder.root / "store").as_uri())
        self._supervisor.wait_ready(self._infrastructure, _READY_SECONDS, give_up)

    def _settle_settings(self) -> None:
        """Fills in what is not set; everything together must be what the services accept."""
        if not _is_set("SECRET_KEYS"):
            self._set("SECRET_KEYS", str(self._folder.keep("secret_keys", new_key)))
        if _is_set("ADMIN_TOKEN"):
            token = load(AdminSettings, **self._overrides()).admin_token
            self._set("ADMIN_TOKEN", token.get_secret_value() if token else "")
        else:
            self._set("ADMIN_TOKEN", self._folder.password("admin_token"))
        if not _is_set("PUBLIC_URL"):
            self._set("PUBLIC_URL", self.url)
        chosen = load(Settings, **self._overrides())
        self._keys = [SecretKey.parse(key.get_secret_value()) for key in chosen.secret_keys]
        self._folder.replace("api_url", self.url)
        self._folder.replace("admin_token", self._environment[f"{PREFIX}ADMIN_TOKEN"])
        self._folder.replace("output_url", chosen.effective_output_url)

    def _migrate(self, give_up: Callable[[], bool]) -> None:
        """A Postgres that just started, or recovers from a crash, is given time to answer."""
        url = load(Settings, **self._overrides()).database_url.get_secret_value()
        deadline = time.monotonic() + _READY_SECONDS
        while not give_up():
            self._supervisor.supervise()
            try:
                _bring_up(url, self._accounts)
            except TryAgain:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _service(self, name: str) -> Program:
        environment = {**os.environ, **self._environment, f"{PREFIX}LOG_FORMAT": "json"}
        environment |= self._secrets_of(name)
        if name != "admin":
            environment.pop(f"{PREFIX}ADMIN_TOKEN", None)
            environment.pop(f"{PREFIX}ADMIN_TOKEN_FILE", None)
        health_port = free_port()
        environment[f"{PREFIX}HEALTH_PORT"] = str(health_port)
        if name == "admin":
            environment |= {f"{PREFIX}HOST": "127.0.0.1", f"{PREFIX}PORT": str(self._port)}
        return Program(
            name,
            [sys.executable, "-P", "-m", "cli.run_service", name],
            environment=environment,
            health_port=health_port,
            problem=CRASH,
        )

    def _secrets_of(self, name: str) -> dict[str, str]:
        """The service's own account, where Postgres is ours, and the keys of its columns alone."""
        if name == "admin":
            keys = self._keys
        else:
            keys = [part for key in self._keys for part in key.of(columns_of(name))]
        own = {f"{PREFIX}SECRET_KEYS": ",".join(map(str, keys))}
        if name in self._accounts:
            own[f"{PREFIX}DATABASE_URL"] = self._accounts[name]
        return own

    def _overrides(self) -> dict[str, str]:
        return {name.removeprefix(PREFIX).lower(): v for name, v in self._environment.items()}

    def _set(self, name: str, value: str) -> None:
        self._environment[PREFIX + name] = value

    def _note(self, what: str, name: str) -> None:
        where = os.environ.get(PREFIX + name) or f"as {PREFIX}{name} says"
        self._own.append((what, without_secrets(where), "yours"))


def _bring_up(url: str, accounts: Mapping[str, str]) -> None:
    """Migrates where there is something to migrate: most starts need not load what that takes."""
    with Database(url, size=1, timeout=1.0) as database:
        try:
            schema.check(database)
        except schema.SchemaBehind:
            from shared.storage.migrate import migrate

            migrate(url)
        with database.transaction() as session:
            # Also at the same schema: what a service needs may have changed with its code.
            grant_services(session, {n: Account.of_address(a) for n, a in accounts.items()})


def _is_set(name: str) -> bool:
    """Whether somebody chose this setting: environment, a file named by it, or `.env`."""
    full = PREFIX + name
    if os.environ.get(full) or os.environ.get(f"{full}_FILE"):
        return True
    return bool(dotenv_values(".env").get(full))
