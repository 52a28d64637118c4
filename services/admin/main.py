"""The admin service: API and pages, and work at mail servers for those who wait for it."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, replace
from functools import partial

import structlog
import uvicorn
from starlette.types import ASGIApp

from services.admin import request_timeouts
from services.admin.app import build_app
from services.admin.context import AppState
from services.admin.mail_server_work import MailServerWork
from services.admin.request_timeouts import BoundedProtocol
from services.admin.settings import AdminSettings
from shared.allowed_hosts import HostRules
from shared.connections import Connection
from shared.errors import InvalidInput, TryAgain
from shared.heartbeats import HeartbeatWriter
from shared.mailbox.base import Mailbox
from shared.mailbox.open import open_mailbox
from shared.mailbox_logins import Logins
from shared.queueing.output.open import open_output
from shared.storage import schema
from shared.storage.pool import Database
from shared.storage.request_limits import PostgresLimiter
from shared.store_identity import open_own_store
from shared.telemetry.health import Check, HealthServer, Heartbeat
from shared.telemetry.listening_sockets import listening_socket
from shared.telemetry.threads import ServiceThreads
from shared.vault import Vault

_log = structlog.get_logger(__name__)
#: Seconds of silence after which a mail server is given up while somebody waits.
_READ_TIMEOUT = 15.0
#: Seconds that requests in progress get to end when the service stops.
_GRACE = 25


@dataclass(slots=True)
class Admin:
    """A running admin service."""

    settings: AdminSettings
    app_state: AppState
    app: ASGIApp
    heartbeat: Heartbeat
    limiter: PostgresLimiter

    def run(self, stop: threading.Event) -> None:
        """Serves until `stop` is set; requests in progress are answered.

        Raises InvalidInput where the port is taken, ThreadEnded where a part of it died: it is to
        be started anew.
        """
        listening = self._listening()
        server = self._server()
        threads = ServiceThreads()
        # Signals belong to the process: outside the main thread the server takes none.
        threads.add("http", server.run, [listening])
        threads.add("requests", self.limiter.run, stop)
        health = self._health(threads, stop, server)
        with self.app_state.database, health:
            threads.start()
            while not (ended := threads.ended(stop)) and not stop.wait(0.5):
                if server.started:
                    self.heartbeat.beat()
            server.should_exit = True
            threads.join(["http"])
            stop.set()
            threads.join()
            self.app_state.mail_server_work.close()
            self.app_state.output.close()
        if ended:
            raise ended

    def _listening(self) -> socket.socket:
        host, port = self.settings.host, self.settings.port
        try:
            return listening_socket(host, port, backlog=2048)
        except OSError as error:
            raise InvalidInput(
                f"The API cannot listen on {host}:{port}: {error.strerror}.",
                field="port",
                hint="Choose another POSTHOUSE_PORT, or stop what listens there.",
            ) from error

    def _server(self) -> uvicorn.Server:
        proxies = list(self.settings.trusted_proxies)
        return uvicorn.Server(
            uvicorn.Config(
                self.app,
                log_config=None,
                access_log=False,
                server_header=False,
                http=BoundedProtocol,
                limit_concurrency=request_timeouts.CONNECTIONS,
                timeout_graceful_shutdown=_GRACE,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=proxies,
            )
        )

    def _health(
        self, threads: ServiceThreads, stop: threading.Event, server: uvicorn.Server
    ) -> HealthServer:
        """The server for probes; `threads` get one that writes to Postgres how this process is."""
        state, settings = self.app_state, self.settings
        # The pages stay while the store is away or full: they say so.
        checks: dict[str, Check] = {
            "database": partial(schema.check, state.database),
            "store": state.store.check_identity,
            "threads": threads.check,
        }
        told = {**checks, "keys": state.vault.check}
        writer = HeartbeatWriter("admin", state.database, state.store, told)
        threads.add("heartbeat", writer.run, stop)
        return HealthServer(
            settings.health_host,
            settings.health_port,
            heartbeat=self.heartbeat,
            checks={**checks, "http": partial(_check_serving, server)},
        )


def _check_serving(server: uvicorn.Server) -> None:
    if not server.started or server.should_exit:
        raise TryAgain("The API and the pages are starting or stopping.")


def build(settings: AdminSettings) -> Admin:
    """Wires the service; nothing is connected before `run`."""
    database = Database(
        settings.database_url.get_secret_value(), size=20, prepared=settings.prepared_statements
    )
    vault = Vault.from_settings([key.get_secret_value() for key in settings.secret_keys])
    store = open_own_store(settings, database)
    rules = HostRules.of(settings)
    logins = Logins(database, vault, rules)
    limiter = PostgresLimiter(database)

    def opened(
        connection: Connection,
        password: str | None,
        *,
        client_certificate: str | None = None,
        mechanism: str = "",
        fresh: bool = False,
    ) -> Mailbox:
        login = logins.of(connection, password=password, client_certificate=client_certificate)
        login = replace(login, mechanism=mechanism)
        login = login.with_fresh_token() if fresh else login
        host, _ = login.endpoint or connection.endpoint
        return open_mailbox(
            connection,
            login,
            read_timeout_s=_READ_TIMEOUT,
            allow_host=rules.at(host),
            limiter=limiter,
        )

    management = settings.output_management_url
    output = open_output(
        settings.effective_output_url,
        management_url=management.get_secret_value() if management else "",
    )
    app_state = AppState(settings, database, vault, store, MailServerWork(), logins, opened, output)
    heartbeat = Heartbeat()
    return Admin(settings, app_state, build_app(app_state), heartbeat, limiter)
