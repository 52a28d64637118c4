"""A name that leads to an allowed address and then to a denied one (DNS rebinding), at everything
that connects to where somebody chose: the denied address is never connected to."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from services.admin.auth.oidc import Oidc, OidcProvider
from services.scheduler.revocation_requests import Asker
from shared.alerts.raised import Alert, Template
from shared.alerts.services import WebhookTest
from shared.allowed_hosts import HostRules
from shared.certificates.revocation import Unusable
from shared.clock import new_id, utc_now
from shared.connections import Connection, Mode, TransportSecurity
from shared.credentials import ClientSecrets, Credential, Grant, Provider
from shared.errors import PosthouseError
from shared.forward_kinds import ForwardProtocol
from shared.forwarding.endpoint_clients import open_endpoint_client
from shared.forwards import Endpoint, ForwardOptions
from shared.mailbox.base import Login
from shared.mailbox.oauth import provider
from shared.mailbox.open import open_mailbox
from shared.storage.alert_deliveries import AlertedWebhook
from shared.storage.pool import Database
from shared.storage.webhooks import WEBHOOK_TABLE
from shared.vault import SecretPath, Vault, new_key
from shared.webhook_calls import WebhookCaller
from tests.rig.logins import logins_and_principals

NAME: Final = "moving.example.org"
ALLOWED, DENIED, SILENT = "127.0.0.1", "127.0.0.2", "127.0.0.3"
RULES: Final = HostRules.parse([], [DENIED])
LOGIN: Final = Login("alice@example.org", password="p", access_token=lambda _: "the-token")


class Listener:
    """Counts who connects to an address, and hangs up."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.connections = 0
        self._socket = socket.create_server((address, port))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._socket.accept()
                self.connections += 1
                taken.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass
class Moving:
    """Both addresses at one port, and the name server that leads to them by turns."""

    allowed: Listener
    denied: Listener
    answers: Iterator[list[str]]
    asked: int = 0

    @property
    def port(self) -> int:
        return self.allowed.port


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moving]:
    allowed = Listener(ALLOWED)
    denied = Listener(DENIED, allowed.port)
    found = Moving(allowed, denied, itertools.cycle([[ALLOWED], [DENIED], [SILENT, DENIED]]))
    truly = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host not in (NAME, NAME.encode()):
            return truly(host, port, *rest, **more)
        found.asked += 1
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, int(port or 0))) for address in next(found.answers)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield found
    allowed.close()
    denied.close()


def mailbox(mode: Mode, **more: Any) -> Callable[[int, Any], object]:
    def ask(port: int, _: Database) -> object:
        connection = Connection(
            name="c", mode=mode, host=NAME, port=port, username="alice@example.org", **more
        )
        login = LOGIN
        if mode is Mode.MICROSOFT_GRAPH:
            login = Login(LOGIN.username, access_token=LOGIN.access_token, endpoint=(NAME, port))
        return open_mailbox(connection, login, allow_host=RULES.at(NAME))

    return ask


def authorisation_server(vendor: Provider) -> Callable[[int, Any], object]:
    def ask(port: int, _: Database) -> object:
        credential = Credential(
            name="c",
            provider=vendor,
            grant=Grant.AUTHORIZATION_CODE,
            client_id="id",
            settings={"authority": f"https://{NAME}:{port}/t"},
        )
        connection = Connection(
            name="c", mode=Mode.IMAP, host="imap.example.org", username="alice@example.org"
        )
        server = provider.server_of(credential, ClientSecrets("s"), connection, RULES.at)
        return server.start(["mail"], redirect_uri="http://127.0.0.1/", login_hint="a")

    return ask


def login_provider(port: int, database: Database) -> object:
    logins, _ = logins_and_principals(database)
    named = OidcProvider(f"https://{NAME}:{port}", "id", "s", "http://127.0.0.1/", "", RULES)
    return Oidc(named, database, logins).start("/")


def webhook(port: int, _: Database) -> object:
    vault = Vault.from_settings([new_key()])
    sealed = vault.seal(
        f"http://{NAME}:{port}/hook".encode(), SecretPath(WEBHOOK_TABLE, "url", "1")
    )
    target = AlertedWebhook(id=1, name="hook", url=sealed, secret=None, template=Template.JSON)
    alert = Alert(id=new_id(), data=WebhookTest(name="hook", webhook_id=1))
    return WebhookCaller(vault, utc_now(), "http://127.0.0.1", RULES).deliver([(alert, target)])


def forward(kind: ForwardProtocol, scheme: str) -> Callable[[int, Any], object]:
    def ask(port: int, _: Database) -> object:
        options = ForwardOptions(timeout_seconds=5)
        address = f"{scheme}://{NAME}:{port}"
        client = open_endpoint_client(Endpoint(kind=kind, address=address, options=options), RULES)
        try:
            return client.send("key", b"{}")
        finally:
            client.close()

    return ask


def revocation(posted: bool) -> Callable[[int, Any], object]:
    def ask(port: int, database: Database) -> object:
        with Asker(database, RULES) as asker:
            address = f"http://{NAME}:{port}/"
            return asker.answer_of(address, b"x" * 500) if posted else asker.list_at(address)

    return ask


ASKING: Final[dict[str, Callable[[int, Any], object]]] = {
    "imap": mailbox(Mode.IMAP, security=TransportSecurity.NONE),
    "pop3": mailbox(Mode.POP3, security=TransportSecurity.NONE),
    "graph": mailbox(Mode.MICROSOFT_GRAPH, credential_id=1),
    "oauth microsoft": authorisation_server(Provider.MICROSOFT),
    "oauth google": authorisation_server(Provider.GOOGLE),
    "login": login_provider,
    "webhook": webhook,
    "forward http": forward(ForwardProtocol.HTTP, "http"),
    "forward https": forward(ForwardProtocol.HTTP, "https"),
    "forward nats": forward(ForwardProtocol.NATS, "nats"),
    "crl": revocation(False),
    "ocsp": revocation(True),
}


@pytest.mark.promise("T1")
@pytest.mark.parametrize("who", ASKING)
def test_a_name_that_moves_leads_to_no_denied_address(
    place: Moving, database_url: str, tmp_path: Path, who: str
) -> None:
    with Database(database_url) as database:
        for _ in range(6):
            with contextlib.suppress(PosthouseError, Unusable):
                ASKING[who](place.port, database)
            with database.transaction() as session:  # a host that fails is left alone
                session.execute("DELETE FROM revocation_host")
    assert place.asked >= 6
    assert place.allowed.connections >= 2
    assert place.denied.connections == 0
