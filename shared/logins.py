"""What a connection logs in with: its password, unsealed, or an OAuth2 access token."""

from __future__ import annotations

from dataclasses import dataclass

from shared.connections import OAUTH_MODES, Connection
from shared.errors import NeedsAuthorisation, NeedsPerson, SecretUnreadable
from shared.mailbox.base import Login
from shared.storage import connections
from shared.storage.pool import Database
from shared.vault import Vault, password_place


@dataclass(frozen=True, slots=True)
class Logins:
    database: Database
    vault: Vault

    def of(self, connection: Connection, password: str | None = None) -> Login:
        """`password` instead of the stored one: for a connection that is not saved (so) yet.

        Raises NeedsPerson where there is nothing usable to log in with.
        """
        if connection.mode in OAUTH_MODES:
            raise NeedsAuthorisation(f"{connection.name} was never authorised.")
        if password is not None:
            return Login(connection.username, password=password)
        with self.database.transaction() as session:
            sealed = connections.sealed_password(session, connection.id)
        if sealed is None:
            raise NeedsPerson("The connection has no password.", hint="Enter it and save.")
        try:
            opened = self.vault.open(sealed, password_place(connection.id))
        except SecretUnreadable as error:
            raise NeedsPerson(str(error), hint=error.hint, code=error.code) from error
        return Login(connection.username, password=opened.decode())
