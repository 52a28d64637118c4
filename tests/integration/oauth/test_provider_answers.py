"""What comes over HTTP from a provider, and what becomes of the authorisation."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.allowed_hosts import HostRules
from shared.clock import utc_now
from shared.connections import Connection, Mode
from shared.credentials import ClientSecrets, Credential, Provider
from shared.errors import NeedsAuthorisation, NeedsPerson, TryAgain
from shared.mailbox.base import Login
from shared.mailbox.net import https
from shared.mailbox.oauth import provider as oauth
from shared.mailbox.oauth.microsoft import MicrosoftProvider
from shared.mailbox.oauth.tokens import Tokens
from shared.mailbox.open import open_mailbox
from shared.mailbox_logins import GrantShared, Logins, Others
from shared.storage import authorisations
from shared.vault import tokens_path
from tests.integration.oauth.conftest import ALICE, Stack
from tests.servers.certificates import Authority
from tests.servers.oidc import REDIRECT
from tests.servers.provider import Said, ScriptedProvider
from tests.servers.scripted import Conversation, ScriptedServer, imap

BOMB = gzip.compress(b"0" * (200 << 20))


@pytest.fixture
def provider(authority: Authority) -> Iterator[ScriptedProvider]:
    with ScriptedProvider(authority.issue("localhost", "127.0.0.1")) as provider:
        yield provider


def credential(stack: Stack, server: ScriptedProvider, /, **changes: Any) -> Credential:
    return stack.credential(settings={"authority": server.issuer}, **changes)


def granted(
    stack: Stack, connection: Connection, left: timedelta, account: str = ALICE
) -> Connection:
    tokens = Tokens(
        access_token="access-0",
        refresh_token="refresh-0",
        expires_at=utc_now() + left,
        issued_at=utc_now() - timedelta(hours=1) + left,
        account=account,
    )
    with stack.database.transaction() as session:
        authorisations.grant(
            session,
            connection_id=connection.id,
            sealed_tokens=stack.vault.seal(tokens.to_bytes(), tokens_path(connection.id)),
            account=account,
            by="the admin",
            expires_at=tokens.expires_at,
        )
    return connection


def token_of(stack: Stack, connection: Connection) -> Any:
    token = stack.logins.of(connection).access_token
    assert token is not None
    return token


@pytest.mark.parametrize("vendor", list(Provider))
@pytest.mark.parametrize("at_discovery", [False, True])
def test_a_few_octets_never_become_gigabytes(
    stack: Stack, provider: ScriptedProvider, vendor: Provider, at_discovery: bool
) -> None:
    assert len(BOMB) < 300_000
    said = Said(200, BOMB, headers={"Content-Encoding": "gzip"})
    connection = stack.connection(credential(stack, provider, provider=vendor))
    granted(stack, connection, timedelta(seconds=-5))
    token = token_of(stack, connection)
    provider.say_octets(said, discovery=at_discovery)
    tracemalloc.start()
    try:
        with pytest.raises(TryAgain) as refused:
            token(False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "answer-too-large"
    assert peak < 5 * https.ANSWER_LIMIT
    provider.speak()
    assert token(False).startswith("access-")


def test_other_encodings_than_asked_for_are_not_unfolded(
    stack: Stack, provider: ScriptedProvider
) -> None:
    connection = granted(
        stack, stack.connection(credential(stack, provider)), timedelta(seconds=-5)
    )
    provider.say_octets(Said(200, b"{}", headers={"Content-Encoding": "br"}))
    with pytest.raises(TryAgain):
        token_of(stack, connection)(False)


@pytest.mark.promise("A4")
@pytest.mark.parametrize("vendor", list(Provider))
@pytest.mark.parametrize(
    "status", [500, 200], ids=["discovery is down", "a captive portal answers"]
)
def test_a_token_that_still_holds_is_used_while_the_provider_is_away(
    stack: Stack, provider: ScriptedProvider, vendor: Provider, status: int
) -> None:
    connection = stack.connection(credential(stack, provider, provider=vendor))
    granted(stack, connection, timedelta(minutes=5))
    provider.say_page(status, "<html>Please log in to the network", discovery=True)
    token = token_of(stack, connection)
    assert [token(False) for _ in range(10)] == ["access-0"] * 10
    assert len(provider.asked) <= 2, "an early refresh that failed is not repeated at once"
    granted(stack, connection, timedelta(seconds=-5))
    with pytest.raises(TryAgain) as refused:
        token_of(stack, connection)(False)
    assert refused.value.code == ("provider-unavailable" if status == 500 else "not-the-provider")
    provider.speak()
    assert token_of(stack, connection)(False).startswith("access-")


@pytest.mark.promise("A4")
def test_what_a_policy_refuses_early_is_not_yet_an_outage(
    stack: Stack, provider: ScriptedProvider
) -> None:
    connection = granted(stack, stack.connection(credential(stack, provider)), timedelta(minutes=5))
    provider.say(400, {"error": "invalid_grant", "error_description": "AADSTS50076: MFA."})
    assert token_of(stack, connection)(False) == "access-0"
    granted(stack, connection, timedelta(seconds=-5))
    with pytest.raises(NeedsPerson) as refused:
        token_of(stack, connection)(False)
    assert refused.value.code == "second-factor-required"
    assert not isinstance(refused.value, NeedsAuthorisation)
    status = stack.logins.authorisation(connection.id)
    assert status is not None and status.valid, "the refresh token is kept"


@pytest.mark.promise("A4")
@pytest.mark.parametrize("vendor", list(Provider))
def test_a_refresh_token_is_spent_until_another_is_given(
    stack: Stack, provider: ScriptedProvider, vendor: Provider
) -> None:
    """A provider that lets it hold leaves it out of its answers (RFC 6749 section 6)."""
    connection = stack.connection(credential(stack, provider, provider=vendor))
    token = token_of(stack, granted(stack, connection, timedelta(seconds=-5)))
    provider.speak(refresh_token=None)
    assert [token(False), token(True)] == ["access-1", "access-2"]
    provider.speak()
    assert [token(True), token(True)] == ["access-3", "access-4"]
    spent = [form["refresh_token"] for path, form in provider.asked if path.endswith("/token")]
    assert spent == [*["refresh-0"] * 3, "refresh-3"]


@pytest.mark.promise("A4")
def test_what_another_worker_refreshed_meanwhile_is_taken(
    stack: Stack, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the lock finds a fresh token, and spends no refresh token."""
    connection = granted(
        stack, stack.connection(credential(stack, provider)), timedelta(seconds=-5)
    )
    before = stack.logins._cache(connection.id).read()
    assert token_of(stack, connection)(False) == "access-1"
    monkeypatch.setattr(authorisations.PostgresTokenCache, "read", lambda _: before)
    assert token_of(stack, connection)(False) == "access-1"
    assert provider.token_requests == 1


