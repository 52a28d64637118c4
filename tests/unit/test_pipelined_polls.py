"""Many mailboxes are asked at once; what becomes of their answers: test_kept_sessions.py."""

from __future__ import annotations

from services.fetcher.pipelined_polls import _GLANCE, poll_all
from shared.mailbox.base import FolderStatus
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox


def test_the_wait_for_answers_is_one_for_all_of_them() -> None:
    """A server that keeps silent would hold up those that are asked with it."""
    waits: list[float | None] = []

    class Recorded(MemoryMailbox):
        def poll_receive(self, *, within: float | None = None) -> FolderStatus | None:
            waits.append(within)
            return super().poll_receive(within=within)

    mailboxes = [Recorded(MemoryAccount()) for _ in range(3)]
    asking = [(n, mailbox, "", None) for n, mailbox in enumerate(mailboxes)]
    for within_s, most in ((60.0, 60.0), (0.0, _GLANCE)):
        waits.clear()
        assert len(list(poll_all(asking, within_s))) == 3
        assert len(waits) == 3
        assert all(wait is not None and 0 < wait <= most for wait in waits)
