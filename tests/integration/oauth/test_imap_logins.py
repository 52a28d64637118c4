"""Real tokens at a real IMAP server: both mechanisms, an expired token, the wrong mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.clock import utc_now
from shared.connections import Connection, Mode, Selection
from shared.credentials import Credential, Provider
from shared.errors import NeedsAuthorisation, NeedsPerson
from shared.mailbox.base import Mailbox
from shared.mailbox.doctor.examine import examine
from shared.mailbox.doctor.recording import recording
from shared.mailbox.doctor.reporting import report
from shared.mailbox.oauth.tokens import Tokens
from shared.mailbox.open import open_mailbox
from tests.contract.mailbox_kinds import mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.oauth.conftest import ALICE, Stack
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.oauth_dovecot import SHARED, oauth_dovecot_server
from tests.servers.oidc import OidcServer


def opened(stack: Stack, connection: Connection) -> Mailbox:
    return open_mailbox(connection, stack.logins.of(connection), read_timeout_s=20)


def at(stack: Stack, server: Dovecot, provider: Provider = Provider.MICROSOFT) -> Credential:
    """A credential whose IMAP gateway is this server."""
    host = f"localhost:{server.imaps_port}"
    return stack.credential(provider=provider, settings={"imap_host": host})


@pytest.fixture(scope="module")
def bearer_only(authority: Authority, oidc: OidcServer) -> Iterator[Dovecot]:
    """A server that has OAUTHBEARER (RFC 7628) and no XOAUTH2."""
    with oauth_dovecot_server(authority, oidc, "oauthbearer") as server:
        yield server


@pytest.mark.promise("M2")
@pytest.mark.parametrize("provider", list(Provider))
@pytest.mark.parametrize("fixture", ["oauth_dovecot", "bearer_only"])
def test_an_authorised_connection_opens_its_mailbox(
    stack: Stack, provider: Provider, fixture: str, request: pytest.FixtureRequest
) -> None:
    server: Dovecot = request.getfixturevalue(fixture)
    google = provider is Provider.GOOGLE
    connection = stack.connection(
        at(stack, server, provider), mode=Mode.GOOGLE_IMAP if google else Mode.MICROSOFT_IMAP
    )
    stack.authorise(connection)
    server.deliver(ALICE, [mail(f"{provider} {fixture}")])
    mailbox = opened(stack, connection)
    assert mailbox.open("").total >= 1
    log = "\n".join(mailbox.transcript)
    assert ("OAUTHBEARER" if fixture == "bearer_only" else "XOAUTH2") in log
    mailbox.close()


@pytest.mark.promise("A4")
def test_a_token_that_the_mail_server_refuses_is_renewed_once(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    connection = stack.connection(at(stack, oauth_dovecot), mode=Mode.MICROSOFT_IMAP)
    stack.authorise(connection)
    _spoil(stack, connection.id)
    opened(stack, connection).close()


@pytest.mark.promise("A5")
def test_a_mailbox_of_somebody_else_is_refused_and_named(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    """What the server answers in base64 before its NO is understood, not shown."""
    connection = stack.connection(at(stack, oauth_dovecot), mode=Mode.MICROSOFT_IMAP)
    stack.authorise(connection)
    with pytest.raises(NeedsAuthorisation) as refused:
        opened(stack, replace(connection, shared_mailbox="info@example.org"))
    assert refused.value.code == "token-refused"
    assert "may open this mailbox" in refused.value.hint
    assert any("AUTHENTICATE XOAUTH2 ***" in line for line in refused.value.transcript)


@pytest.mark.promise("M11")
@pytest.mark.parametrize("fixture", ["oauth_dovecot", "bearer_only"])
def test_a_shared_mailbox_opens_with_the_token_of_the_person_who_may(
    stack: Stack, fixture: str, request: pytest.FixtureRequest
) -> None:
    """The SASL user is the shared address, the token is Alice's; nobody else's opens it."""
    server: Dovecot = request.getfixturevalue(fixture)
    address, person = SHARED
    shared = {"mode": Mode.MICROSOFT_IMAP, "shared_mailbox": address}
    subject = f"for all of us, {fixture}"
    server.deliver(address, [mail(subject)])
    hers = stack.connection(at(stack, server), **shared)
    stack.authorise(hers, person)
    mailbox = opened(stack, hers)
    mailbox.open("")
    sink = Collector()
    mailbox.download(mailbox.list_new(KnownKeys(), Selection.ALL).new, sink, limit=1 << 20)
    assert subject in {subject_of(raw) for raw in sink.mails.values()}
    assert stack.logins.authorisation(hers.id).account == person  # type: ignore[union-attr]
    mailbox.close()
    others = stack.connection(at(stack, server), **shared, username="bob@example.org")
    stack.authorise(others, "bob@example.org")
    with pytest.raises(NeedsAuthorisation) as refused:
        opened(stack, others)
    assert refused.value.code == "token-refused"


@pytest.mark.promise("A3")
def test_an_application_that_may_not_open_the_mailbox_asks_nobody_to_log_in(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    from shared.credentials import Grant

    credential = stack.credential(
        grant=Grant.CLIENT_CREDENTIALS,
        settings={"imap_host": f"localhost:{oauth_dovecot.imaps_port}"},
    )
    connection = stack.connection(credential, mode=Mode.MICROSOFT_IMAP)
    with pytest.raises(NeedsPerson) as refused:
        opened(stack, connection)
    assert not isinstance(refused.value, NeedsAuthorisation)
    assert "admin consent" in refused.value.hint


@pytest.mark.promise("M2")
def test_a_gateway_with_an_unknown_certificate_is_not_trusted(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    connection = stack.connection(at(stack, oauth_dovecot), mode=Mode.MICROSOFT_IMAP)
    stack.authorise(connection)
    login = replace(stack.logins.of(connection), ca_certificate=None)
    with pytest.raises(NeedsPerson) as refused:
        open_mailbox(connection, login, read_timeout_s=20)
    assert refused.value.code == "certificate-untrusted"


def _spoil(stack: Stack, connection_id: int) -> None:
    """The stored token looks good for an hour, and its signature is not."""
    with stack.logins._cache(connection_id).locked() as locked:
        text = locked.load()
        assert text is not None
        tokens = Tokens.from_bytes(text)
        ends = utc_now() + timedelta(hours=1)
        head, body, _ = tokens.access_token.split(".")
        spoilt = replace(tokens, access_token=f"{head}.{body}.AAAA", expires_at=ends)
        locked.save(spoilt.to_bytes(), ends)


@pytest.mark.promise("M25")
def test_the_doctor_renews_a_spoilt_token_and_shows_none(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    """Over the grant of a real authorisation server: the refresh is a part of the examination."""
    connection = stack.connection(at(stack, oauth_dovecot), mode=Mode.MICROSOFT_IMAP)
    stack.authorise(connection)
    oauth_dovecot.deliver(connection.username, [mail("for the doctor")])
    _spoil(stack, connection.id)

    def open_again(wanted: Connection, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
        login = replace(stack.logins.of(wanted), mechanism=mechanism)
        return open_mailbox(wanted, login.with_fresh_token() if fresh else login)

    examination = examine(connection, open_again, seconds=60)
    found = report(examination)
    assert found.healthy, found.sentences
    logged_in = [row for row in found.rows if row.form.startswith("AUTHENTICATE")]
    assert [row.verdict for row in logged_in] == ["understood"], logged_in
    token = stack.logins.of(connection).access_token
    assert token is not None
    assert token(False) not in recording(examination, secrets=[])
