"""Logging in at the provider: the right person, the wrong one, no consent, a replayed answer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.connections import Mode
from shared.credentials import Grant, Provider
from shared.errors import InvalidInput, NeedsAuthorisation, NeedsPerson
from shared.mailbox.oauth.provider import WrongAccount, same_account
from shared.mailbox.oauth.tokens import Tokens
from shared.microsoft_clouds import CLOUDS, Cloud
from tests.integration.oauth.conftest import ALICE, Stack
from tests.servers.oidc import REDIRECT

BOTH = pytest.mark.parametrize("provider", list(Provider))


@pytest.mark.promise("A2")
@BOTH
def test_the_right_account_is_kept_with_who_authorised_when(
    stack: Stack, provider: Provider
) -> None:
    connection = stack.connection(stack.credential(provider=provider))
    url = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    assert "code_challenge_method=S256" in url
    assert "login_hint=alice%40example.org" in url
    query = stack.oidc.log_in(url)  # as whom the page suggests
    _, status = stack.logins.finish_authorisation(query, session="one", person="admin")
    assert (status.account, status.authorised_by, status.valid) == (ALICE, "admin", True)
    assert stack.logins.authorisation(connection.id) == status


@pytest.mark.promise("A2")
@BOTH
def test_another_account_is_refused_and_nothing_is_kept(stack: Stack, provider: Provider) -> None:
    connection = stack.connection(stack.credential(provider=provider))
    with pytest.raises(WrongAccount, match=r"eve@example.org logged in, but .* alice@example.org"):
        stack.authorise(connection, "eve@example.org")
    assert stack.logins.authorisation(connection.id) is None
    with pytest.raises(NeedsAuthorisation):
        _token(stack, connection)


@pytest.mark.promise("A2")
@pytest.mark.promise("M11")
def test_a_shared_mailbox_is_authorised_by_the_person_who_may_open_it(stack: Stack) -> None:
    connection = stack.connection(stack.credential(), shared_mailbox="info@example.org")
    with pytest.raises(WrongAccount, match=r"is for alice@example\.org") as refused:
        stack.authorise(connection, "info@example.org")
    assert "info@example.org" in refused.value.hint
    stack.authorise(connection, ALICE)
    assert _token(stack, connection)


@pytest.mark.promise("A2")
@BOTH
def test_a_denied_consent_is_said_so(stack: Stack, provider: Provider) -> None:
    connection = stack.connection(stack.credential(provider=provider))
    url = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    query = stack.oidc.log_in(url, consent=False)
    with pytest.raises(NeedsAuthorisation) as refused:
        stack.logins.finish_authorisation(query, session="one", person="admin")
    assert refused.value.code == "consent-denied"


@pytest.mark.promise("A2")
@BOTH
def test_an_answer_counts_once(stack: Stack, provider: Provider) -> None:
    connection = stack.connection(stack.credential(provider=provider))
    url = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    query = stack.oidc.log_in(url)
    stack.logins.finish_authorisation(query, session="one", person="admin")
    with pytest.raises(InvalidInput, match="finished already"):
        stack.logins.finish_authorisation(query, session="one", person="admin")
    with pytest.raises(InvalidInput, match="not started here"):
        stack.logins.finish_authorisation(
            {**query, "state": "made-up"}, session="one", person="admin"
        )


@pytest.mark.promise("A2")
def test_the_answer_belongs_to_the_session_that_started(stack: Stack) -> None:
    connection = stack.connection(stack.credential())
    url = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    query = stack.oidc.log_in(url)
    with pytest.raises(InvalidInput, match="another session"):
        stack.logins.finish_authorisation(query, session="two", person="mallory")
    with pytest.raises(InvalidInput):  # and it was used up by the attempt
        stack.logins.finish_authorisation(query, session="one", person="admin")
    assert stack.logins.authorisation(connection.id) is None


@pytest.mark.promise("A2")
def test_a_login_that_took_too_long_is_refused(stack: Stack) -> None:
    connection = stack.connection(stack.credential())
    url = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    query = stack.oidc.log_in(url)
    with stack.database.transaction() as session:
        session.execute("UPDATE oauth_flow SET created_at = now() - %s", (timedelta(minutes=16),))
    with pytest.raises(InvalidInput, match="15 minutes"):
        stack.logins.finish_authorisation(query, session="one", person="admin")


@pytest.mark.promise("A2")
@BOTH
def test_a_code_from_another_login_is_refused(stack: Stack, provider: Provider) -> None:
    """PKCE: a code that was stolen from one login is worth nothing in another."""
    connection = stack.connection(stack.credential(provider=provider))
    one = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    two = stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    stolen = stack.oidc.log_in(one)["code"]
    query = {**stack.oidc.log_in(two), "code": stolen}
    with pytest.raises(NeedsPerson):
        stack.logins.finish_authorisation(query, session="one", person="admin")
    assert stack.logins.authorisation(connection.id) is None


@pytest.mark.promise("A3")
@pytest.mark.parametrize("mode", [Mode.MICROSOFT_GRAPH, Mode.MICROSOFT_IMAP])
@pytest.mark.parametrize("proof", ["secret", "certificate"])
def test_an_application_gets_its_own_token(stack: Stack, mode: Mode, proof: str) -> None:
    certificate = stack.oidc.client_certificate if proof == "certificate" else None
    credential = stack.credential(
        grant=Grant.CLIENT_CREDENTIALS,
        client_id=stack.oidc.certificate_client_id if certificate else stack.oidc.client_id,
        secret=None if certificate else stack.oidc.client_secret,
        certificate=certificate,
    )
    connection = stack.connection(credential, mode=mode)
    token = stack.logins.of(connection).access_token
    assert token is not None
    first = token(False)
    assert token(False) == first  # kept in memory
    assert token(True) != first
    with pytest.raises(InvalidInput, match="nobody logs in"):
        stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)


@pytest.mark.promise("M12")
@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.key)
@pytest.mark.parametrize("mode", [Mode.MICROSOFT_GRAPH, Mode.MICROSOFT_IMAP])
def test_a_token_is_for_the_chosen_cloud(stack: Stack, cloud: Cloud, mode: Mode) -> None:
    """Asked for and granted at a real authorisation server: the scope names the cloud's host."""
    graph = mode is Mode.MICROSOFT_GRAPH
    host = cloud.graph if graph else cloud.imap
    scope = (
        f"https://{cloud.graph}/Mail.ReadWrite"
        if graph
        else f"https://{cloud.outlook}/IMAP.AccessAsUser.All"
    )
    connection = stack.connection(stack.credential(), mode=mode, host_override=host)
    stack.authorise(connection)
    sealed = stack.logins._cache(connection.id).read()
    assert sealed is not None
    assert scope in Tokens.from_bytes(sealed).scope.split()
    by_itself = stack.credential(grant=Grant.CLIENT_CREDENTIALS, cloud=cloud.key)
    assert _token(stack, stack.connection(by_itself, mode=mode))


