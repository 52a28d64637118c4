"""One choice of cloud decides host, authority and scopes; what each credential needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared import microsoft_clouds
from shared.connections import Connection, Mode
from shared.credentials import Credential, Grant, Provider, check_settings, contradictions
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
        *(
            (
                f"outlook.sovcloud.{land}",
                f"login.sovcloud-identity.{land}",
                f"graph.svc.sovcloud.{land}",
                f"outlook.sovcloud.{land}",
            )
            for land in ("fr", "de", "sg")
        ),
    ],
)
def test_everything_follows_the_chosen_cloud(
    host: str | None, login: str, graph: str, imap: str
) -> None:
    by_graph, by_imap = replace(GRAPH, host_override=host), replace(IMAP, host_override=host)
    assert microsoft_clouds.endpoint(by_graph, LOGIN) == (graph, 443)
    assert microsoft_clouds.endpoint(by_imap, LOGIN) == (imap, 993)
    assert microsoft_clouds.authority(by_graph, LOGIN) == f"https://{login}/contoso.example"
    assert microsoft_clouds.scopes(by_graph, LOGIN) == (f"https://{graph}/Mail.ReadWrite",)
    assert microsoft_clouds.scopes(by_graph, APPLICATION) == (f"https://{graph}/.default",)
    assert microsoft_clouds.scopes(by_imap, LOGIN)[0].endswith("/IMAP.AccessAsUser.All")


@pytest.mark.promise("M12")
def test_the_credential_names_the_cloud_where_the_host_does_not() -> None:
    national = replace(LOGIN, cloud="usgov")
    assert microsoft_clouds.endpoint(GRAPH, national) == ("graph.microsoft.us", 443)
    typed = replace(GRAPH, host_override="Gateway.example:8443")
    named = replace(national, settings={"graph_host": "gateway.example:8443"})
    assert microsoft_clouds.endpoint(typed, named) == ("Gateway.example", 8443)
    assert microsoft_clouds.endpoint(GRAPH, named) == ("gateway.example", 8443)
    assert microsoft_clouds.scopes(typed, named) == ("https://graph.microsoft.us/Mail.ReadWrite",)
    gateway = replace(LOGIN, settings={"imap_host": "imap.gateway.example:1993"})
    assert microsoft_clouds.endpoint(IMAP, gateway) == ("imap.gateway.example", 1993)
    # A cloud's host that the credential names brings the cloud's scopes along.
    sovereign = replace(LOGIN, settings={"graph_host": "graph.svc.sovcloud.fr"})
    assert microsoft_clouds.scopes(GRAPH, sovereign) == (
        "https://graph.svc.sovcloud.fr/Mail.ReadWrite",
    )
    assert microsoft_clouds.authority(GRAPH, sovereign).startswith(
        "https://login.sovcloud-identity.fr/"
    )


GOOGLE = Connection(name="g", mode=Mode.GOOGLE_IMAP, username="a@gmail.com", credential_id=1)
POP3 = Connection(
    name="p",
    mode=Mode.POP3,
    host="outlook.office365.com",
    port=995,
    username="alice@example.org",
    credential_id=1,
)


@pytest.mark.promise("A1")
@pytest.mark.parametrize("credential", [LOGIN, APPLICATION], ids=["login", "application"])
@pytest.mark.parametrize(
    "connection",
    [
        replace(GRAPH, host_override="evil.example"),
        replace(GRAPH, host_override="graph.microsoft.com.evil.example"),
        replace(GRAPH, host_override="gateway.example:444"),
        replace(IMAP, host_override="gateway.example"),
        replace(POP3, host="evil.example"),
        replace(POP3, host="pop.gmail.com"),
    ],
    ids=lambda connection: f"{connection.mode} {connection.host_override or connection.host}",
)
def test_a_token_goes_to_the_clouds_hosts_and_to_those_that_the_credential_names(
    connection: Connection, credential: Credential
) -> None:
    """Whoever may edit a connection may not choose where the application's token goes."""
    gateway = replace(credential, settings={"graph_host": "gateway.example"})
    for one in (credential, gateway):
        with pytest.raises(InvalidInput) as refused:
            microsoft_clouds.endpoint(connection, one)
        assert refused.value.code == "host-not-of-credential"
        assert refused.value.field in ("host", "host_override")
    assert microsoft_clouds.endpoint(POP3, gateway) == ("outlook.office365.com", 995)


@pytest.mark.promise("A1")
def test_a_credential_may_be_limited_to_mailboxes_and_domains() -> None:
    limited = replace(LOGIN, settings={"mailboxes": "Info@Contoso.example, example.org"})
    microsoft_clouds.check_use(GRAPH, limited)
    microsoft_clouds.check_use(replace(GRAPH, shared_mailbox="info@contoso.example"), limited)
    microsoft_clouds.check_use(replace(GRAPH, username="ceo@contoso.example"), LOGIN)
    for mailbox in ("ceo@contoso.example", "x@sub.example.org", "a@example.org.evil"):
        with pytest.raises(InvalidInput) as refused:
            microsoft_clouds.check_use(replace(GRAPH, shared_mailbox=mailbox), limited)
        assert refused.value.code == "mailbox-not-of-credential"


@pytest.mark.promise("M11")
def test_a_shared_mailbox_needs_the_shared_scope() -> None:
    shared = replace(GRAPH, shared_mailbox="info@example.org")
    assert microsoft_clouds.scopes(shared, LOGIN) == (
        "https://graph.microsoft.com/Mail.ReadWrite.Shared",
    )


@pytest.mark.promise("M2")
def test_google_asks_for_mail_and_service_accounts_for_every_label() -> None:
    google = Connection(name="g", mode=Mode.GOOGLE_IMAP, username="a@gmail.com", credential_id=1)
    person = replace(LOGIN, provider=Provider.GOOGLE)
    robot = replace(APPLICATION, provider=Provider.GOOGLE)
    assert microsoft_clouds.endpoint(google, person) == ("imap.gmail.com", 993)
    assert microsoft_clouds.scopes(google, person) == ("https://mail.google.com/",)
    assert microsoft_clouds.scopes(google, robot) == (
        "https://www.googleapis.com/auth/gmail.imap_admin",
    )


@pytest.mark.promise("M12")
def test_only_the_worldwide_cloud_deletes_for_good() -> None:
    offers = {
        cloud.key: microsoft_clouds.offers_permanent_delete(cloud.graph)
        for cloud in microsoft_clouds.CLOUDS
    }
    assert [key for key, offered in offers.items() if offered] == ["global"]


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
    assert not [*contradictions(LOGIN), *contradictions(APPLICATION)]
    with pytest.raises(InvalidInput) as refused:
        check_settings(credential.settings)
        raise next(contradictions(credential))
    assert refused.value.field == field
