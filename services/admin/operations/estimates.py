"""Estimates: what enabling a connection would download, counted without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from services.admin import work_progress
from services.admin.context import Context
from services.admin.mail_server_work import GivenUp
from services.admin.operations.connection_warnings import ConnectionWarning, of_server
from services.admin.operations.drafts import (
    Progress,
    with_mailbox,
)
from services.admin.work_progress import say
from shared.connection_editing import ConnectionEdit
from shared.connections import Connection
from shared.errors import InvalidInput, PosthouseError
from shared.mailbox.base import Capabilities, FolderStatus, Known, Listing, Mailbox, NothingKnown
from shared.mailbox.start_from_refusals import start_refusal
from shared.messages import Key
from shared.quantities import counted
from shared.storage import folder_identity, gmail_labels, quarantine
from shared.storage.known_sets import KnownMails

#: Seconds that a count may take while somebody sees how far it is, and can stop it.
_WATCHED_TIMEOUT_S: Final = 300.0
_log = structlog.get_logger(__name__)
_BY_LABEL: Final = (
    "Mails that came through another label of this Gmail account are counted; they are not "
    "handed over again."
)
_RECREATED: Final = (
    "The folder was re-created since the last run (another UIDVALIDITY), so every mail counts as "
    "new. A run recognises those that were handed over by their content and hands none over again."
)
_NUMBERED_ANEW: Final = (
    "The server numbered the mails of this same folder anew since the last run (another "
    "UIDVALIDITY, the same MAILBOXID), so every mail counts as new. A run recognises those that "
    "were handed over by their content and hands none over again."
)
_ANOTHER: Final = (
    "Another folder has this name since the last run (another MAILBOXID): it was re-created, or a "
    "folder was renamed to it, so every mail counts as new. A run recognises those that were "
    "handed over by their content and hands none of them over again; the others are new."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What enabling would download. `confidence` is `exact` or `partial`, then with the reason.

    `reset` counts mails that were handed over and are unread again; `known` those that were had;
    `left` unread ones that are in quarantine and were never downloaded (over the limit, say).
    `warnings` are what the server itself said that should be known before.
    """

    new: int
    known: int = 0
    reset: int = 0
    left: int = 0
    total: int = 0
    unread: int | None = None
    confidence: str = "exact"
    reason: str = ""
    warnings: tuple[ConnectionWarning, ...] = ()


class _CountingKnown:
    """`Known` that tells who waits how many mails were compared with it."""

    def __init__(self, known: Known, words: str) -> None:
        self._known = known
        self._words = words
        self._looked = 0

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        self._looked += len(keys)
        say(f"{self._words} Looked at {self._looked:,} so far…")
        return self._known.missing(keys)

    def count(self) -> int:
        return self._known.count()


def _opened(status: FolderStatus) -> str:
    unread = "" if status.unread is None else f", {status.unread:,} of them unread"
    mails = counted(status.total, "mail")
    return f"The folder holds {mails}{unread}. Counting the new ones…"


def estimate(
    ctx: Context,
    wanted: ConnectionEdit,
    *,
    since: datetime | None = None,
    skip_existing: bool = False,
    another_mailbox: bool = False,
) -> Estimate:
    """Counts what a connection would download now. Changes nothing.

    `another_mailbox`: what is known of the connection is about another one. Raises what opening
    the mailbox raises, and InvalidInput (`start_from`) where the server makes this start
    impossible; where only the counting takes too long, the estimate is partial.
    """
    progress = Progress()

    def count(mailbox: Mailbox) -> Estimate:
        _refuse_start(mailbox.capabilities, by_date=since is not None, skip_existing=skip_existing)
        status = progress.status = mailbox.open(wanted.connection.folder)
        is_known = bool(wanted.connection.id) and not another_mailbox
        return _counted(ctx, wanted.connection, mailbox, status, since=since, is_known=is_known)

    try:
        waiting = work_progress.current()
        seconds = _WATCHED_TIMEOUT_S if waiting is not None and waiting.is_watched else None
        return with_mailbox(ctx, wanted, progress, count, seconds=seconds)
    except PosthouseError as error:
        if error.code == "no-dates":
            raise InvalidInput(str(error), field="start_from", hint=error.hint) from error
        if progress.status is None or isinstance(error, GivenUp):
            raise
        return _partial(progress.status, error)


