"""Affinity: which fetcher keeps the session of a mailbox open, and therefore polls it.

A hint, never a right: what may fetch is decided by the lease alone. A fetcher that died loses its
mailboxes when its time runs out; one that was only paused finds that out when it looks (`held`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.connections import Connection, Mode
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("affinity")


@dataclass(frozen=True, slots=True)
class KeptSessions:
    """Sessions that all fetchers keep at one mailbox: connection id → owner, by rising id.

    `place` has host and mailbox only.
    """

    place: Connection
    owners: Mapping[int, str]


def heartbeat(session: Session, owner: str, ttl: float) -> None:
    """The fetcher `owner` lives for `ttl` more seconds."""
    session.execute(_SQL["heartbeat"], {"owner": owner, "ttl": ttl})


def release_dead(session: Session) -> int:
    """Takes mailboxes from fetchers that are no more; how many there were."""
    session.execute(_SQL["delete_dead"])
    return session.execute(_SQL["release_orphaned"]).rowcount


def release_all(session: Session, owner: str) -> None:
    """The fetcher ends: its mailboxes are free at once."""
    session.execute(_SQL["delete"], {"owner": owner})
    session.execute(_SQL["release_orphaned"])


def release(session: Session, owner: str, connection_ids: Sequence[int]) -> None:
    """These mailboxes have no session here any more."""
    session.execute(_SQL["release"], {"owner": owner, "ids": list(connection_ids)})


def held(session: Session, owner: str) -> dict[int, datetime]:
    """Mailboxes kept by `owner` that are still wanted → when their connection was edited last."""
    return {row[0]: row[1] for row in session.execute(_SQL["held"], {"owner": owner})}


def shared_mailboxes(session: Session, most: int) -> list[KeptSessions]:
    """Mailboxes at which fetchers keep two sessions together, or `most` where that is fewer."""
    return [
        KeptSessions(
            place=Connection(
                name="", mode=Mode(mode), host=host, host_override=override, username=mailbox
            ),
            owners=dict(zip(ids, owners, strict=True)),
        )
        for mode, host, override, mailbox, ids, owners in session.execute(
            _SQL["shared_mailboxes"], {"most": most}
        )
    ]


def note_crowded(session: Session, owner: str, host: str) -> bool:
    """A server turned `owner` away, which has no session there; whether other fetchers have."""
    session.execute(_SQL["note_crowded"], {"host": host})
    row = session.execute(_SQL["others_keep"], {"owner": owner, "host": host}).fetchone()
    return bool(row and row[0])


def crowded(session: Session, seconds: float) -> list[str]:
    """Servers that turned a fetcher away within the last `seconds`."""
    return [row[0] for row in session.execute(_SQL["crowded"], {"seconds": seconds})]


def share(session: Session, owner: str) -> tuple[int, int, int]:
    """(mailboxes with an affinity to `owner`, to any fetcher, fetchers that live)."""
    row = session.execute(_SQL["share"], {"owner": owner}).fetchone()
    assert row is not None
    return (int(row[0]), int(row[1]), int(row[2]))
