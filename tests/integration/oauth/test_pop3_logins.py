"""OAuth2 over POP3: a credential in place of the password, at a real server with real tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared import microsoft_clouds
from shared.connection_editing import edit
from shared.connections import Mode, TransportSecurity
from shared.credentials import Credential, Grant, Provider
from shared.errors import InvalidInput, NeedsAuthorisation, NeedsPerson
from shared.mailbox.errors import server_answers
from shared.mailbox.open import open_mailbox
from tests.contract.mailbox_kinds import mail
from tests.integration.oauth.conftest import ALICE, Stack
from tests.servers.dovecot import Dovecot

#: What somebody types for it.
TYPED: dict[str, Any] = {
    "name": "by POP3",
    "mode": "pop3",
    "host": "pop.gmail.com",
    "username": ALICE,
    "credential_id": 1,
}


def at(server: Dovecot, **changes: Any) -> dict[str, Any]:
    values = {"mode": Mode.POP3, "host": "localhost", "port": server.pop3s_port}
    return values | {"security": TransportSecurity.TLS} | changes


def credential(stack: Stack, server: Dovecot, **changes: Any) -> Credential:
    """One that names the server: else no token of it would go there."""
    return stack.credential(settings={"pop3_host": f"localhost:{server.pop3s_port}"}, **changes)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("provider", list(Provider))
def test_an_authorised_connection_opens_its_mailbox_over_pop3(
    stack: Stack, provider: Provider, oauth_dovecot: Dovecot
) -> None:
    connection = stack.connection(
        credential(stack, oauth_dovecot, provider=provider), **at(oauth_dovecot)
    )
    stack.authorise(connection)
    oauth_dovecot.deliver(ALICE, [mail(f"over POP3, {provider}")])
    mailbox = open_mailbox(connection, stack.logins.of(connection), read_timeout_s=20)
    assert mailbox.open("").total >= 1
    assert "AUTH XOAUTH2" in "\n".join(mailbox.transcript)
    mailbox.close()


@pytest.mark.promise("M2")
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_pop3_takes_a_credential_in_place_of_the_password(security: str) -> None:
    chosen = edit(None, {**TYPED, "security": security}).connection
    assert chosen.uses_oauth
    assert not chosen.has_password
    assert chosen.port == (995 if security == "tls" else 110)


@pytest.mark.promise("M2")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "secret"}, "credential_id"),
        ({"security": "none"}, "security"),
        ({"credential_id": None}, "password"),
        ({"verify_certificate": False}, "verify_certificate"),
        ({"ca_certificate": "-----BEGIN CERTIFICATE-----"}, "ca_certificate"),
        ({"mode": "imap", "host": "imap.gmail.com"}, "credential_id"),
    ],
)
def test_pop3_takes_either_and_a_token_never_in_plain_text(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        edit(None, TYPED | changes)
    assert refused.value.field == field


@pytest.mark.promise("M2")
def test_a_credential_replaces_the_password_and_the_other_way_round() -> None:
    before = edit(None, {**TYPED, "credential_id": None, "password": "secret"}).connection
    after = edit(before, {"credential_id": 1})
    assert (after.connection.has_password, after.connection.uses_oauth) == (False, True)
    again = edit(after.connection, {"credential_id": None, "password": "another"})
    assert (again.connection.has_password, again.connection.uses_oauth) == (True, False)


@pytest.mark.promise("M12")
def test_the_scope_is_that_of_pop3_in_the_cloud_of_the_host(stack: Stack) -> None:
    def asked(host: str, **changes: Any) -> tuple[str, ...]:
        connection = edit(None, TYPED | {"host": host}).connection
        return microsoft_clouds.scopes(connection, stack.credential(**changes))

    own = {"grant": Grant.CLIENT_CREDENTIALS}
    google = {"provider": Provider.GOOGLE}
    world, america = "outlook.office365.com", "outlook.office365.us"
    assert asked(world) == ("https://outlook.office.com/POP.AccessAsUser.All",)
    assert asked(america) == ("https://outlook.office365.us/POP.AccessAsUser.All",)
    assert asked(world, **own) == ("https://outlook.office365.com/.default",)
    assert asked("pop.gmail.com", **google) == ("https://mail.google.com/",)
    assert asked("pop.gmail.com", **google, **own) == ("https://mail.google.com/",)


@pytest.mark.promise("A5")
def test_a_mailbox_that_the_person_may_not_open_is_named(
    stack: Stack, oauth_dovecot: Dovecot
) -> None:
    connection = stack.connection(credential(stack, oauth_dovecot), **at(oauth_dovecot))
    stack.authorise(connection)
    login = stack.logins.of(connection)
    other = replace(connection, username="bob@example.org")
    with pytest.raises(NeedsAuthorisation) as refused:
        open_mailbox(other, login, read_timeout_s=20)
    assert refused.value.code == "token-refused"
    assert any("AUTH XOAUTH2" in line for line in refused.value.transcript)


@pytest.mark.promise("A5")
def test_pop3_switched_off_is_told_apart() -> None:
    refused: Exception | None = server_answers.of_login(
        "[SYS/PERM] Your account is not enabled for POP access. Please visit your Gmail settings "
        "page and enable your account for POP access.",
        token=True,
    )
    assert isinstance(refused, NeedsPerson)
    assert refused.code == "pop-disabled"


@pytest.mark.promise("A4")
def test_a_refused_token_is_renewed_once_over_pop3(stack: Stack, oauth_dovecot: Dovecot) -> None:
    connection = stack.connection(credential(stack, oauth_dovecot), **at(oauth_dovecot))
    stack.authorise(connection)
    login = stack.logins.of(connection)
    assert login.access_token is not None
    given: list[bool] = []
    good = login.access_token

    def first_a_spoilt_one(renew: bool) -> str:
        given.append(renew)
        return good(renew) if renew else "spoilt"

    mailbox = open_mailbox(
        connection, replace(login, access_token=first_a_spoilt_one), read_timeout_s=20
    )
    mailbox.close()
    assert given == [False, True]
