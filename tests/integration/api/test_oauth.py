"""Credentials chosen for connections: they must fit, and application access is tested at once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from services.admin.auth.cookies import SESSION
from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_connections import problem
from tests.rig.logins import browser_session
from tests.servers.dovecot import Dovecot
from tests.servers.graph import GraphServer
from tests.servers.oidc import REDIRECT, OidcServer
from tests.servers.scripted import ScriptedServer

ALICE = "alice@example.org"


@pytest.fixture
def offered(api: Api, oidc: OidcServer, graph_server: GraphServer) -> Any:
    """Makes a credential at the test authorisation server, for the test Graph; returns its id."""
    graph_server.trust(oidc.public_key)
    oidc.settings(accessTokenTTL=3600)

    def offer(**changes: Any) -> int:
        body = {
            "name": f"credential {uuid.uuid4().hex[:8]}",
            "provider": "microsoft",
            "grant": "client-credentials",
            "client_id": oidc.client_id,
            "client_secret": oidc.client_secret,
            "settings": {
                "authority": oidc.issuer,
                "ca_certificate": oidc.ca,
                "graph_host": f"localhost:{graph_server.port}",
            },
        }
        answer = api.http.post("credentials", json=body | changes)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    return offer


def graph(credential: int, **changes: Any) -> dict[str, Any]:
    values = {"name": f"graph {uuid.uuid4().hex[:8]}", "mode": "microsoft-graph"}
    return values | {"username": ALICE, "credential_id": credential} | changes


@pytest.mark.promise("M14")
def test_no_token_is_said_to_be_there_before_the_mail_server_was_reached(
    api: Api, offered: Any, oidc: OidcServer
) -> None:
    where = {"authority": oidc.issuer, "ca_certificate": oidc.ca, "imap_host": "nowhere.invalid"}
    credential = offered(grant="authorization-code", settings=where)
    body = {"name": uuid.uuid4().hex, "mode": "microsoft-imap", "username": ALICE}
    body |= {"credential_id": credential, "host_override": "nowhere.invalid"}
    report = api.http.post("connections/test", json=body).json()
    assert [(step["name"], step["status"]) for step in report["steps"]] == [
        ("dns", "failed"),
        *((name, "skipped") for name in ("tcp", "tls", "greeting", "authorisation", "login")),
        ("folder", "skipped"),
    ]


@pytest.mark.promise("M14")
def test_where_tokens_come_from_is_not_taken_for_the_mail_server(api: Api, offered: Any) -> None:
    credential = offered(
        name="nobody gives tokens", settings={"authority": "https://login.nowhere.invalid/tenant"}
    )
    body = {"name": uuid.uuid4().hex, "mode": "microsoft-graph", "username": ALICE}
    asked = api.http.post("connections/test", json=body | {"credential_id": credential}).json()
    first, *others = asked["steps"]
    assert (first["name"], first["status"]) == ("authorisation", "failed")
    assert first["text"] == "There is no host named login.nowhere.invalid."
    assert "typing error" not in first["hint"]
    assert {step["status"] for step in others} == {"skipped"}


@pytest.mark.promise("A3")
def test_application_access_is_tested_when_the_credential_is_chosen(
    api: Api, offered: Any, graph_server: GraphServer
) -> None:
    graph_server.mailbox(ALICE).deliver([b"Subject: one\r\n\r\none\r\n"])
    answer = api.http.post("connections", json=graph(offered()))
    assert answer.status_code == 201, answer.text
    saved = answer.json()
    assert saved["access"]["ok"] is True
    assert (saved["access"]["total"], saved["access"]["unread"]) == (1, 1)
    assert saved["enabled"] is False
    path = f"connections/{saved['id']}"
    assert api.http.patch(path, json={"interval_minutes": 5}).json()["access"] is None
    wrong = offered(client_secret="not the secret")
    changed = api.http.patch(path, json={"credential_id": wrong})
    assert changed.status_code == 200, "it is told, and does not keep anybody from saving"
    report = changed.json()["access"]
    failed = [step for step in report["steps"] if step["status"] == "failed"]
    assert [(step["name"], step["code"]) for step in failed] == [
        ("authorisation", "client-secret-wrong")
    ]
    assert "does not accept the client secret" in changed.json()["notice"]
    assert api.http.patch(path, json={"credential_id": offered()}).json()["access"]["ok"] is True


@pytest.mark.promise("A3")
@pytest.mark.promise("A5")
def test_a_mailbox_that_the_application_may_not_open_is_told_when_it_is_typed(
    api: Api, offered: Any, graph_server: GraphServer
) -> None:
    graph_server.mailbox(ALICE)
    graph_server.mailbox("ceo@example.org")
    graph_server.access_policy = {ALICE}
    made = api.http.post("connections", json=graph(offered())).json()
    assert made["access"]["ok"] is True
    path = f"connections/{made['id']}"
    shared = api.http.patch(path, json={"shared_mailbox": "ceo@example.org"}).json()["access"]
    assert [s["code"] for s in shared["steps"] if s["status"] == "failed"] == ["access-policy"]
    # A token was had, and the server reached: it is the mailbox that is closed.
    assert [(s["name"], s["status"]) for s in shared["steps"]] == [
        ("authorisation", "ok"),
        ("dns", "ok"),
        ("tcp", "ok"),
        ("tls", "ok"),
        ("login", "failed"),
        ("folder", "skipped"),
    ]
    assert shared["steps"][4]["title"] == "Open the mailbox"
    nobody = api.http.patch(path, json={"shared_mailbox": "", "username": "x@example.org"})
    codes = [s["code"] for s in nobody.json()["access"]["steps"] if s["status"] == "failed"]
    assert codes == ["mailbox-missing"] or codes == ["access-policy"]


@pytest.mark.promise("A3")
def test_a_username_is_needed_for_application_access(api: Api, offered: Any) -> None:
    refused = problem(api.http.post("connections", json=graph(offered(), username="")), 422)
    assert refused["field"] == "username"


@pytest.mark.promise("A1")
@pytest.mark.parametrize(
    ("provider", "mode"), [("google", "microsoft-graph"), ("microsoft", "google-imap")]
)
def test_a_credential_of_another_provider_is_refused(
    api: Api, offered: Any, provider: str, mode: str
) -> None:
    credential = offered(provider=provider, grant="authorization-code")
    body = graph(credential, mode=mode)
    for path in ("connections", "connections/test"):
        refused = problem(api.http.post(path, json=body), 422)
        assert refused["field"] == "credential_id", path
        assert provider.title() in refused["detail"]


@pytest.mark.promise("A1")
def test_a_credential_that_is_not_there_is_refused(api: Api) -> None:
    refused = problem(api.http.post("connections", json=graph(999_999_999)), 422)
    assert refused["field"] == "credential_id"


@pytest.mark.promise("M2")
def test_pop3_with_a_credential_by_the_api(
    api: Api, offered: Any, oauth_dovecot: Dovecot, oidc: OidcServer
) -> None:
    """Tested as application access, too; what the server does not allow it says so."""
    body = {
        "name": f"pop3 {uuid.uuid4().hex[:8]}",
        "mode": "pop3",
        "host": "localhost",
        "port": oauth_dovecot.pop3s_port,
        "username": ALICE,
        "credential_id": offered(
            settings={
                "authority": oidc.issuer,
                "ca_certificate": oidc.ca,
                "pop3_host": f"localhost:{oauth_dovecot.pop3s_port}",
            }
        ),
    }
    saved = api.http.post("connections", json=body).json()
    names = [step["name"] for step in saved["access"]["steps"]]
    assert names == ["dns", "tcp", "tls", "greeting", "authorisation", "login", "folder"]
    assert saved["has_password"] is False
    refused = problem(api.http.patch(f"connections/{saved['id']}", json={"password": "x"}), 422)
    assert refused["field"] == "credential_id"
    changed = api.http.patch(
        f"connections/{saved['id']}", json={"password": "x", "credential_id": None}
    ).json()
    assert (changed["has_password"], changed["credential_id"]) == (True, None)


@pytest.mark.promise("A1")
@pytest.mark.promise("H5")
def test_when_a_client_certificate_ends_is_read_from_it(
    api: Api, offered: Any, oidc: OidcServer
) -> None:
    made = offered(client_secret="", client_certificate=oidc.client_certificate)
    ends = api.http.get(f"credentials/{made}").json()["secret_expires_at"]
    left = datetime.fromisoformat(ends) - datetime.now(UTC)
    assert timedelta(days=28) < left < timedelta(days=31)
    body = {"client_certificate": "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"}
    refused = problem(api.http.patch(f"credentials/{made}", json=body), 422)
    assert refused["field"] == "client_certificate"


@pytest.mark.promise("A2")
@pytest.mark.promise("A4")
def test_the_command_shows_who_authorised_and_takes_it_back(
    api: Api, offered: Any, oidc: OidcServer, posthouse: Posthouse
) -> None:
    made = api.http.post("connections", json=graph(offered(grant="authorization-code"))).json()
    assert made["access"] is None
    logins = api.admin.app_state.logins
    url = logins.start_authorisation(made["id"], session="one", redirect_uri=REDIRECT)
    logins.finish_authorisation(oidc.log_in(url), session="one", person="the admin")
    shown = posthouse("connections", "show", made["name"]).out
    assert f"as {ALICE} by the admin" in shown
    revoked = posthouse("connections", "revoke", made["name"], "--yes")
    assert revoked.code == 0, revoked.err
    assert "no longer valid" in posthouse("connections", "show", made["name"]).out
    assert api.http.get(f"connections/{made['id']}").json()["authorisation"]["valid"] is False


def authorised(api: Api, oidc: OidcServer, credential: int, **fields: Any) -> dict[str, Any]:
    """A connection that somebody authorised."""
    made: dict[str, Any] = api.http.post("connections", json=graph(credential, **fields)).json()
    logins = api.admin.app_state.logins
    url = logins.start_authorisation(made["id"], session="one", redirect_uri=REDIRECT)
    logins.finish_authorisation(oidc.log_in(url), session="one", person="the admin")
    return made


@pytest.mark.promise("T1")
@pytest.mark.parametrize("what", ["host", "account", "credential", "mode"])
def test_what_was_stored_for_another_host_or_account_is_dropped(
    api: Api, offered: Any, oidc: OidcServer, what: str
) -> None:
    """Else the tokens of one host would go to another that an operator chose."""
    made = authorised(api, oidc, offered(grant="authorization-code"))
    path = f"connections/{made['id']}"
    assert api.http.patch(path, json={"description": "kept"}).status_code == 200
    stored = "SELECT cache FROM authorisation WHERE connection_id = %(id)s AND cache IS NOT NULL"
    assert api.execute(stored, id=made["id"])
    changes = {
        "host": {"host_override": "graph.microsoft.us"},
        "account": {"username": "bob@example.org"},
        "credential": {"credential_id": offered(grant="authorization-code")},
        "mode": {"mode": "microsoft-imap"},
    }
    answer = api.http.patch(path, json=changes[what])
    assert answer.status_code == 200, answer.text
    assert not api.execute(stored, id=made["id"])
    assert not (answer.json()["authorisation"] or {}).get("valid")


@pytest.mark.promise("T1")
def test_a_stored_password_is_not_sent_to_a_host_that_somebody_typed(api: Api) -> None:
    made = api.create(password="typed for this host")
    with ScriptedServer(lambda talk: talk.say_nothing()) as mine:
        moved = {"host": "127.0.0.1", "port": mine.port, "security": "none"}
        path = f"connections/{made['id']}"
        assert problem(api.http.patch(path, json=moved), 422)["field"] == "password"
        assert api.http.get(path).json()["host"] == made["host"]
        assert mine.connections == 0


@pytest.mark.promise("A4")
def test_taking_back_asks_on_a_page_where_others_live_on_the_same_grant(
    api: Api, offered: Any, oidc: OidcServer
) -> None:
    credential = offered(grant="authorization-code")
    one = authorised(api, oidc, credential)
    other = authorised(api, oidc, credential, name=f"invoices {uuid.uuid4().hex[:8]}")
    ((person,),) = api.execute(
        "INSERT INTO person (name, role) VALUES (%(n)s, 'operator') RETURNING id",
        n=f"operator {uuid.uuid4().hex[:6]}",
    )
    vault = api.admin.app_state.vault
    cookie, signed_in = browser_session(api.database, vault, TOKEN, person)
    form = {"csrf": signed_in.csrf}
    path = f"/connections/{one['id']}/revoke"

    def valid(made: dict[str, Any]) -> bool:
        found = api.http.get(f"connections/{made['id']}").json()["authorisation"]
        return bool(found and found["valid"])

    with httpx.Client(base_url=api.url, cookies={SESSION: cookie}, timeout=60) as browser:
        asked = browser.post(path, data=form)
        assert other["name"] in asked.text
        assert "Forget it here only" in asked.text
        assert valid(one) and valid(other)
        assert browser.post(path, data={**form, "others": "keep"}).status_code == 303
    assert not valid(one)
    assert valid(other)


@pytest.mark.promise("H6")
@pytest.mark.promise("M2")
def test_apply_takes_pop3_with_a_credential_and_back_to_a_password(
    api: Api, offered: Any, posthouse: Posthouse, tmp_path: Path
) -> None:
    credential = api.http.get(f"credentials/{offered(grant='authorization-code')}").json()["name"]
    (tmp_path / "password").write_text("secret")
    name = f"declared {uuid.uuid4().hex[:8]}"
    entry = {"name": name, "mode": "pop3", "host": "outlook.office365.com", "username": ALICE}
    path = tmp_path / "posthouse.yaml"

    def applied(**more: Any) -> dict[str, Any]:
        path.write_text(yaml.safe_dump({"version": 1, "connections": [entry | more]}))
        ran = posthouse("apply", "-f", str(path), "--json")
        assert ran.code == 0, ran.out + ran.err
        found: dict[str, Any] = api.http.get("connections", params={"q": name}).json()["items"][0]
        return found

    there = applied(credential=credential)
    assert (there["credential_id"] is None, there["has_password"]) == (False, False)
    there = applied(password="file:password")
    assert (there["credential_id"] is None, there["has_password"]) == (True, True)
    there = applied(credential=credential)
    assert (there["credential_id"] is None, there["has_password"]) == (False, False)


@pytest.mark.promise("A1")
def test_a_token_is_not_sent_to_a_host_that_somebody_typed(
    api: Api, offered: Any, oidc: OidcServer
) -> None:
    """Who may edit and test connections must not have the application's token sent to himself."""
    credential = offered()
    with ScriptedServer(lambda talk: talk.say_nothing()) as mine:
        typed = graph(credential, host_override=f"127.0.0.1:{mine.port}")
        pop3 = graph(credential, mode="pop3", host="127.0.0.1", port=mine.port)
        for body, field in ((typed, "host_override"), (pop3, "host")):
            for path in ("connections/test", "connections"):
                refused = problem(api.http.post(path, json=body), 422)
                assert refused["field"] == field, path
        unverified = {**pop3, "verify_certificate": False}
        refused = problem(api.http.post("connections/test", json=unverified), 422)
        assert refused["field"] == "verify_certificate"
        assert mine.connections == 0


