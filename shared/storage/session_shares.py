"""Sessions at a destination, counted over all fetchers: what each may have open there is a row.

A destination is a mail server (its host), or a mailbox there (`user at host`). The sum of the
shares of one is never more than the limit, whatever fetchers believe: they change under one lock. A
share belongs to a fetcher for as long as that says that it lives (`affinity.heartbeat`). Who wants
more than there is waits, and others give up what is above the fair part, the limit divided by those
who want to be there.

Most mailboxes have one connection, which has one session: they have no shares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.connections import Connection, Mode
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("session_shares")
#: Seconds for which a fetcher that asked in vain is still taken for one that wants a session.
WAITS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Share:
    """Of one fetcher at one destination. `waits` is in seconds, None where it wants no more."""

    held: int
    waits: float | None


def request(
    session: Session, owner: str, destination: str, *, held: int, many: int, limit: int, ttl: float
) -> tuple[int, bool]:
    """Raises the share of `owner`, which is `held`, by up to `many`; (by how many, whether it was
    not known to live, so that its shares at other destinations are lost).

    0: nothing is free, and the others are told by that row. `ttl`: seconds that a fetcher lives
    which is not known yet.
    """
    session.execute(_SQL["lock"], {"destination": destination})
    shares = _shares(session, owner, destination)
    mine = shares.pop(owner, Share(held, None))
    others = [*shares.values(), *_without_share(session, owner, destination, shares)]
    granted = min(many, _free(mine, held, others, _learned(session, destination, limit)))
    values = {"owner": owner, "destination": destination, "ttl": ttl, "held": held + granted}
    lost = session.execute(_SQL["arrive"], values).rowcount == 1
    if granted:
        session.execute(_SQL["set"], values)
    else:
        session.execute(_SQL["wait"], {**values, "seconds": WAITS})
    return granted, lost


def is_counted(session: Session, destination: str) -> bool:
    """Whether shares are needed there: at a server, and where a mailbox has two connections."""
    return not is_mailbox(destination) or len(_connections_at(session, destination)) > 1


def is_mailbox(destination: str) -> bool:
    """Whether it is a mailbox, and not a server (`Connection.session_destinations`)."""
    return " at " in destination


def learn(
    session: Session, owner: str, destination: str, *, held: int, seconds: float, ttl: float
) -> int:
    """A server refused more than `held` of this fetcher beside what others have: that is the limit
    of the destination for the next `seconds`. Returns it."""
    session.execute(_SQL["lock"], {"destination": destination})
    shares = _shares(session, owner, destination)
    shares.pop(owner, None)
    allowed = max(1, held + sum(other.held for other in shares.values()))
    session.execute(
        _SQL["learn"], {"destination": destination, "allowed": allowed, "seconds": seconds}
    )
    hold(session, owner, {destination: held}, ttl)
    return allowed


def contested(session: Session) -> list[str]:
    """Destinations at which somebody waits, or had a share that was given to others."""
    return [row[0] for row in session.execute(_SQL["contested"])]


def wanted_by_others(
    session: Session, owner: str, destinations: Sequence[str], limit: Callable[[str], int]
) -> dict[str, int]:
    """Those of the contested `destinations` at which `owner` has more than its fair part → that
    part, where another fetcher waits for it, or all have more together than is allowed."""
    fair = {}
    for destination in destinations:
        shares = _shares(session, owner, destination)
        mine = shares.pop(owner, None)
        if mine is None or not mine.held:
            continue
        allowed = _learned(session, destination, limit(destination))
        part = allowed // (1 + len(shares))
        total = mine.held + sum(other.held for other in shares.values())
        short = total > allowed or any(
            other.waits is not None and other.held < max(part, 1) for other in shares.values()
        )
        if short and mine.held > part:
            fair[destination] = part
    return fair


def hold(
    session: Session, owner: str, held: Mapping[str, int], ttl: float, *, anew: bool = False
) -> None:
    """What `owner` has at these destinations from now on; `anew`: others may have been given it."""
    if held:
        session.execute(_SQL["arrive"], {"owner": owner, "ttl": ttl})
        destinations = sorted(held)
        values = {
            "destinations": destinations,
            "owners": [owner] * len(destinations),
            "held": [held[destination] for destination in destinations],
        }
        session.execute(_SQL["hold"], {**values, "anew": anew, "seconds": WAITS})


def drop(session: Session, owner: str, destinations: Sequence[str]) -> None:
    """`owner` wants nothing at these destinations any more."""
    session.execute(_SQL["delete"], {"owner": owner, "destinations": sorted(destinations)})


def _shares(session: Session, owner: str, destination: str) -> dict[str, Share]:
    rows = session.execute(_SQL["at"], {"destination": destination, "owner": owner})
    return {who: Share(held, waits) for who, held, waits in rows if held or waits is not None}


def _without_share(
    session: Session, owner: str, destination: str, shares: Collection[str]
) -> list[Share]:
    """Sessions that others opened at a mailbox while it had one connection: for the run that has
    its lease, or kept since."""
    if not is_mailbox(destination):
        return []
    found = _connections_at(session, destination)
    leased: dict[str, str] = dict(
        session.execute(_SQL["leased"], {"mailboxes": [key for key, _ in found]})
    )
    users = [leased.get(key, affinity) for key, affinity in found]
    return [Share(1, None) for user in users if user not in {None, owner, *shares}]


def _connections_at(session: Session, mailbox: str) -> list[tuple[str, str | None]]:
    """Lease key of each connection to a mailbox, and the fetcher that keeps its session; None where
    nobody does. A mailbox of the same name may be at another server."""
    name, _, host = mailbox.rpartition(" at ")
    rows = session.execute(_SQL["at_mailbox"], {"mailbox": name, "host": host})
    found = [
        (
            Connection(
                name="",
                mode=Mode(mode),
                host=server,
                port=port,
                host_override=override,
                username=user,
                folder=folder,
            ),
            affinity,
        )
        for mode, server, port, override, user, folder, affinity in rows
    ]
    return [(one.lease_key(), who) for one, who in found if mailbox in one.session_destinations()]


def known_limit(session: Session, destination: str) -> int | None:
    """Sessions that a server, or a mailbox there, was found to take of all fetchers; None where
    none was refused of late."""
    row = session.execute(_SQL["limit"], {"destination": destination}).fetchone()
    return int(row[0]) if row else None


def _learned(session: Session, destination: str, limit: int) -> int:
    known = known_limit(session, destination)
    return limit if known is None else min(limit, known)


def _free(mine: Share, held: int, others: Collection[Share], limit: int) -> int:
    """How many more one may have: all that is free up to the fair part, beyond it what nobody waits
    for who has less than that. Where there are fewer than fetchers, who waits longest is first."""
    free = limit - held - sum(other.held for other in others)
    part = limit // (1 + len(others))
    if held < part:
        return max(0, min(free, part - held))
    waited = mine.waits or 0.0
    reserved = sum(
        max(part, 1) - other.held
        for other in others
        if other.waits is not None
        and other.held < max(part, 1)
        and (part or held or other.waits > waited)
    )
    return max(0, free - reserved)
