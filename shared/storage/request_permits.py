"""Permits for requests at a mailbox, shared by all processes: rows in, values out.

A process has a row at each mailbox of which it holds permits, and one for itself that says until
when it is taken for alive: its permits end with that. Who finds none leaves a mark, and is served
before those who come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("request_permits")
#: Seconds for which a process is taken for alive after it said so.
LIVES: Final = 10.0
#: Seconds for which one that asked in vain is still taken for one that waits.
_WAITS: Final = 3.0


@dataclass(frozen=True, slots=True)
class PermitReply:
    """`contested`: others wait for permits there. `paused`: seconds that nobody gets one."""

    granted: bool
    contested: bool
    paused: float


def request(
    session: Session, holder: UUID, mailbox: str, *, held: int, more: int, at_once: int
) -> PermitReply:
    """Raises the permits of a living process, which are `held`, by `more`: all of these or none."""
    here = {"mailbox": mailbox, "holder": holder}
    session.execute(_SQL["lock"], here)
    row = session.execute(_SQL["at"], here).fetchone()
    assert row is not None
    others, ahead, contested, paused = row
    granted = not paused and held + more + others + ahead <= at_once
    if granted:
        session.execute(_SQL["hold"], {**here, "held": held + more})
    elif not paused:
        values = {**here, "held": held, "more": more, "seconds": _WAITS}
        session.execute(_SQL["wait"], values)
    return PermitReply(granted, contested, paused)


def keep(session: Session, holder: UUID, held: Mapping[str, int]) -> None:
    """Gives back all but so many permits at these mailboxes."""
    mailboxes = sorted(held)
    values = {"holder": holder, "mailboxes": mailboxes, "held": [held[m] for m in mailboxes]}
    session.execute(_SQL["keep"], values)
    session.execute(_SQL["remove_unused"], values)


def heartbeat(session: Session, holder: UUID) -> bool:
    """Says that a process lives. False: it was not known to, and has no permits any more."""
    row = session.execute(_SQL["heartbeat"], {"holder": holder, "ttl": LIVES}).fetchone()
    if row == (True,):
        return True
    session.execute(_SQL["forget"], {"holder": holder})
    return False


def release_all(session: Session, holder: UUID) -> None:
    """The process ends, and its permits with it."""
    session.execute(_SQL["release_all"], {"holder": holder})


def purge(session: Session) -> None:
    """Removes what dead processes left."""
    session.execute(_SQL["purge"])


def waiting_and_paused(session: Session, holder: UUID) -> tuple[list[str], dict[str, float]]:
    """Mailboxes at which others wait, and those that are paused, with the seconds."""
    rows = session.execute(_SQL["waiting_and_paused"], {"holder": holder}).fetchall()
    paused = {mailbox: seconds for mailbox, seconds in rows if seconds is not None}
    return [mailbox for mailbox, seconds in rows if seconds is None], paused


def paused(session: Session, mailbox: str) -> float:
    """Seconds until the next request there."""
    row = session.execute(_SQL["paused"], {"mailbox": mailbox}).fetchone()
    return float(row[0]) if row else 0.0


def pause(session: Session, mailbox: str, seconds: float) -> None:
    """Nobody gets a permit there before `seconds` have passed."""
    session.execute(_SQL["pause"], {"mailbox": mailbox, "seconds": seconds})
