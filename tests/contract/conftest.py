"""Servers that look like other people's, and the kind of mailbox that a test runs over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cloud_kinds import google_imap, graph, microsoft_imap, oauth_pop3
from tests.contract.mailbox_kinds import KINDS, ROOTED, MailboxKind
from tests.servers.dovecot import Dovecot


@pytest.fixture(scope="session")
def courier_like() -> Iterator[Dovecot]:
    """Everything below `INBOX.`, dots between levels; no TLS."""
    with Dovecot(separator=".", prefix="INBOX.", storage="sdbox") as server:
        yield server


@pytest.fixture(scope="session")
def poor_dovecot() -> Iterator[Dovecot]:
    """A server that announces nothing but IMAP itself: no UIDPLUS, CONDSTORE, UNSELECT, ESEARCH."""
    with Dovecot(storage="sdbox", capabilities="IMAP4rev1") as server:
        yield server


KINDS |= {
    "google-imap": google_imap,
    "microsoft-imap": microsoft_imap,
    "microsoft-graph": graph,
    "pop3-oauth2": oauth_pop3,
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.rooted) if name in ROOTED else name for name in KINDS
    ]
)
def kind(request: pytest.FixtureRequest) -> MailboxKind:
    """An empty mailbox of its own, of every kind in turn."""
    return KINDS[request.param](request)
