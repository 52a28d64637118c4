"""Mails at which a download broke off: remembered, so that they do not stop those behind them.

A break says only that one of the mails under way may be its cause. So each of them is asked for
alone from then on, after all others, the first one last. What then fails alone, while others are
given, is the cause once it fails after the same number of its octets again: the same mail breaks a
session at the same place, a link that is cut breaks it anywhere. A server that ends sessions by a
rule of its own (after so many commands) does so at the same place, too: that is seen where a mail
that failed alone comes later, and what the others failed at before counts no more.

A mail that a person released from quarantine is asked for in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from shared.messages import Key
from shared.storage.arrays import text_array
from shared.storage.folder_ref import FolderRef
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("download_failures")
#: How often in a row a mail has to fail alone, at the same place, where the server itself ends the
#: session or refuses the mail.
ENOUGH: Final = 2
#: The same where nobody says who ended the session (closed, reset, silent): the link may be cut
#: twice before the first octet of the same mail.
ENOUGH_CUTS: Final = 3
#: How often it has to fail alone wherever that was: a mail too large for a link that never lasts,
#: or a server that fails anywhere in it.
MOST: Final = 6


@dataclass(frozen=True, slots=True)
class DownloadFailure:
    """What is known of one mail. `first`: it was under way when a session broke. `alone`: how
    often it failed while asked for alone, at last after so many of its `octets`, which was `alike`
    times in a row. `others`: other mails were given since. `released`: from quarantine."""

    first: bool
    alone: int
    octets: int
    alike: int
    others: bool
    released: bool

    @property
    def suspect(self) -> bool:
        """Not only behind one that was under way."""
        return self.first or self.alone > 0

    @property
    def is_due(self) -> bool:
        """Whether the next failure may quarantine it."""
        return self.alike >= ENOUGH_CUTS - 1 or self.alone >= MOST - 1

    def is_cause(self, *, by_server: bool, passing: bool = False) -> bool:
        """`by_server`: the last failure was the server's own word, not a session cut off.
        `passing`: it said itself that this passes, so that the same place says nothing."""
        enough = ENOUGH if by_server else ENOUGH_CUTS
        alike = self.alike >= enough and not passing
        return self.others and (alike or self.alone >= MOST)


def of_folder(session: Session, folder_ref: FolderRef) -> dict[Key, DownloadFailure]:
    """The mails of a folder that are to be asked for alone; those of a folder re-created since are
    forgotten."""
    session.execute(_SQL["forget_elsewhere"], folder_ref.columns())
    rows = session.execute(_SQL["of_folder"], folder_ref.columns())
    return {
        int(key) if folder_ref.uid_validity is not None else key: DownloadFailure(*rest)
        for key, *rest in rows
    }


def note(
    session: Session,
    folder_ref: FolderRef,
    keys: Sequence[Key],
    *,
    alone: bool,
    octets: int,
    others: bool,
) -> DownloadFailure:
    """A download broke off with these mails still to come, the first one under way.

    `alone`: it was asked for alone; `octets`: how many of it had come; `others`: the run had other
    mails before. Returns what is known of the first one now.
    """
    session.execute(
        _SQL["note"],
        {
            **folder_ref.columns(),
            "native_keys": text_array(str(key) for key in keys),
            "alone": alone,
            "octets": octets,
            "others": others,
        },
    )
    return of_folder(session, folder_ref)[keys[0]]


def release(session: Session, folder_ref: FolderRef, key: Key) -> None:
    """A person released this mail from quarantine: it is to be fetched."""
    session.execute(_SQL["release"], {**folder_ref.columns(), "native_key": str(key)})


def released(session: Session, folder_ref: FolderRef) -> list[Key]:
    """Mails that were released and are neither had nor quarantined since."""
    rows = session.execute(_SQL["released"], folder_ref.columns())
    return [int(key) if folder_ref.uid_validity is not None else key for (key,) in rows]


def note_given(session: Session, folder_ref: FolderRef, keys: Collection[Key]) -> None:
    """These mails were downloaded: they are not the cause, and the server gives mails. Where one of
    them failed alone before, it ends sessions by itself: the others are to fail as often once
    more."""
    session.execute(
        _SQL["given"],
        {**folder_ref.columns(), "native_keys": text_array(str(key) for key in keys)},
    )


def forget(session: Session, folder_ref: FolderRef, keys: Collection[Key]) -> None:
    """These mails were quarantined, or are no longer there."""
    session.execute(
        _SQL["forget"],
        {**folder_ref.columns(), "native_keys": text_array(str(key) for key in keys)},
    )
