"""Which folder a connection reads: its UIDVALIDITY and identity, what is rebound once they changed,
and what was skipped in it at the start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.storage import leases
from shared.storage.leases import Lease
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("folder_identity")
#: Days for which mails are rebound after their folder was re-created, at least.
REBINDING_DAYS = 7


@dataclass(frozen=True, slots=True)
class FolderHistory:
    """Of a folder of which no UIDVALIDITY is on record. `knows_earlier`: mails of it are known, and
    all of them under another one. `nothing_known`: none is."""

    knows_earlier: bool
    nothing_known: bool


def record_first_uid_validity(
    session: Session, lease: Lease, connection_id: int, folder: str, uid_validity: int
) -> FolderHistory:
    """Records the first UIDVALIDITY of a folder, unless `knows_earlier`. Raises LeaseLost."""
    values = {"mailbox": lease.mailbox, "fence": lease.fence, "owner": lease.owner}
    values |= {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity}
    row = session.execute(_SQL["record_first_uid_validity"], values).fetchone()
    if row is None or not row[0]:
        raise leases.lost(lease)
    return FolderHistory(*row[1:])


def record_uid_validity_change(
    session: Session, connection_id: int, uid_validity: int | None
) -> None:
    """The folder was re-created, or every key in it changed (None): from now on mails are rebound
    by their content."""
    session.execute(
        _SQL["record_uid_validity_change"], {"id": connection_id, "uid_validity": uid_validity}
    )


def end_rebinding(session: Session, connection_id: int, folder: str) -> None:
    """All that is in the folder was compared: where it was re-created long enough ago, what else
    was in the old one is forgotten."""
    values = {"id": connection_id, "folder": folder, "days": REBINDING_DAYS}
    session.execute(_SQL["end_rebinding"], values)


def last_uid_validity(session: Session, connection_id: int) -> int | None:
    """The UIDVALIDITY that the folder had in the last run; None before the first one."""
    row = session.execute(_SQL["uid_validity"], {"id": connection_id}).fetchone()
    return None if row is None else row[0]


def begin_another_folder(
    session: Session, connection_id: int, folder: str, uid_validity: int
) -> None:
    """Another folder has the name of the one that was read, or an older state of it, with the same
    UIDVALIDITY: its UIDs name other mails. From now on mails are rebound by content, as after
    `record_uid_validity_change`."""
    values = {
        "id": connection_id,
        "folder": folder,
        "uid_validity": uid_validity,
        "below": next_retired(session, connection_id),
    }
    for name in ("retire_uids", "retire_contents", "retire_settlements"):
        session.execute(_SQL[name], values)
    record_uid_validity_change(session, connection_id, uid_validity)


def next_retired(session: Session, connection_id: int) -> int:
    """What is subtracted from a negative UIDVALIDITY to retire contents beside earlier ones."""
    row = session.execute(_SQL["next_retired"], {"id": connection_id}).fetchone()
    return int(row[0]) if row else 0


def last_mailbox_id(session: Session, connection_id: int) -> str:
    """The identity of the folder in the last run (MAILBOXID, RFC 8474); empty where unknown."""
    row = session.execute(_SQL["last_mailbox_id"], {"id": connection_id}).fetchone()
    return str(row[0]) if row else ""


def record_skipped_existing(
    session: Session, connection_id: int, *, before: datetime | None
) -> None:
    """What was in the folder at the start is skipped: done. `before`: it had arrived by then, where
    that is known; else it was there just now."""
    session.execute(_SQL["record_skipped_existing"], {"id": connection_id, "before": before})


def record_skipped_known(session: Session, connection_id: int) -> None:
    """The mails that were skipped are known by their UIDs in the folder as it is since it was
    re-created; until it is once more."""
    session.execute(_SQL["record_skipped_known"], {"id": connection_id})
