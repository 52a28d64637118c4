"""Who authorised which connection, and its tokens: sealed, one row a connection, locked while a
token is refreshed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.errors import InvalidInput, NotFound
from shared.storage.pool import Database, Session
from shared.storage.queries import Queries
from shared.vault import Place, Vault

_SQL = Queries("authorisations")
#: A worker that cannot have the row within this time finds the provider hanging under another.
_LOCK_TIMEOUT: Final = "90s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """What people may know of it. `expires_at` is that of the present access token; `lost_at` is
    when the provider said that the grant is gone."""

    connection_id: int
    account: str
    authorised_by: str
    authorised_at: datetime | None
    expires_at: datetime | None
    refreshed_at: datetime | None
    lost_at: datetime | None
    revoked: bool

    @property
    def valid(self) -> bool:
        """Whether tokens are to be had without a person, as far as we know."""
        return not self.revoked and self.lost_at is None and self.authorised_at is not None


@dataclass(frozen=True, slots=True)
class ExpiringSecret:
    credential_id: int
    name: str
    expires_at: datetime


def _cache_place(connection_id: int) -> Place:
    return Place("authorisation", "cache", str(connection_id))


def begin_flow(
    session: Session, vault: Vault, *, connection_id: int, state: str, by: str, flow: bytes
) -> None:
    """Keeps a started login until its answer comes. `by` is the session of the person in the
    admin pages: nobody else can finish it."""
    session.execute(
        _SQL["begin_flow"],
        {
            "state": state,
            "connection_id": connection_id,
            "session": by,
            "flow": vault.seal(flow, Place("oauth_flow", "flow", state)),
        },
    )


def take_flow(session: Session, vault: Vault, *, state: str, by: str) -> tuple[int, bytes]:
    """Connection and flow of a started login; it can be taken once.

    Commit this before anything else happens, or a failure would bring the flow back. Raises
    InvalidInput where there is none (replayed, too old) or somebody else started it.
    """
    row = session.execute(_SQL["take_flow"], {"state": state}).fetchone()
    again = "Press Authorise at the connection again."
    if row is None:
        raise InvalidInput(
            "This login was not started here, or it was finished already.",
            field="state",
            hint=again,
        )
    connection_id, owner, flow, in_time = row
    if owner != by:
        raise InvalidInput(
            "This login was started in another session of the admin pages.",
            field="state",
            hint=again,
        )
    if not in_time:
        raise InvalidInput("This login took longer than 15 minutes.", field="state", hint=again)
    return connection_id, vault.open(flow, Place("oauth_flow", "flow", state))


def grant(
    session: Session,
    vault: Vault,
    *,
    connection_id: int,
    tokens: bytes,
    account: str,
    by: str,
    expires_at: datetime,
) -> None:
    """Keeps what a login gave, and lets the connection go on where it waited for it."""
    session.execute(
        _SQL["grant"],
        {
            "connection_id": connection_id,
            "cache": vault.seal(tokens, _cache_place(connection_id)),
            "account": account,
            "by": by,
            "expires_at": expires_at,
        },
    )
    session.execute(_SQL["resume"], {"connection_id": connection_id})


def revoke(session: Session, connection_id: int) -> None:
    """Forgets the tokens. Taking the grant back at the provider is `oauth`'s part."""
    session.execute(_SQL["revoke"], {"connection_id": connection_id})


def status(session: Session, connection_id: int) -> Authorisation | None:
    """None where nobody ever authorised the connection."""
    return statuses(session, [connection_id]).get(connection_id)


def statuses(session: Session, ids: Sequence[int]) -> dict[int, Authorisation]:
    """The same for many, in one query."""
    found = {}
    for row in session.execute(_SQL["status"], {"ids": list(ids)}):
        found[row[0]] = Authorisation(
            connection_id=row[0],
            account=row[1],
            authorised_by=row[2],
            authorised_at=row[3],
            expires_at=row[4],
            refreshed_at=row[5],
            lost_at=row[6],
            revoked=row[7],
        )
    return found


def unused_since(session: Session, before: datetime, limit: int = 100) -> list[int]:
    """Connections whose grant nobody spent since `before`. Refresh them now and then: Microsoft
    ends a refresh token after 90 days without use, Google after six months."""
    rows = session.execute(_SQL["unused_since"], {"before": before, "limit": limit})
    return [row[0] for row in rows]


def expiring_secrets(session: Session, before: datetime) -> list[ExpiringSecret]:
    """Client secrets and certificates that end before then, the first to end first."""
    rows = session.execute(_SQL["expiring_secrets"], {"before": before})
    return [ExpiringSecret(*row) for row in rows]


class PostgresTokenCache:
    """The token cache of one connection (`shared.mailbox.oauth_tokens.TokenCache`)."""

    def __init__(self, database: Database, vault: Vault, connection_id: int) -> None:
        self._database = database
        self._vault = vault
        self._connection_id = connection_id

    def read(self) -> bytes | None:
        with self._database.transaction() as session:
            row = session.execute(
                _SQL["read_cache"], {"connection_id": self._connection_id}
            ).fetchone()
        return self._opened(row)

    @contextmanager
    def locked(self) -> Iterator[_Locked]:
        """One transaction with the row locked: load, refresh and save happen in it, or not at
        all. Two at once wait for each other; different connections do not."""
        with self._database.transaction() as session:
            session.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            yield _Locked(session, self)

    def _opened(self, row: tuple[bytes | None] | None) -> bytes | None:
        if row is None or row[0] is None:
            return None
        return self._vault.open(bytes(row[0]), _cache_place(self._connection_id))


class _Locked:
    def __init__(self, session: Session, cache: PostgresTokenCache) -> None:
        self._session = session
        self._cache = cache
        self._id = {"connection_id": cache._connection_id}
        row = session.execute(_SQL["lock_cache"], self._id).fetchone()
        self._sealed: tuple[bytes | None] | None = row if row is None else (row[0],)

    def load(self) -> bytes | None:
        return self._cache._opened(self._sealed)

    def save(self, tokens: bytes, expires_at: datetime) -> None:
        sealed = self._cache._vault.seal(tokens, _cache_place(self._cache._connection_id))
        saved = self._session.execute(
            _SQL["save_cache"], {**self._id, "cache": sealed, "expires_at": expires_at}
        )
        if saved.rowcount == 0:
            raise NotFound("The connection is gone.")

    def lose(self) -> None:
        self._session.execute(_SQL["lose"], self._id)
