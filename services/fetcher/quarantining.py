"""Mails that are left on their server, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from services.fetcher.run import Run
from shared.errors import MailFailure, PosthouseError
from shared.mailbox.base import MailRef, SessionLost
from shared.mailbox.errors.refused_mails import MailRefused
from shared.storage import download_failures, ledger
from shared.storage.ledger import Refused


def quarantine(run: Run, refused: Sequence[Refused]) -> None:
    """Leaves these mails on their server, and says why."""
    if refused:
        with run.tools.database.transaction() as session:
            ledger.commit_batch(session, run.lease, run.place, (), refused)


def blame(
    run: Run, refs: Sequence[MailRef], reason: PosthouseError, *, alone: bool, octets: int = 0
) -> bool:
    """A download failed at the first of `refs`, after so many octets of it and before the others:
    whether that one was put aside as the cause (`shared.storage.download_failures`)."""
    keys = [ref.key for ref in refs]
    by_server = reason.by_server if isinstance(reason, SessionLost) else True
    with run.tools.database.transaction() as session:
        known = download_failures.note(
            session,
            run.place,
            keys,
            alone=alone,
            octets=octets,
            others=run.report.downloaded > 0,
        )
        if not known.is_cause(by_server=by_server):
            return False
        download_failures.forget(session, run.place, [refs[0].key])
    quarantine(run, [_unreadable(refs[0], reason, known.alone, octets)])
    return True


def oversize(ref: MailRef, limit: int) -> Refused:
    return Refused(
        key=ref.key,
        code="too-large",
        reason=f"The mail has {ref.size:,} octets; the limit is {limit:,} (MAX_MESSAGE_BYTES).",
        size=ref.size,
    )


def undated(ref: MailRef, reason: MailFailure) -> Refused:
    text = f"{reason} {reason.hint}".strip()
    return Refused(key=ref.key, code=reason.code, reason=text, size=ref.size)


def _unreadable(ref: MailRef, reason: PosthouseError, times: int, octets: int) -> Refused:
    if isinstance(reason, MailRefused):
        return Refused(key=ref.key, code=reason.code, reason=str(reason), size=ref.size)
    return Refused(
        key=ref.key,
        code="breaks-session",
        reason=f"Asked for this mail alone {times} times, the session ended each time, at last "
        f"after {octets:,} octets of it, while others were given: {reason} The mail was left on "
        "the server; look at it with another program, or have those who run the server look at its "
        "file.",
        size=ref.size,
    )
