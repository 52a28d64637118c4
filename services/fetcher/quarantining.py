"""Mails that are left on their server, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.fetcher.run import Run
from shared.errors import MailFailure, PosthouseError
from shared.mail.summary import MailHeaders, read_headers
from shared.mailbox.base import Mailbox, MailRef
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import SessionLost
from shared.messages import Key
from shared.quantities import counted
from shared.storage import download_failures, ledger
from shared.storage.ledger import LeftOnServer


def quarantine(run: Run, refused: Sequence[LeftOnServer]) -> None:
    """Leaves these mails on their server, and says why."""
    if refused:
        with run.tools.database.transaction() as session:
            ledger.commit_batch(session, run.lease, run.folder_ref, (), refused)


def blame(
    run: Run,
    refs: Sequence[MailRef],
    reason: PosthouseError,
    *,
    alone: bool,
    octets: int = 0,
    final: bool = True,
) -> bool:
    """A download failed at the first of `refs`, after so many octets of it and before the others:
    whether that one was quarantined as the cause (`shared.storage.download_failures`).

    Where the server says that it throttles, no mail is the cause; where it says that this passes
    (`BYE [UNAVAILABLE]`), it counts only in a run that got others, and late. What is not `final`,
    as it was waited for less long than usual, quarantines no mail.
    """
    keys = [ref.key for ref in refs]
    by_server, passing = True, False
    if isinstance(reason, SessionLost):
        passing = reason.passing
        by_server = reason.by_server and not passing
        if reason.throttled or (passing and not run.report.downloaded):
            alone = False
    with run.tools.database.transaction() as session:
        known = download_failures.note(
            session,
            run.folder_ref,
            keys,
            alone=alone,
            octets=octets,
            others=run.report.downloaded > 0,
        )
        if (passing and not alone) or not known.is_cause(by_server=by_server, passing=passing):
            return False
        if not final:
            return False
        download_failures.forget(session, run.folder_ref, [refs[0].key])
    quarantine(run, [_unreadable(refs[0], reason, known.alone, octets)])
    return True


def leave_oversize(run: Run, refs: Sequence[MailRef], limit: int) -> None:
    """Leaves mails over the limit on their server. Their headers are asked for; where the server
    does not give those, the mails are quarantined without."""
    refused = [_oversize(ref, limit) for ref in refs]
    known: dict[Key, MailHeaders] = {}
    try:
        known = _headers_of(run.mailbox, refs)
    finally:
        quarantine(run, [replace(one, headers=known.get(one.key, one.headers)) for one in refused])


def with_headers(mailbox: Mailbox, refused: Sequence[LeftOnServer]) -> list[LeftOnServer]:
    """The same, with the headers of those that showed only in the download how large they are."""
    large = [MailRef(one.key, one.size) for one in refused if one.code == "too-large"]
    known = _headers_of(mailbox, large)
    return [replace(one, headers=known.get(one.key, one.headers)) for one in refused]


def _headers_of(mailbox: Mailbox, refs: Sequence[MailRef]) -> dict[Key, MailHeaders]:
    """What the headers of these mails say; mails whose header is not given are missing."""
    return {ref.key: read_headers(block) for ref, block in mailbox.headers(refs)} if refs else {}


def _oversize(ref: MailRef, limit: int) -> LeftOnServer:
    return LeftOnServer(
        key=ref.key,
        code="too-large",
        reason=f"The mail has {ref.size:,} octets; the limit is {limit:,} (MAX_MESSAGE_BYTES).",
        size=ref.size,
    )


def undated(ref: MailRef, reason: MailFailure) -> LeftOnServer:
    text = f"{reason} {reason.hint}".strip()
    return LeftOnServer(key=ref.key, code=reason.code, reason=text, size=ref.size)


def _unreadable(ref: MailRef, reason: PosthouseError, times: int, octets: int) -> LeftOnServer:
    if isinstance(reason, MailRefused):
        return LeftOnServer(key=ref.key, code=reason.code, reason=str(reason), size=ref.size)
    return LeftOnServer(
        key=ref.key,
        code="breaks-session",
        reason=f"Asked for this mail alone {counted(times, 'time')}, the session ended each time, "
        f"at last after {octets:,} octets of it, while others were given: {reason} "
        "The mail was left on the server; look at it with another program, or have those who run "
        "the server look at its file.",
        size=ref.size,
    )
