"""Connections in a real Postgres that are authorised at a real authorisation server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.connections import Connection, Mode
from shared.credentials import Credential, Grant, Provider
from shared.mailbox_logins import Logins
from shared.storage import connections, credentials
from shared.storage.pool import Database
from shared.vault import (
    Vault,
    client_certificate_path,
    client_secret_path,
    new_key,
)
from tests.corpus import Line
from tests.servers.oidc import REDIRECT, OidcServer

Share = Callable[[Sequence[Line]], Sequence[Line]]


ALICE = "alice@example.org"
_NUMBERS = itertools.count(1)


@dataclass
class Stack:
    """A database, its vault, and an authorisation server for its connections."""

    database: Database
    vault: Vault
    oidc: OidcServer

    @property
    def logins(self) -> Logins:
        return Logins(self.database, self.vault)

    def credential(self, **changes: Any) -> Credential:
        """A credential, stored; `changes` go over what fits the authorisation server."""
        secret = changes.pop("secret", self.oidc.client_secret)
        certificate = changes.pop("certificate", None)
        provider = changes.get("provider", Provider.MICROSOFT)
        settings = {"authority": self.oidc.issuer, "ca_certificate": self.oidc.ca}
        values: dict[str, Any] = {
            "name": f"credential {next(_NUMBERS)}",
            "provider": provider,
            "client_id": self.oidc.client_id,
            "has_client_secret": bool(secret),
            "has_client_certificate": bool(certificate),
            "settings": settings | changes.pop("settings", {}),
        }
        credential = Credential(**(values | changes))
        with self.database.transaction() as session:
            number = credentials.insert(session, credential)
            for text, place, write in (
                (secret, client_secret_path, credentials.write_client_secret),
                (certificate, client_certificate_path, credentials.write_client_certificate),
            ):
                if text:
                    write(session, number, self.vault.seal(text.encode(), place(number)))
        return replace(credential, id=number)

    def connection(self, credential: Credential, **changes: Any) -> Connection:
        google = credential.provider is Provider.GOOGLE
        values: dict[str, Any] = {
            "name": f"connection {next(_NUMBERS)}",
            "mode": Mode.GOOGLE_IMAP if google else Mode.MICROSOFT_GRAPH,
            "username": ALICE,
            "credential_id": credential.id,
        }
        connection = Connection(**(values | changes))
        with self.database.transaction() as session:
            number = connections.insert(session, connection)
        return replace(connection, id=number)

    def authorise(self, connection: Connection, user: str | None = None) -> None:
        """What an administrator does with the button and the provider's pages."""
        url = self.logins.start_authorisation(connection.id, session="admin", redirect_uri=REDIRECT)
        query = self.oidc.log_in(url, user)
        self.logins.finish_authorisation(query, session="admin", person="the admin")

    def service_account(self) -> Credential:
        return self.credential(
            provider=Provider.GOOGLE,
            grant=Grant.CLIENT_CREDENTIALS,
            client_id="",
            secret=None,
            certificate=json.dumps(self.oidc.service_account),
            settings={"authority": ""},
        )


@pytest.fixture
def stack(database_url: str, oidc: OidcServer) -> Iterator[Stack]:
    oidc.settings(accessTokenTTL=3600)
    with Database(database_url, size=12) as database:
        yield Stack(database, Vault.from_settings([new_key()]), oidc)


@pytest.fixture(params=["a third", pytest.param("the others", marks=pytest.mark.long)])
def share(request: pytest.FixtureRequest) -> Share:
    """Which lines services at work are told: what understands them is tested with all in
    tests/unit/test_vendors_words.py."""
    return lambda found: [
        line for n, line in enumerate(found) if (n % 3 == 0) == (request.param == "a third")
    ]
