"""A store with less room than a mail needs: the mail waits on its server, smaller ones go on."""

from __future__ import annotations

from collections.abc import Sequence, Set

from services.fetcher.run import Run
from shared.mailbox.base import MailRef
from shared.messages import Key
from shared.quantities import counted, sized
from shared.store import StoreFull


def too_large_for_store(run: Run, refs: Sequence[MailRef]) -> Set[Key]:
    """Those of `refs` that have to wait for room, by what the server says of their sizes and by
    what was found out in this run; `report.store_full` says why the run cannot end well."""
    space = run.tools.store.space() if refs else None
    limit = run.tools.settings.max_message_bytes
    waiting = [
        ref
        for ref in refs
        if ref.key in run.report.no_room_for or (space is not None and space[0] < ref.size <= limit)
    ]
    run.report.store_full = _no_room(waiting) if waiting else None
    return {ref.key for ref in waiting}


def _no_room(waiting: Sequence[MailRef]) -> StoreFull:
    largest = max(ref.size for ref in waiting)
    of_size = f" of up to {sized(largest)}" if largest else ""
    return StoreFull(
        f"The store has no room for {counted(len(waiting), 'mail')}{of_size}: smaller ones go on, "
        "and nothing is lost.",
        hint="Make room on its disk, or lower POSTHOUSE_RETENTION_DAYS. It is tried again by "
        "itself.",
    )
