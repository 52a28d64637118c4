"""How Posthouse logs in to a connection's mailbox: its password unsealed, or fresh OAuth2 tokens.

The one place where what the administrator entered, what the vault keeps and what the providers
give come together; the fetcher and the admin service both ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from shared import microsoft_clouds
from shared.allowed_hosts import HostRules
from shared.connections import Connection
from shared.credentials import ClientSecrets, Credential
from shared.errors import Conflict, InvalidInput, NotFound, PosthouseError
from shared.mailbox.base import Login
from shared.mailbox.net.connect import AllowHost
from shared.mailbox.oauth import provider as oauth
from shared.mailbox.oauth.tokens import Tokens
from shared.storage import authorisations, connections, credentials
from shared.storage.authorisations import Authorisation, PostgresTokenCache
from shared.storage.pool import Database, Session
from shared.vault import (
    SecretPath,
    Vault,
    client_certificate_path,
    client_secret_path,
    login_certificate_path,
    login_flow_path,
    password_path,
    tokens_path,
)


class Others(StrEnum):
    """What becomes of other connections that use a grant that is revoked."""

    ASK = "ask"
    KEEP = "keep"  # forget the tokens here only: the provider is not told
    END = "end"


class GrantShared(Conflict):
    """Other connections use the same grant: somebody has to say what becomes of them."""

    code = "grant-shared"

    def __init__(self, names: Sequence[str]) -> None:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        super().__init__(
            f"Other connections use the same authorisation: {shown}. Revoked at the "
            "provider, it ends for them, too.",
            hint='Repeat it with others: "end" for all of them, or "keep" to forget it here only.',
        )
        self.names = tuple(names)


class Logins:
    """Logins for connections that are in Postgres, and the authorisations behind them."""

    def __init__(self, database: Database, vault: Vault, hosts: HostRules | None = None) -> None:
        """`hosts` says which authorisation servers may be connected to."""
        self._database = database
        self._vault = vault
        self._hosts = hosts

    def of(
        self,
        connection: Connection,
        *,
        password: str | None = None,
        client_certificate: str | None = None,
        secrets: ClientSecrets | None = None,
    ) -> Login:
        """What `shared.mailbox.open` needs. `password`, `client_certificate` and `secrets` stand in
        for stored ones where somebody has typed them and not yet saved."""
        if not connection.uses_oauth:
            needs = connection.kind.has_server and not connection.has_client_certificate
            if not password and (connection.has_password or needs):
                password = self._password(connection.id)
            if not client_certificate and connection.has_client_certificate:
                client_certificate = self._login_certificate(connection.id)
            return Login(
                connection.username,
                password=password or None,
                client_certificate=client_certificate or None,
            )
        credential = self.credential(connection)
        microsoft_clouds.check_use(connection, credential)
        return Login(
            connection.username,
            access_token=oauth.access_token_of(
                connection,
                credential,
                secrets or self._secrets(credential),
                self._cache(connection.id),
                self._reach,
            ),
            endpoint=microsoft_clouds.endpoint(connection, credential),
            ca_certificate=credential.setting("ca_certificate") or None,
            by_person=credential.needs_login,
            worked=self._worked(connection.id),
            application=credential.client_id,
        )

    def credential(self, connection: Connection) -> Credential:
        """The credential of a connection with OAuth2. Raises InvalidInput where it has none."""
        if connection.credential_id is None:
            raise InvalidInput(
                f"The connection {connection.name!r} has no OAuth2 credential.",
                field="credential_id",
            )
        with self._database.transaction() as session:
            return credentials.get(session, connection.credential_id)

    # ---- authorisation by a person (RFC 6749 section 4.1)

    def start_authorisation(self, connection_id: int, *, session: str, redirect_uri: str) -> str:
        """The address of the provider's login. `session` names the admin's session: only that one
        can finish. Raises InvalidInput, NotFound, NeedsPerson, TryAgain."""
        connection = self._connection(connection_id)
        if not connection.uses_oauth:
            raise InvalidInput(
                f"A connection in mode {connection.mode} is not authorised: it has a password."
            )
        credential = self.credential(connection)
        microsoft_clouds.check_use(connection, credential)
        started = oauth.start(
            connection, credential, self._secrets(credential), redirect_uri, self._reach
        )
        sealed = self._vault.seal(started.flow, login_flow_path(started.state))
        with self._database.transaction() as transaction:
            authorisations.begin_flow(
                transaction,
                connection_id=connection_id,
                state=started.state,
                by=session,
                sealed_flow=sealed,
            )
        return started.url

    def finish_authorisation(
        self,
        query: Mapping[str, str],
        *,
        session: str,
        person: str,
        kept: Callable[[Session, str], None] = lambda _, __: None,
    ) -> tuple[Connection, Authorisation]:
        """Takes the provider's redirect: checks state, session and account, keeps the tokens.

        `person` is who pressed the button, for the record. `kept` is called with the account that
        logged in, in the transaction that keeps the tokens: where it raises, none are kept. Raises
        InvalidInput for a state that is unknown, replayed or of another session; `oauth.finish`
        says what else.
        """
        state = query.get("state", "")
        with self._database.transaction() as transaction:
            started = authorisations.take_flow(transaction, state)
        started.check(session)
        connection_id = started.connection_id
        flow = self._vault.open(started.sealed_flow, login_flow_path(state))
        connection = self._connection(connection_id)
        credential = self.credential(connection)
        tokens = oauth.finish(
            connection, credential, self._secrets(credential), flow, query, self._reach
        )
        with self._database.transaction() as transaction:
            kept(transaction, tokens.account)
            authorisations.grant(
                transaction,
                connection_id=connection_id,
                sealed_tokens=self._vault.seal(tokens.to_bytes(), tokens_path(connection_id)),
                account=tokens.account,
                by=person,
                expires_at=tokens.expires_at,
                grant_ends_at=tokens.grant_ends_at,
            )
            status = authorisations.status(transaction, connection_id)
        assert status is not None
        return connection, status

    def connection_of(self, query: Mapping[str, str]) -> int | None:
        """The connection that a login was begun for; None where the state is not known."""
        with self._database.transaction() as session:
            return authorisations.flow_connection(session, query.get("state", ""))

    def authorisation(self, connection_id: int) -> Authorisation | None:
        """Who authorised when, and whether it still holds; None where nobody did."""
        with self._database.transaction() as session:
            return authorisations.status(session, connection_id)

    def revoke(self, connection_id: int, *, others: Others = Others.ASK) -> bool:
        """Forgets the tokens and revokes the grant at the provider.

        Google ends the whole grant of that person and application with it: where other connections
        use the same grant, `others` says what becomes of them (`Others.ASK`: raises
        GrantShared). False where the provider did not confirm (Microsoft offers no way): the
        person can remove the application at the provider's account page. The tokens are forgotten
        either way.
        """
        connection = self._connection(connection_id)
        sealed = self._cache(connection_id).read()
        credential = self.credential(connection)
        server = oauth.server_of(credential, self._secrets(credential), connection, self._reach)
        ends = [connection_id]
        with self._database.transaction() as session:
            sharing = authorisations.sharing(session, connection_id)
            if sharing and server.revokes and sealed is not None:
                if others is Others.ASK:
                    raise GrantShared([name for _, name in sharing])
                if others is Others.END:
                    ends += [number for number, _ in sharing]
            for number in ends:
                authorisations.revoke(session, number)
        if sealed is None:
            return True
        if sharing and others is Others.KEEP:
            return False
        try:
            return server.revoke(Tokens.from_bytes(sealed))
        except PosthouseError:
            return False

    def keep_alive(self, before: datetime, limit: int = 100) -> int:
        """Refreshes grants that nobody spent since `before`, as providers end those after months.

        Returns how many were refreshed; one that is lost is marked so and counts not.
        """
        with self._database.transaction() as session:
            waiting = authorisations.unused_since(session, before, limit)
        refreshed = 0
        for connection_id in waiting:
            try:
                login = self.of(self._connection(connection_id))
                assert login.access_token is not None
                login.access_token(False)
                refreshed += 1
            except PosthouseError:
                continue
        return refreshed

    # ---- what the vault keeps

    def _connection(self, connection_id: int) -> Connection:
        with self._database.transaction() as session:
            return connections.get(session, connection_id)

    def _reach(self, host: str) -> AllowHost:
        """The rule for an authorisation server. The providers' own are known, so a list of allowed
        mail servers need not name them; what is denied is denied to them as well."""
        rules = self._hosts
        if rules is None:
            return lambda _: True
        if host.lower() in microsoft_clouds.login_hosts():
            return lambda address: not rules.denies(host, address)
        return rules.at(host)

    def _worked(self, connection_id: int) -> bool:
        with self._database.transaction() as session:
            return authorisations.has_worked(session, connection_id)

    def _cache(self, connection_id: int) -> PostgresTokenCache:
        seal = self._vault.at(tokens_path(connection_id))
        return PostgresTokenCache(self._database, seal, connection_id)

    def _secrets(self, credential: Credential) -> ClientSecrets:
        with self._database.transaction() as session:
            sealed = credentials.sealed_secrets(session, credential.id)
        return ClientSecrets(
            self._opened(sealed.client_secret, client_secret_path(credential.id)),
            self._opened(sealed.client_certificate, client_certificate_path(credential.id)),
        )

    def _password(self, connection_id: int) -> str:
        with self._database.transaction() as session:
            sealed = connections.sealed_password(session, connection_id)
        if sealed is None:
            raise NotFound("The connection has no password.", hint="Enter it at the connection.")
        return self._vault.open(sealed, password_path(connection_id)).decode()

    def _login_certificate(self, connection_id: int) -> str | None:
        with self._database.transaction() as session:
            sealed = connections.sealed_client_certificate(session, connection_id)
        return self._opened(sealed, login_certificate_path(connection_id))

    def _opened(self, sealed: bytes | None, path: SecretPath) -> str | None:
        return None if sealed is None else self._vault.open(sealed, path).decode()
