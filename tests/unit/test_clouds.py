"""One choice of cloud decides host, authority and scopes; what each credential needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared import clouds
from shared.connections import Connection, Mode
from shared.credentials import Credential, Grant, Provider, check
from shared.errors import InvalidInput

GRAPH = Connection(
    name="graph", mode=Mode.MICROSOFT_GRAPH, username="alice@example.org", credential_id=1
)
IMAP = replace(GRAPH, mode=Mode.MICROSOFT_IMAP)
LOGIN = Credential(
    name="entra",
    provider=Provider.MICROSOFT,
    client_id="id",
    has_client_secret=True,
    tenant="contoso.example",
)
APPLICATION = replace(LOGIN, grant=Grant.CLIENT_CREDENTIALS)


@pytest.mark.promise("M12")
@pytest.mark.parametrize(
    ("host", "login", "graph", "imap"),
    [
        (None, "login.microsoftonline.com", "graph.microsoft.com", "outlook.office365.com"),
        (
            "outlook.office365.us",
            "login.microsoftonline.us",
            "graph.microsoft.us",
            "outlook.office365.us",
        ),
        (
            "dod-graph.microsoft.us",
            "login.microsoftonline.us",
            "dod-graph.microsoft.us",
            "outlook-dod.office365.us",
        ),
        (
            "partner.outlook.cn",
            "login.partner.microsoftonline.cn",
            "microsoftgraph.chinacloudapi.cn",
            "partner.outlook.cn",
        ),
    ],
)
def test_everything_follows_the_chosen_cloud(
    host: str | None, login: str, graph: str, imap: str
) -> None:
    by_graph, by_imap = replace(GRAPH, host_override=host), replace(IMAP, host_override=host)
    assert clouds.endpoint(by_graph, LOGIN) == (graph, 443)
    assert clouds.endpoint(by_imap, LOGIN) == (imap, 993)
    assert clouds.authority(by_graph, LOGIN) == f"https://{login}/contoso.example"
    assert clouds.scopes(by_graph, LOGIN) == (f"https://{graph}/Mail.ReadWrite",)
    assert clouds.scopes(by_graph, APPLICATION) == (f"https://{graph}/.default",)
    assert clouds.scopes(by_imap, LOGIN)[0].endswith("/IMAP.AccessAsUser.All")


@pytest.mark.promise("M12")
def test_the_credential_names_the_cloud_where_the_host_does_not() -> None:
    national = replace(LOGIN, cloud="usgov")
    assert clouds.endpoint(GRAPH, national) == ("graph.microsoft.us", 443)
    typed = replace(GRAPH, host_override="gateway.example:8443")
    assert clouds.endpoint(typed, national) == ("gateway.example", 8443)
    assert clouds.scopes(typed, national) == ("https://graph.microsoft.us/Mail.ReadWrite",)
    gateway = replace(LOGIN, settings={"imap_host": "imap.gateway.example:1993"})
    assert clouds.endpoint(IMAP, gateway) == ("imap.gateway.example", 1993)


@pytest.mark.promise("M11")
def test_a_shared_mailbox_needs_the_shared_scope() -> None:
    shared = replace(GRAPH, shared_mailbox="info@example.org")
    assert clouds.scopes(shared, LOGIN) == ("https://graph.microsoft.com/Mail.ReadWrite.Shared",)


@pytest.mark.promise("M2")
def test_google_asks_for_mail_and_service_accounts_for_every_label() -> None:
    google = Connection(name="g", mode=Mode.GOOGLE_IMAP, username="a@gmail.com", credential_id=1)
    person = replace(LOGIN, provider=Provider.GOOGLE)
    robot = replace(APPLICATION, provider=Provider.GOOGLE)
    assert clouds.endpoint(google, person) == ("imap.gmail.com", 993)
    assert clouds.scopes(google, person) == ("https://mail.google.com/",)
    assert clouds.scopes(google, robot) == ("https://www.googleapis.com/auth/gmail.imap_admin",)


@pytest.mark.promise("M12")
def test_only_the_worldwide_cloud_deletes_for_good() -> None:
    offers = {cloud.key: clouds.offers_permanent_delete(cloud.graph) for cloud in clouds.CLOUDS}
    assert offers == {"global": True, "usgov": False, "usdod": False, "china": False}


@pytest.mark.promise("A1")
@pytest.mark.parametrize(
    ("credential", "field"),
    [
        (replace(LOGIN, client_id=""), "client_id"),
        (replace(LOGIN, has_client_secret=False), "client_secret"),
        (replace(APPLICATION, tenant=""), "tenant"),
        (replace(APPLICATION, tenant="organizations"), "tenant"),
        (replace(APPLICATION, provider=Provider.GOOGLE), "client_certificate"),
        (
            replace(
                LOGIN,
                provider=Provider.GOOGLE,
                has_client_secret=False,
                has_client_certificate=True,
            ),
            "client_secret",
        ),
        (replace(LOGIN, settings={"authority": "http://plain.example/t"}), "settings.authority"),
        (replace(LOGIN, settings={"graph_host": "https://x/y"}), "settings.graph_host"),
        (replace(LOGIN, settings={"verify": "no"}), "settings.verify"),
        (replace(LOGIN, settings={"ca_certificate": "trust me"}), "settings.ca_certificate"),
    ],
)
def test_what_a_credential_needs(credential: Credential, field: str) -> None:
    check(LOGIN)
    check(APPLICATION)
    with pytest.raises(InvalidInput) as refused:
        check(credential)
    assert refused.value.field == field