@pytest.mark.promise("A4")
def test_a_refused_token_is_not_given_again_while_the_provider_is_away(
    stack: Stack, provider: ScriptedProvider
) -> None:
    """The mail server would refuse it once more, and that says that a person is needed."""
    connection = granted(stack, stack.connection(credential(stack, provider)), timedelta(hours=1))
    token = token_of(stack, connection)
    assert token(False) == "access-0"
    provider.say(500, {})
    with pytest.raises(TryAgain):
        token(True)
    provider.speak()
    assert token(True) == "access-1"


@pytest.mark.promise("A4")
def test_a_refusal_with_an_unknown_number_loses_the_grant_only_where_it_says_so(
    stack: Stack, provider: ScriptedProvider
) -> None:
    connection = granted(
        stack, stack.connection(credential(stack, provider)), timedelta(seconds=-5)
    )
    refusal = {"error": "invalid_grant", "error_description": "AADSTS9999999: New."}
    for answer, valid in ((refusal, True), (refusal | {"suberror": "bad_token"}, False)):
        provider.say(400, answer)
        with pytest.raises(NeedsPerson) as refused:
            token_of(stack, connection)(False)
        assert isinstance(refused.value, NeedsAuthorisation) is not valid
        status = stack.logins.authorisation(connection.id)
        assert status is not None and status.valid is valid


@pytest.mark.promise("M12")
def test_the_path_of_entra_itself(stack: Stack, provider: ScriptedProvider) -> None:
    """`authority=` of msal, as for login.microsoftonline.com: its v2.0 discovery document, PKCE,
    refresh."""
    entra = replace(stack.credential(), settings={"ca_certificate": stack.oidc.ca})
    server = MicrosoftProvider(entra, ClientSecrets("secret"), provider.issuer, timeout=10.0)
    scope = "https://graph.microsoft.com/Mail.ReadWrite"
    url, state, flow = server.start([scope], redirect_uri=REDIRECT, login_hint=ALICE)
    assert url.startswith(f"{provider.issuer}/authorize?")
    assert "code_challenge=" in url and state in url and flow["redirect_uri"] == REDIRECT
    assert provider.asked[0][0] == "/tenant/v2.0/.well-known/openid-configuration"
    old = Tokens(access_token="a", refresh_token="refresh-0", expires_at=utc_now())
    fresh = server.refresh(old, [scope])
    path, form = provider.asked[-1]
    assert path == "/tenant/token"
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "refresh-0")
    assert scope in form["scope"].split()
    assert fresh.access_token.startswith("access-")
    provider.say(400, {"error": "invalid_grant", "error_description": "AADSTS700082: Expired."})
    with pytest.raises(NeedsAuthorisation) as lost:
        server.refresh(old, [scope])
    assert lost.value.code == "grant-lost"


