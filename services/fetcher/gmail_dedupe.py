"""Gmail: what is found under one label and came through another one is known already.

Looked at twice: before the download, which is then spared, and again in the commit, as the same
mail may be on its way through two labels at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.fetcher.run import Committed, Run
from services.fetcher.storing import Intake
from shared.mailbox.base import MailRef
from shared.storage import gmail_labels, ledger
from shared.storage.pool import Session


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`new` is to be fetched; `duplicates` are only to be settled; `undecided`: of some mails
    it shows at the next look, as the mails they duplicate are not yet handed over."""

    new: Sequence[MailRef]
    duplicates: Sequence[MailRef] = ()
    undecided: bool = False


def without_duplicates(run: Run, refs: Sequence[MailRef]) -> Duplicates:
    """Costs one query where the server gives such ids (X-GM-MSGID), and nothing elsewhere."""
    ids = {int(ref.key): ref.detail["gmail_id"] for ref in refs if "gmail_id" in ref.detail}
    if not ids:
        return Duplicates(refs)
    with run.tools.database.transaction() as session:
        found = gmail_labels.find_duplicates(session, run.connection, ids)
        if found.duplicates:
            gmail_labels.mark_known(session, run.lease, run.folder_ref, found.duplicates)
    already_known = {duplicate.uid for duplicate in found.duplicates}
    return Duplicates(
        [ref for ref in refs if ref.key not in already_known and ref.key not in found.waiting],
        [ref for ref in refs if ref.key in already_known],
        bool(found.waiting),
    )


def commit(run: Run, session: Session, intake: Intake) -> Committed:
    """Records a batch (`ledger.commit_batch`) but for the duplicates in it. Raises LeaseLost."""
    lease, folder_ref = run.lease, run.folder_ref
    ids = {int(m.native_key): m.gmail_id for m in intake.messages if m.gmail_id is not None}
    gmail_labels.lock(session, run.connection)
    found = gmail_labels.find_duplicates(session, run.connection, ids)
    left_out = {duplicate.uid for duplicate in found.duplicates} | found.waiting
    messages = [m for m in intake.messages if int(m.native_key) not in left_out]
    ledger.commit_batch(session, lease, folder_ref, messages, intake.refused, found.only_for)
    if found.duplicates:
        gmail_labels.mark_known(session, lease, folder_ref, found.duplicates)
    already_known = [ref for ref in intake.refs if ref.key not in found.waiting]
    return Committed(messages, already_known)