@pytest.mark.promise("A1")
def test_an_admin_consent_link_leads_there_and_back(api: Api) -> None:
    body = {
        "name": f"credential {uuid.uuid4().hex[:8]}",
        "provider": "microsoft",
        "grant": "client-credentials",
        "client_id": "0f0f",
        "client_secret": "secret",
        "tenant": "contoso.example",
        "cloud": "delos",
    }
    made = api.http.post("credentials", json=body).json()
    link = urlsplit(made["admin_consent_url"])
    assert (link.hostname, link.path) == (
        "login.sovcloud-identity.de",
        "/contoso.example/v2.0/adminconsent",
    )
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    assert query["redirect_uri"] == made["redirect_uri"]
    assert query["scope"] == "https://graph.svc.sovcloud.de/.default"
    back = {"state": query["state"], "admin_consent": "True", "tenant": "t-1"}
    landed = api.http.get("oauth/callback", params=back).json()
    assert landed["consented"] is True and "t-1" in landed["detail"]
    back = {"state": query["state"], "error": "access_denied", "error_description": "Not now."}
    landed = api.http.get("oauth/callback", params=back).json()
    assert landed == {"consented": False, "detail": "The consent was not given: Not now."}


def test_marking_read_over_graph_says_that_exchange_may_send_receipts(
    api: Api, offered: Any
) -> None:
    made = api.http.post("connections", json=graph(offered())).json()

    def codes() -> set[str]:
        shown = api.http.get(f"connections/{made['id']}").json()
        return {warning["code"] for warning in shown["warnings"]}

    assert "read-receipts" in codes()
    api.http.patch(f"connections/{made['id']}", json={"after_download": "delete"})
    assert "read-receipts" not in codes()
