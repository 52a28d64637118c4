"""What a connection logs in with: its sealed password, or an OAuth2 access token."""

from __future__ import annotations

from dataclasses import dataclass

from shared.connections import OAUTH_MODES, Connection
from shared.errors import NeedsAuthorisation, NeedsPerson, SecretUnreadable
from shared.mailbox.base import Login
from shared.storage import connections
from shared.storage.pool import Database
from shared.vault import Place, Vault


@dataclass(frozen=True, slots=True)
class Logins:
    database: Database
    vault: Vault

    def of(self, connection: Connection) -> Login:
        """Raises NeedsPerson where there is nothing usable to log in with."""
        if connection.mode in OAUTH_MODES:
            raise NeedsAuthorisation(f"{connection.name} was never authorised.")
        with self.database.transaction() as session:
            sealed = connections.sealed_password(session, connection.id)
        if sealed is None:
            raise NeedsPerson("The connection has no password.", hint="Enter it and save.")
        try:
            password = self.vault.open(sealed, Place("connection", "password", str(connection.id)))
        except SecretUnreadable as error:
            raise NeedsPerson(str(error), hint=error.hint, code=error.code) from error
        return Login(connection.username, password=password.decode())