@pytest.mark.promise("A2")
def test_a_login_with_the_wrong_account_ends_no_grant(
    stack: Stack, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's revoke ends everything that this person gave this application."""
    google = credential(stack, provider, provider=Provider.GOOGLE)
    connection = stack.connection(google)
    wrong = Tokens(
        access_token="a", refresh_token="r", expires_at=utc_now(), account="bob@example.org"
    )
    monkeypatch.setattr("shared.mailbox.oauth.google.GoogleProvider.redeem", lambda *_: wrong)
    with pytest.raises(oauth.WrongAccount):
        oauth.finish(connection, google, ClientSecrets("secret"), b"{}", {})
    assert [path for path, _ in provider.asked if "revoke" in path] == []


@pytest.mark.promise("A2")
def test_a_principal_name_that_is_no_mail_address_is_the_same_account(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    microsoft = stack.credential()
    connection = stack.connection(microsoft)
    tokens = Tokens(
        access_token="a",
        refresh_token="r",
        expires_at=utc_now(),
        account="a.smith@corp.example",
        names=("a.smith@corp.example", "Alice@example.org"),
    )
    monkeypatch.setattr(
        "shared.mailbox.oauth.microsoft.MicrosoftProvider.redeem", lambda *_: tokens
    )
    assert oauth.finish(connection, microsoft, ClientSecrets("s"), b"{}", {}) == tokens


@pytest.mark.promise("A4")
@pytest.mark.parametrize("others", [Others.KEEP, Others.END])
def test_taking_back_asks_where_others_live_on_the_grant(
    stack: Stack, provider: ScriptedProvider, others: Others
) -> None:
    google = credential(stack, provider, provider=Provider.GOOGLE)
    one = granted(stack, stack.connection(google, name="one"), timedelta(hours=1))
    two = granted(stack, stack.connection(google, name="two"), timedelta(hours=1))
    other = stack.connection(google, name="of bob", username="bob@example.org")
    granted(stack, other, timedelta(hours=1), account="bob@example.org")
    with pytest.raises(GrantShared) as asked:
        stack.logins.revoke(one.id)
    assert asked.value.names == ("two",)
    assert provider.asked == []
    stack.logins.revoke(one.id, others=others)
    revoked = [path for path, _ in provider.asked if path.endswith("/revoke")]
    assert len(revoked) == (others is Others.END)
    valid = {c.id: stack.logins.authorisation(c.id) for c in (one, two, other)}
    assert [a is not None and a.valid for a in valid.values()] == [
        False,
        others is Others.KEEP,
        True,
    ]
    stack.logins.revoke(other.id)  # nobody shares it: nobody is asked


@pytest.mark.promise("A4")
def test_a_grant_that_google_ends_soon_is_known_at_once(
    stack: Stack, provider: ScriptedProvider
) -> None:
    """An application in the state "Testing": refresh_token_expires_in is a week."""
    provider.speak(refresh_token_expires_in=604_799)
    google = credential(stack, provider, provider=Provider.GOOGLE)
    connection = stack.connection(google)
    server = oauth.server_of(google, ClientSecrets("secret"), connection)
    _, _, flow = server.start(["mail"], redirect_uri=REDIRECT, login_hint=ALICE)
    claims = {
        "iss": provider.issuer,
        "aud": google.client_id,
        "nonce": flow["nonce"],
        "exp": utc_now().timestamp() + 60,
        "email": ALICE,
    }
    provider.more["id_token"] = unsigned(claims)
    tokens = server.redeem(flow, {"state": flow["state"], "code": "c"})
    assert tokens.grant_ends_at is not None
    assert timedelta(days=6) < tokens.grant_ends_at - utc_now() < timedelta(days=8)
    assert Tokens.from_bytes(tokens.to_bytes()) == tokens


def unsigned(claims: dict[str, Any]) -> str:
    import base64
    import json

    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.x"


def test_authorisation_servers_are_held_to_the_rules_of_hosts(
    stack: Stack, provider: ScriptedProvider
) -> None:
    connection = granted(
        stack, stack.connection(credential(stack, provider)), timedelta(seconds=-5)
    )
    rules = HostRules.parse([], ["127.0.0.0/8", "::1"])
    token = Logins(stack.database, stack.vault, rules).of(connection).access_token
    assert token is not None
    with pytest.raises(NeedsPerson) as refused:
        token(False)
    assert refused.value.code == "host-forbidden"
    assert provider.asked == []


@pytest.mark.promise("A1")
def test_a_token_is_never_sent_to_an_unverified_server(stack: Stack, authority: Authority) -> None:
    """Whatever a stored connection says: not unverified, and not to a CA that the connection names
    instead of the credential."""
    heard: list[bytes] = []

    def listen(talk: Conversation) -> None:
        imap()(talk)

    with ScriptedServer(listen, tls=authority.issue("localhost", "127.0.0.1")) as server:
        for changes in ({"verify_certificate": False}, {"ca_certificate": authority.pem}):
            connection = Connection(
                name="pop",
                mode=Mode.POP3,
                host="localhost",
                port=server.port,
                username=ALICE,
                credential_id=1,
                **changes,
            )
            login = Login(ALICE, access_token=lambda _: "the-token")
            with pytest.raises(NeedsPerson) as refused:
                open_mailbox(connection, login)
            assert refused.value.code == "certificate-untrusted"
        heard += server.heard
    assert heard == []