def _counted(
    ctx: Context,
    connection: Connection,
    mailbox: Mailbox,
    status: FolderStatus,
    *,
    since: datetime | None,
    is_known: bool,
) -> Estimate:
    """The estimate of an open folder. `is_known`: mails of this very mailbox may be known."""
    say(_opened(status))
    known: NothingKnown | KnownMails = NothingKnown()
    if is_known:
        known = KnownMails(
            ctx.app_state.database, connection.id, connection.folder, status.uid_validity
        )
    listing = mailbox.list_new(
        _CountingKnown(known, _opened(status)),
        connection.selection,
        since=since,
        limit=0,
        count_known=True,
    )
    if listing.not_listed is not None:
        raise listing.not_listed
    reason, never = "", 0
    if is_known:
        reason, never = _of_a_known_mailbox(ctx, connection, status, listing)
    if not reason and listing.new_count and _came_by_label(ctx, mailbox, connection):
        reason = _BY_LABEL
    undated = len(listing.undated)
    return Estimate(
        new=listing.new_count,
        confidence="partial" if reason or undated else "exact",
        known=listing.known,
        reset=listing.reset - never,
        left=never,
        total=listing.total,
        unread=listing.unread,
        reason=reason or _without_date(undated) or _not_exact(mailbox),
        warnings=tuple(of_server(connection, mailbox.capabilities)),
    )


def check_start(ctx: Context, wanted: ConnectionEdit, *, by_date: bool) -> None:
    """Asks the server whether this start is possible, where nothing is to be counted.

    Raises InvalidInput (`start_from`). A server that cannot be asked now is asked by the first
    fetch, which takes nothing then.
    """
    try:
        with_mailbox(
            ctx,
            wanted,
            Progress(),
            lambda mailbox: _refuse_start(
                mailbox.capabilities, by_date=by_date, skip_existing=not by_date
            ),
        )
    except InvalidInput:
        raise
    except PosthouseError as error:
        _log.info("start not checked", error=str(error))


def _refuse_start(capabilities: Capabilities, *, by_date: bool, skip_existing: bool) -> None:
    refusal = start_refusal(capabilities, by_date=by_date, skip_existing=skip_existing)
    if refusal is not None:
        raise InvalidInput(str(refusal), field="start_from", hint=refusal.hint)


def _partial(status: FolderStatus, error: PosthouseError) -> Estimate:
    return Estimate(
        new=status.unread if status.unread is not None else status.total,
        total=status.total,
        unread=status.unread,
        confidence="partial",
        reason=f"The folder was opened, but counting broke off: {error}",
    )


def _of_a_known_mailbox(
    ctx: Context, connection: Connection, status: FolderStatus, listing: Listing
) -> tuple[str, int]:
    """Why its count is not exact, and how many of its unread mails were never handed over."""
    validity = status.uid_validity
    with ctx.transaction() as session:
        before = folder_identity.last_uid_validity(session, connection.id)
        identity = folder_identity.last_mailbox_id(session, connection.id)
        never = quarantine.never_downloaded(
            session, connection.id, connection.folder, validity, listing.reset_keys
        )
    recreated = validity is not None and before not in (None, validity)
    here = str(status.cursor.get("mailbox_id", ""))
    if identity and here and identity != here:
        return (_ANOTHER if listing.new_count or listing.known else ""), never
    if not (recreated and listing.new_count):
        return "", never
    return (_NUMBERED_ANEW if identity and here else _RECREATED), never


def _came_by_label(ctx: Context, mailbox: Mailbox, connection: Connection) -> bool:
    if "X-GM-EXT-1" not in mailbox.capabilities.names:
        return False
    with ctx.transaction() as session:
        return gmail_labels.known_elsewhere(session, connection)


def _without_date(count: int) -> str:
    if not count:
        return ""
    return (
        f"{count} more could not be dated and would not be taken: the server did not show their "
        "headers, or they bear no date."
    )


def _not_exact(mailbox: Mailbox) -> str:
    if mailbox.capabilities.stable_keys:
        return ""
    return "The server gives its mails no lasting names; they are told apart by their headers."
