"""Servers that look like other people's, and the kind of mailbox that a test runs over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.mailbox.doctor.request_forms import use_of
from shared.mailbox.traffic_observer import Observer, observed
from tests.contract.cloud_kinds import google_imap, graph, microsoft_imap, oauth_pop3
from tests.contract.examinations import asked_by_the_doctor, changes, forms_sent
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


#: What the doctor asks a kind of mailbox, found out once a kind.
_ASKED: dict[str, set[tuple[str, str]]] = {}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.rooted) if name in ROOTED else name for name in KINDS
    ]
)
def kind(request: pytest.FixtureRequest) -> Iterator[MailboxKind]:
    """An empty mailbox of its own, of every kind in turn.

    Whatever the test asks its server is of a form that the doctor asks this kind of server as well,
    or one that settles mails.
    """
    made = KINDS[request.param](request)
    with observed(Observer()) as observer:
        yield made
    if request.param != "memory":
        mode = made.connection.mode  # type: ignore[attr-defined]
        sent = forms_sent(observer, mode)
        unknown = {form for protocol, form in sent if use_of(protocol, form) is None}
        assert not unknown, f"forms that the doctor does not know: {unknown}"
        if request.param not in _ASKED:
            _ASKED[request.param] = asked_by_the_doctor(KINDS[request.param](request))
        left_out = {pair for pair in sent - _ASKED[request.param] if not changes(*pair)}
        assert not left_out, f"forms that the doctor does not ask for: {left_out}"
