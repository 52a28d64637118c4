"""The clouds that Microsoft runs: where to log in, which hosts to talk to, which scopes to ask for.

One row decides the authority, the Graph host, the IMAP host and the scopes together, so that a
mailbox of a national cloud is never asked with a token of another. Sources: "Microsoft Entra
authentication and national clouds", "Microsoft Graph national cloud deployments" and "Authenticate
an IMAP, POP or SMTP connection using OAuth" (learn.microsoft.com). Hosts that those pages do not
name (the IMAP host of the DoD cloud) are what Exchange Online's address list gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.connections import Connection, Mode
from shared.credentials import Credential, Grant, Provider
from shared.errors import InvalidInput

GOOGLE_SCOPE: Final = "https://mail.google.com/"
#: For service accounts over IMAP: the same access, and every label of the mailbox is shown.
GOOGLE_DELEGATED_SCOPE: Final = "https://www.googleapis.com/auth/gmail.imap_admin"


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
)
_BY_KEY: Final = {cloud.key: cloud for cloud in CLOUDS}


def cloud_named(key: str) -> Cloud:
    """The cloud of that key. Raises InvalidInput."""
    try:
        return _BY_KEY[key or "global"]
    except KeyError:
        raise InvalidInput(
            f"There is no cloud {key!r}.", field="cloud", hint=f"One of: {', '.join(_BY_KEY)}."
        ) from None


def hosts(mode: Mode) -> tuple[tuple[str, str], ...]:
    """What the form offers as host of a Microsoft connection: (host, title), the default first."""
    return tuple((_host(cloud, mode), cloud.title) for cloud in CLOUDS)


def cloud_of(connection: Connection, credential: Credential) -> Cloud:
    """The cloud that a connection is in: that of its host where we know it, else its credential's.

    A host typed freely (a gateway, a new cloud) leaves the cloud to the credential.
    """
    host = (connection.host_override or connection.host).partition(":")[0].lower()
    for cloud in CLOUDS:
        if host in (cloud.graph, cloud.imap, cloud.outlook):
            return cloud
    return cloud_named(credential.cloud)


def endpoint(connection: Connection, credential: Credential) -> tuple[str, int]:
    """Host and port that a connection with OAuth2 really talks to.

    The credential's settings may name a gateway for all its connections: `imap_host`,
    `graph_host`; the host typed in at the connection goes before them.
    """
    if connection.mode is Mode.POP3:
        return connection.endpoint
    graph = connection.mode is Mode.MICROSOFT_GRAPH
    default = 443 if graph else 993
    typed = connection.host_override or ""
    if connection.mode is Mode.GOOGLE_IMAP:
        typed, standard = "", connection.endpoint[0]
    else:
        cloud = cloud_of(connection, credential)
        standard = _host(cloud, connection.mode)
        if typed.partition(":")[0].lower() in (cloud.graph, cloud.imap, cloud.outlook):
            typed = ""  # a cloud was chosen, not a machine: the mode says which of its hosts
    text = typed or credential.setting("graph_host" if graph else "imap_host") or standard
    host, _, port = text.partition(":")
    return host, int(port or default)


def scopes(connection: Connection, credential: Credential) -> tuple[str, ...]:
    """What a token for this connection must be good for.

    Delegated: the mail scope of the protocol (with `.Shared` for a shared mailbox in Graph).
    Client credentials: the resource's `/.default`, which stands for every permission an
    administrator consented to; Google's service accounts name theirs.
    """
    if credential.provider is Provider.GOOGLE:
        own = credential.grant is Grant.CLIENT_CREDENTIALS and connection.mode is not Mode.POP3
        return (GOOGLE_DELEGATED_SCOPE if own else GOOGLE_SCOPE,)
    cloud = cloud_of(connection, credential)
    graph = connection.mode is Mode.MICROSOFT_GRAPH
    if credential.grant is Grant.CLIENT_CREDENTIALS:
        imap = "outlook.office365.com" if cloud.key == "global" else cloud.outlook
        return (f"https://{cloud.graph if graph else imap}/.default",)
    if not graph:
        protocol = "POP" if connection.mode is Mode.POP3 else "IMAP"
        return (f"https://{cloud.outlook}/{protocol}.AccessAsUser.All",)
    shared = ".Shared" if connection.shared_mailbox else ""
    return (f"https://{cloud.graph}/Mail.ReadWrite{shared}",)


def authority(connection: Connection | None, credential: Credential) -> str:
    """The address of the authorisation server: `https://<login host>/<tenant>` for Microsoft."""
    cloud = cloud_of(connection, credential) if connection else cloud_named(credential.cloud)
    tenant = credential.tenant or "organizations"
    return f"https://{cloud.login}/{tenant}"


def offers_permanent_delete(graph_host: str) -> bool:
    """Whether Graph at this host has message: permanentDelete; of a gateway we assume it."""
    return all(cloud.permanent_delete for cloud in CLOUDS if cloud.graph == graph_host.lower())


def _host(cloud: Cloud, mode: Mode) -> str:
    return cloud.graph if mode is Mode.MICROSOFT_GRAPH else cloud.imap