@pytest.mark.promise("A3")
def test_a_wrong_client_secret_is_named(stack: Stack) -> None:
    credential = stack.credential(grant=Grant.CLIENT_CREDENTIALS, secret="not the secret")
    with pytest.raises(NeedsPerson) as refused:
        _token(stack, stack.connection(credential))
    assert refused.value.code == "client-secret-wrong"


@pytest.mark.promise("A3")
def test_a_service_account_acts_for_the_mailboxes_it_was_delegated(stack: Stack) -> None:
    credential = stack.service_account()
    assert _token(stack, stack.connection(credential))
    with pytest.raises(NeedsPerson) as refused:
        _token(stack, stack.connection(credential, username="eve@example.org"))
    assert refused.value.code == "delegation-missing"
    assert "Domain-wide delegation" in refused.value.hint


@pytest.mark.promise("A1")
def test_an_authority_with_an_unknown_certificate_is_not_trusted(stack: Stack) -> None:
    credential = stack.credential(settings={"ca_certificate": ""})
    connection = stack.connection(credential)
    with pytest.raises(NeedsPerson) as refused:
        stack.logins.start_authorisation(connection.id, session="one", redirect_uri=REDIRECT)
    assert refused.value.code == "certificate-untrusted"


@pytest.mark.parametrize(
    ("account", "username", "same"),
    [
        ("Alice@Example.org", "alice@example.org", True),
        ("a.lice@googlemail.com", "alice@gmail.com", True),
        ("a.lice@example.org", "alice@example.org", False),
        ("", "", False),
    ],
)
@pytest.mark.promise("A2")
def test_addresses_are_compared_as_the_providers_do(
    account: str, username: str, same: bool
) -> None:
    assert same_account(account, username) is same


def _token(stack: Stack, connection: object) -> str:
    token = stack.logins.of(connection).access_token  # type: ignore[arg-type]
    assert token is not None
    return token(False)
