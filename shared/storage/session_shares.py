"""Sessions at a mail server, counted over all fetchers: what each may have open is a row.

The sum of the shares at a host is never more than the limit, whatever fetchers believe: shares of
one host change under one lock. A share belongs to a fetcher for as long as that says that it lives
(`affinity.heartbeat`). Who wants more than there is waits, and others give up what is above the
fair part, the limit divided by those who want to be there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("session_shares")
#: Seconds for which a fetcher that asked in vain is still taken for one that wants a session.
WAITS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Share:
    """Of one fetcher at one host. `waits` is in seconds, None where it wants no more."""

    held: int
    waits: float | None


def ask(
    session: Session, owner: str, host: str, *, held: int, many: int, limit: int, ttl: float
) -> tuple[int, bool]:
    """Raises the share of `owner`, which is `held`, by up to `many`; (by how many, whether it was
    not known to live, so that its shares at other hosts are lost).

    0: nothing is free, and the others are told by that row. `ttl`: seconds that a fetcher lives
    which is not known yet.
    """
    shares, limit = _locked(session, owner, host, limit)
    mine = shares.pop(owner, Share(held, None))
    granted = min(many, _free(mine, held, shares.values(), limit))
    values = {"owner": owner, "host": host, "ttl": ttl, "held": held + granted}
    lost = session.execute(_SQL["arrive"], values).rowcount == 1
    if granted:
        session.execute(_SQL["set"], values)
    else:
        session.execute(_SQL["wait"], {**values, "seconds": WAITS})
    return granted, lost


def learn(session: Session, owner: str, host: str, *, held: int, seconds: float, ttl: float) -> int:
    """A server refused more than `held` of this fetcher beside what others have: that is its limit
    for the next `seconds`. Returns it."""
    shares, _ = _locked(session, owner, host, 0)
    shares.pop(owner, None)
    allowed = max(1, held + sum(other.held for other in shares.values()))
    session.execute(_SQL["learn"], {"host": host, "allowed": allowed, "seconds": seconds})
    hold(session, owner, {host: held}, ttl)
    return allowed


def wanted_by_others(session: Session, owner: str, limit: int) -> dict[str, int]:
    """Hosts at which `owner` has more than its fair part → that part, where another fetcher waits
    for it, or all have more together than is allowed."""
    hosts = [row[0] for row in session.execute(_SQL["contested"])]
    fair = {}
    for host in hosts:
        shares = _shares(session, owner, host)
        mine = shares.pop(owner, None)
        if mine is None or not mine.held:
            continue
        allowed = _learned(session, host, limit)
        part = allowed // (1 + len(shares))
        total = mine.held + sum(other.held for other in shares.values())
        short = total > allowed or any(
            other.waits is not None and other.held < max(part, 1) for other in shares.values()
        )
        if short and mine.held > part:
            fair[host] = part
    return fair


def hold(
    session: Session, owner: str, held: Mapping[str, int], ttl: float, *, anew: bool = False
) -> None:
    """What `owner` has at these hosts from now on; `anew`: others may have been given it."""
    if held:
        session.execute(_SQL["arrive"], {"owner": owner, "ttl": ttl})
        hosts = sorted(held)
        values = {"hosts": hosts, "owners": [owner] * len(hosts), "held": [held[h] for h in hosts]}
        session.execute(_SQL["hold"], {**values, "anew": anew, "seconds": WAITS})


def drop(session: Session, owner: str, hosts: Sequence[str]) -> None:
    """`owner` wants nothing at these hosts any more."""
    session.execute(_SQL["delete"], {"owner": owner, "hosts": sorted(hosts)})


def _locked(session: Session, owner: str, host: str, limit: int) -> tuple[dict[str, Share], int]:
    session.execute(_SQL["lock"], {"host": host})
    return _shares(session, owner, host), _learned(session, host, limit)


def _shares(session: Session, owner: str, host: str) -> dict[str, Share]:
    rows = session.execute(_SQL["at"], {"host": host, "owner": owner})
    return {who: Share(held, waits) for who, held, waits in rows if held or waits is not None}


def _learned(session: Session, host: str, limit: int) -> int:
    row = session.execute(_SQL["limit"], {"host": host}).fetchone()
    return min(limit, int(row[0])) if row else limit


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
