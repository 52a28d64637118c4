"""Who authorised which connection, and its tokens: sealed, one row a connection, locked while a
token is refreshed."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from shared.errors import InvalidInput, NotFound
from shared.storage.pool import Database, Session
from shared.storage.queries import Queries

_SQL = Queries("authorisations")
#: A worker that cannot have the row within this time finds the provider hanging under another.
_LOCK_TIMEOUT: Final = "90s"
_AGAIN: Final = "Press Authorise at the connection again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """What people may know of it. `expires_at` is that of the present access token; `lost_at` is
    when the provider said that the grant is gone."""

    connection_id: int
    account: str
    authorised_by: str
    authorised_at: datetime | None
    expires_at: datetime | None
    lost_at: datetime | None
    revoked: bool
    #: When the grant itself ends, where the provider said so (Google, applications in "Testing").
    grant_ends_at: datetime | None = None

    @property
    def valid(self) -> bool:
        """Whether tokens can be obtained without a person, as far as we know."""
        return not self.revoked and self.lost_at is None and self.authorised_at is not None


@dataclass(frozen=True, slots=True)
class StartedFlow:
    """A login that has started: for which connection, by which session of the admin pages."""

    connection_id: int
    by: str
    sealed_flow: bytes = field(repr=False)
    in_time: bool

    def check(self, by: str) -> None:
        """Raises InvalidInput where somebody else started it, or too long ago."""
        if not hmac.compare_digest(self.by, by):
            raise InvalidInput(
                "This login was started in another session of the admin pages.",
                field="state",
                hint=_AGAIN,
            )
        if not self.in_time:
            raise InvalidInput(
                "This login took longer than 15 minutes.", field="state", hint=_AGAIN
            )


class Seal(Protocol):
    """Seals and opens the secret of one row (`shared.vault.Vault.at`)."""

    def seal(self, secret: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes: ...


def begin_flow(
    session: Session, *, connection_id: int, state: str, by: str, sealed_flow: bytes
) -> None:
    """Keeps a started login until its answer comes. `by` is the session of the person in the
    admin pages: nobody else can finish it."""
    session.execute(
        _SQL["begin_flow"],
        {
            "state": state,
            "connection_id": connection_id,
            "session": by,
            "flow": sealed_flow,
        },
    )


def flow_connection(session: Session, state: str) -> int | None:
    """The connection of a login that was begun; it stays begun."""
    row = session.execute(_SQL["flow_connection"], {"state": state}).fetchone()
    return int(row[0]) if row else None


def flow_session(session: Session, state: str) -> str:
    """The session of a login that was begun by a link (`link 7 …`); empty for all others."""
    row = session.execute(_SQL["flow_link"], {"state": state}).fetchone()
    return str(row[0]) if row else ""


def take_flow(session: Session, state: str) -> StartedFlow:
    """Takes a started login out: nobody can take it again. Raises InvalidInput where there is none
    (replayed, made up).

    Commit before looking at it (`StartedFlow.check`), or a refusal would bring it back.
    """
    row = session.execute(_SQL["take_flow"], {"state": state}).fetchone()
    if row is None:
        raise InvalidInput(
            "This login was not started here, or it was finished already.",
            field="state",
            hint=_AGAIN,
        )
    return StartedFlow(row[0], row[1], bytes(row[2]), row[3])


def grant(
    session: Session,
    *,
    connection_id: int,
    sealed_tokens: bytes,
    account: str,
    by: str,
    expires_at: datetime,
    grant_ends_at: datetime | None = None,
) -> None:
    """Keeps what a login gave, and lets the connection go on where it waited for it."""
    session.execute(
        _SQL["grant"],
        {
            "connection_id": connection_id,
            "cache": sealed_tokens,
            "account": account,
            "by": by,
            "expires_at": expires_at,
            "grant_ends_at": grant_ends_at,
        },
    )
    session.execute(_SQL["resume"], {"connection_id": connection_id})


def revoke(session: Session, connection_id: int) -> None:
    """Forgets the tokens. Revoking the grant at the provider is `oauth`'s part."""
    session.execute(_SQL["revoke"], {"connection_id": connection_id})


def forget(session: Session, connection_id: int) -> None:
    """Forgets what was stored for another host, account or credential; nobody is told."""
    session.execute(_SQL["forget"], {"connection_id": connection_id})


def forget_credential(session: Session, credential_id: int) -> None:
    """The same for every connection of a credential."""
    session.execute(_SQL["forget_credential"], {"credential_id": credential_id})


def sharing(session: Session, connection_id: int) -> list[tuple[int, str]]:
    """Id and name of the other connections whose tokens are of the same grant: the same account
    and the same application."""
    rows = session.execute(_SQL["sharing"], {"connection_id": connection_id})
    return [(row[0], row[1]) for row in rows]


def has_worked(session: Session, connection_id: int) -> bool:
    """Whether a run of this connection ever came to a good end."""
    row = session.execute(_SQL["has_worked"], {"connection_id": connection_id}).fetchone()
    return row is not None and bool(row[0])


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
            lost_at=row[5],
            revoked=row[6],
            grant_ends_at=row[7],
        )
    return found


def unused_since(session: Session, before: datetime, limit: int = 100) -> list[int]:
    """Connections whose grant nobody spent since `before`. Refresh them now and then: Microsoft
    ends a refresh token after 90 days without use, Google after six months."""
    rows = session.execute(_SQL["unused_since"], {"before": before, "limit": limit})
    return [row[0] for row in rows]


class PostgresTokenCache:
    """The token cache of one connection (`shared.mailbox.oauth.tokens.TokenCache`)."""

    def __init__(self, database: Database, seal: Seal, connection_id: int) -> None:
        self._database = database
        self._seal = seal
        self._connection_id = connection_id

    def read(self) -> bytes | None:
        with self._database.transaction() as session:
            row = session.execute(
                _SQL["read_cache"], {"connection_id": self._connection_id}
            ).fetchone()
        return None if row is None or row[0] is None else self._seal.open(bytes(row[0]))

    @contextmanager
    def locked(self) -> Iterator[_Locked]:
        """One transaction with the row locked: load, refresh and save happen in it, or not at
        all. Two at once wait for each other; different connections do not."""
        with self._database.transaction() as session:
            session.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            yield _Locked(session, self._seal, self._connection_id)


class _Locked:
    def __init__(self, session: Session, seal: Seal, connection_id: int) -> None:
        self._session = session
        self._seal = seal
        self._id = {"connection_id": connection_id}
        self._row = session.execute(_SQL["lock_cache"], self._id).fetchone()

    def load(self) -> bytes | None:
        sealed = self._row[0] if self._row is not None else None
        return None if sealed is None else self._seal.open(bytes(sealed))

    def save(self, tokens: bytes, expires_at: datetime) -> None:
        values = {**self._id, "cache": self._seal.seal(tokens), "expires_at": expires_at}
        if self._session.execute(_SQL["save_cache"], values).rowcount == 0:
            raise NotFound("The connection is gone.")

    def lose(self) -> None:
        self._session.execute(_SQL["lose"], self._id)
