"""Mails that servers list and have not are remembered in bounded memory."""

from __future__ import annotations

from services.fetcher.absent_mails import AbsentMails
from shared.storage.folder_ref import FolderRef

FIRST, SECOND, THIRD = (FolderRef(number, "INBOX", 1) for number in (1, 2, 3))


def test_the_folder_that_was_asked_longest_ago_is_forgotten_first() -> None:
    absent = AbsentMails(most=4)
    absent.remember(FIRST, {1, 2})
    absent.remember(SECOND, {1, 2})
    absent.remember(FIRST, {1, 2})
    absent.remember(THIRD, {5})
    assert (absent.of(FIRST), absent.of(SECOND), absent.of(THIRD)) == ({1, 2}, set(), {5})
