"""The clouds that Microsoft runs: where to log in, which hosts to talk to, which scopes to ask for.

One row decides the authority, the Graph host, the IMAP host and the scopes together, so that a
mailbox of a national cloud is never asked with a token of another. Sources: "Microsoft Entra
authentication and national clouds", "Microsoft Graph national cloud deployments" and "Authenticate
an IMAP, POP or SMTP connection using OAuth" (learn.microsoft.com); Bleu, Delos and GovSG as msal
and the Graph PowerShell SDK know them. Hosts that those do not name (the IMAP hosts of the DoD and
of the sovereign clouds) are what Exchange Online's address lists and tools give, and unverified.

A token goes to these hosts, or to those that the credential names, and nowhere else (`endpoint`):
who may edit connections may not choose where it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from shared.connections import Connection
from shared.credentials import Credential, Grant, Provider
from shared.errors import InvalidInput
from shared.kinds import KINDS, TransportSecurity

GOOGLE_SCOPE: Final = "https://mail.google.com/"
_GOOGLE_LOGIN_HOSTS: Final = frozenset({"accounts.google.com", "oauth2.googleapis.com"})


@dataclass(frozen=True, slots=True)
class Cloud:
    """`login`, `graph` and `imap` are hosts; `outlook` is the resource that IMAP scopes name.

    `permanent_delete` says whether Graph offers message: permanentDelete there.
    """

    key: str
    title: str
    login: str
    graph: str
    imap: str
    outlook: str
    permanent_delete: bool = False

    def host_of(self, service: Literal["outlook", "graph"]) -> str:
        """Where a kind of mailbox is that uses this service (`shared.kinds`)."""
        return self.graph if service == "graph" else self.imap

    def resource_of(self, service: Literal["outlook", "graph"]) -> str:
        """What tokens for the service name."""
        return self.graph if service == "graph" else self.outlook


CLOUDS: Final = (
    Cloud(
        "global",
        "Worldwide",
        "login.microsoftonline.com",
        "graph.microsoft.com",
        "outlook.office365.com",
        "outlook.office.com",
        permanent_delete=True,
    ),
    Cloud(
        "usgov",
        "US Government (GCC High)",
        "login.microsoftonline.us",
        "graph.microsoft.us",
        "outlook.office365.us",
        "outlook.office365.us",
    ),
    Cloud(
        "usdod",
        "US Government (DoD)",
        "login.microsoftonline.us",
        "dod-graph.microsoft.us",
        "outlook-dod.office365.us",
        "outlook-dod.office365.us",
    ),
    Cloud(
        "china",
        "China (21Vianet)",
        "login.partner.microsoftonline.cn",
        "microsoftgraph.chinacloudapi.cn",
        "partner.outlook.cn",
        "partner.outlook.cn",
    ),
    Cloud(
        "bleu",
        "France (Bleu)",
        "login.sovcloud-identity.fr",
        "graph.svc.sovcloud.fr",
        "outlook.sovcloud.fr",
        "outlook.sovcloud.fr",
    ),
    Cloud(
        "delos",
        "Germany (Delos)",
        "login.sovcloud-identity.de",
        "graph.svc.sovcloud.de",
        "outlook.sovcloud.de",
        "outlook.sovcloud.de",
    ),
    Cloud(
        "govsg",
        "Singapore (GovSG)",
        "login.sovcloud-identity.sg",
        "graph.svc.sovcloud.sg",
        "outlook.sovcloud.sg",
        "outlook.sovcloud.sg",
    ),
)
_GOOGLE_HOSTS: Final = frozenset(
    {kind.host for kind in KINDS.values() if kind.provider is Provider.GOOGLE} | {"pop.gmail.com"}
)
#: What applications ask for in the worldwide cloud, in place of `outlook`.
_WORLDWIDE_OUTLOOK: Final = "outlook.office365.com"
_BY_KEY: Final = {cloud.key: cloud for cloud in CLOUDS}


def cloud_named(key: str) -> Cloud:
    """The cloud of that key. Raises InvalidInput."""
    try:
        return _BY_KEY[key or "global"]
    except KeyError:
        raise InvalidInput(
            f"There is no cloud {key!r}.", field="cloud", hint=f"One of: {', '.join(_BY_KEY)}."
        ) from None


class ForeignHost(InvalidInput):
    """An OAuth2 token would go to a host that neither the clouds nor the credential name."""

    code = "host-not-of-credential"


class MailboxNotCovered(InvalidInput):
    """The credential is limited to other mailboxes."""

    code = "mailbox-not-of-credential"


def cloud_of(connection: Connection, credential: Credential) -> Cloud:
    """The cloud that a connection is in: that of its host where we know it, else of the host that
    the credential names, else the credential's."""
    named = (credential.setting("graph_host"), credential.setting("imap_host"))
    for text in (connection.host_override or connection.host, *named):
        host = text.partition(":")[0].lower()
        for cloud in CLOUDS:
            if host in (cloud.graph, cloud.imap, cloud.outlook):
                return cloud
    return cloud_named(credential.cloud)


