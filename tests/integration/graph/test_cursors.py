"""Where a look at a Graph folder goes on, so that no mail is passed over."""

from __future__ import annotations

from typing import Any

import pytest

from shared.connections import Selection
from shared.mailbox.base import Listing
from shared.mailbox.graph import listing as graph_listing
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import KnownKeys
from tests.integration.graph.conftest import Office

UNREAD, ALL = Selection.UNREAD, Selection.ALL


@pytest.mark.promise("H4")
def test_without_a_cursor_everything_is_listed_once_more(office: Office) -> None:
    """By a session that is kept, and compared one before: a mail was released from quarantine."""
    office.box.deliver([mail("released")])
    mailbox = office.open(selection=ALL)
    mailbox.open("")
    first = mailbox.list_new(KnownKeys(), ALL)
    assert mailbox.changed_since("", first.cursor) is None
    assert mailbox.list_new(KnownKeys(), ALL, cursor=None).new == first.new


@pytest.mark.promise("M9")
def test_a_mail_that_comes_while_another_one_leaves_is_a_change(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the list: the counts are what they were."""
    left, _ = office.box.deliver([mail("unread"), mail("unread, too")])
    mailbox = office.open()
    mailbox.open("")
    list_unread = graph_listing.list_unread

    def listed_and_exchanged(*asked: Any, **more: Any) -> Listing:
        found = list_unread(*asked, **more)
        office.box.move(left.id, office.box.create("Elsewhere"))
        office.box.deliver([mail("came then")])
        return found

    monkeypatch.setattr(graph_listing, "list_unread", listed_and_exchanged)
    listing = mailbox.list_new(KnownKeys(), UNREAD)
    assert mailbox.changed_since("", listing.cursor) is not None