def endpoint(connection: Connection, credential: Credential) -> tuple[str, int]:
    """Host and port that a connection with OAuth2 really talks to, and its tokens go to.

    The credential's settings may name a gateway for all its connections (`imap_host`,
    `graph_host`, `pop3_host`); a host typed in at the connection is a cloud's or that one.
    Raises ForeignHost.
    """
    google = credential.provider is Provider.GOOGLE
    cloud = cloud_of(connection, credential)
    own = _GOOGLE_HOSTS if google else {cloud.graph, cloud.imap, cloud.outlook}
    kind = connection.kind
    setting = kind.gateway
    if kind.has_server:
        host, port = connection.endpoint
        usual = kind.ports[TransportSecurity.TLS]
        if host.lower() not in own and not _is_named(host, port, credential, setting, usual):
            raise _foreign(f"{host}:{port}", "host")
        return host, port
    default = kind.port
    typed = "" if google else connection.host_override or ""
    host, port = _split(typed, default)
    if host.lower() in own:
        typed = ""  # a cloud was chosen, not a machine: the mode says which of its hosts
    elif typed and not _is_named(host, port, credential, setting, default):
        raise _foreign(typed, "host_override")
    standard = kind.host if google else cloud.host_of(kind.service)
    return _split(typed or credential.setting(setting) or standard, default)


def check_use(connection: Connection, credential: Credential) -> None:
    """Raises ForeignHost or MailboxNotCovered where the credential is not for this connection."""
    endpoint(connection, credential)
    mailbox = connection.mailbox.strip().casefold()
    allowed = [one.casefold() for one in credential.setting("mailboxes").replace(",", " ").split()]
    domain = mailbox.partition("@")[2]
    if allowed and not any(mailbox == one or domain == one.lstrip("@") for one in allowed):
        raise MailboxNotCovered(
            f"The credential {credential.name!r} is not for the mailbox {connection.mailbox}.",
            field="shared_mailbox" if connection.shared_mailbox else "username",
            hint="Who manages credentials adds the address or its domain to it (Mailboxes).",
        )


def login_hosts() -> frozenset[str]:
    """The authorisation servers that are known by themselves."""
    return frozenset({cloud.login for cloud in CLOUDS} | _GOOGLE_LOGIN_HOSTS)


def _is_named(host: str, port: int, credential: Credential, setting: str, default: int) -> bool:
    named = credential.setting(setting)
    return bool(named) and (host.lower(), port) == _split(named.lower(), default)


def _split(text: str, default: int) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return host, int(port or default)


def _foreign(where: str, field: str) -> ForeignHost:
    return ForeignHost(
        f"The credential's tokens are not for {where}.",
        field=field,
        hint="Tokens go to the provider's own hosts. A gateway of your own is named in the "
        "credential (Gateways and private clouds), by who manages credentials.",
    )


def scopes(connection: Connection, credential: Credential) -> tuple[str, ...]:
    """What a token for this connection must be good for.

    Delegated: the mail scope of the protocol (with `.Shared` for a shared mailbox in Graph).
    Client credentials: the resource's `/.default`, which stands for every permission an
    administrator consented to; Google's service accounts name theirs.
    """
    if credential.provider is Provider.GOOGLE:
        application = credential.grant is Grant.CLIENT_CREDENTIALS
        return ((application and connection.kind.delegated_scope) or GOOGLE_SCOPE,)
    cloud, kind = cloud_of(connection, credential), connection.kind
    if credential.grant is Grant.CLIENT_CREDENTIALS:
        whole = kind.service == "outlook" and cloud.key == "global"
        resource = _WORLDWIDE_OUTLOOK if whole else cloud.resource_of(kind.service)
        return (f"https://{resource}/.default",)
    own, shared = kind.permissions
    permission = shared if connection.shared_mailbox else own
    return (f"https://{cloud.resource_of(kind.service)}/{permission}",)


def authority(connection: Connection | None, credential: Credential) -> str:
    """The address of the authorisation server: `https://<login host>/<tenant>` for Microsoft."""
    cloud = cloud_of(connection, credential) if connection else cloud_named(credential.cloud)
    tenant = credential.tenant or "organizations"
    return f"https://{cloud.login}/{tenant}"


def offers_permanent_delete(graph_host: str) -> bool:
    """Whether Graph at this host has message: permanentDelete; of a gateway we assume it."""
    return all(cloud.permanent_delete for cloud in CLOUDS if cloud.graph == graph_host.lower())
