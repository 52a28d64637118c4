"""The kinds of mailboxes: one `MailboxKind` a mode, asked by everything that differs between them.

A new kind is an entry here, a package in `shared.mailbox` with its opener in
`shared/mailbox/open.py` (unless it speaks a protocol that is there), and a word in the CHECK of the
schema: forms, API, files of `posthouse apply`, the command line and the fetcher ask this registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal


class Mode(StrEnum):
    POP3 = "pop3"
    IMAP = "imap"
    GOOGLE_IMAP = "google-imap"
    MICROSOFT_IMAP = "microsoft-imap"
    MICROSOFT_GRAPH = "microsoft-graph"


class Provider(StrEnum):
    """Whose OAuth2 credentials there are."""

    GOOGLE = "google"
    MICROSOFT = "microsoft"


class TransportSecurity(StrEnum):
    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class Feature(StrEnum):
    """What a kind may have; a field of a connection says which of these it belongs to."""

    SERVER = "server"  # a mail server that the administrator names, with a password of its own
    CREDENTIAL = "credential"  # OAuth2
    FOLDERS = "folders"  # and a read flag
    SHARED = "shared"  # mailboxes that somebody opens with their own login
    CLOUDS = "clouds"  # the host may be one of other clouds, or a gateway
    PUSH = "push"
    PERMANENT_DELETE = "permanent-delete"


#: A token is asked for when the mail server has greeted.
_LINES: Final = ("dns", "tcp", "tls", "greeting", "authorisation", "login", "folder")
_REQUESTS: Final = ("authorisation", "dns", "tcp", "tls", "login", "folder")
#: For service accounts over IMAP: the same access, and every label of the mailbox is shown.
_GOOGLE_DELEGATED: Final = "https://www.googleapis.com/auth/gmail.imap_admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxKind:
    """What a mode is. `protocol` names the opener (`shared.mailbox.open`)."""

    mode: Mode
    title: str
    protocol: str
    features: frozenset[Feature]
    #: Where the administrator names no port: of servers of their own by security, else `port`.
    ports: Mapping[TransportSecurity, int] = field(default_factory=dict)
    #: Where the mailbox is, unless the connection names its server.
    host: str = ""
    port: int = 0
    #: Whose credentials it logs in with, always; None: a password, or any provider's credential.
    provider: Provider | None = None
    #: The setting of a credential that names a gateway for this kind.
    gateway: str = ""
    #: Which of a Microsoft cloud's services its tokens are for, and what they must permit there;
    #: the second permission is that for shared mailboxes.
    service: Literal["outlook", "graph"] = "outlook"
    permissions: tuple[str, str] = ("", "")
    #: The scope of a Google service account, where it is another than that of a person.
    delegated_scope: str = ""
    #: Kinds of one family show the same mails of a mailbox under the same ids.
    family: str = "mail"
    #: Whether ids of mails are whole numbers, else texts.
    numbered: bool = True
    #: Whether no other server gives the id of a mail to another one.
    unique_keys: bool = False
    #: Whether a mail can be marked read; else `mark-read` leaves it as it is.
    marks_read: bool = True
    #: Whether marking a mail read may send a receipt to its sender.
    sends_receipts: bool = False
    #: Whether a session is of use for the next run; else it locks the mailbox and shows a snapshot.
    keeps_sessions: bool = True
    #: Whether it depends on the server from which mails a run can start.
    start_depends: bool = False
    #: Hosts that list only the oldest mails that were not retrieved yet, known without asking.
    window_hosts: frozenset[str] = frozenset()
    #: The steps of a test, in their order.
    steps: tuple[str, ...] = _LINES
    #: The one that is offered first for its provider's credentials.
    recommended: bool = False

    @property
    def has_server(self) -> bool:
        """Whether the administrator names the mail server."""
        return Feature.SERVER in self.features

    @property
    def has_folders(self) -> bool:
        return Feature.FOLDERS in self.features


_MAIL_PORTS: Final = {
    TransportSecurity.TLS: 993,
    TransportSecurity.STARTTLS: 143,
    TransportSecurity.NONE: 143,
}
_POP3_PORTS: Final = {
    TransportSecurity.TLS: 995,
    TransportSecurity.STARTTLS: 110,
    TransportSecurity.NONE: 110,
}
#: Every kind by its mode, in the order in which people choose.
KINDS: Final[Mapping[Mode, MailboxKind]] = {
    kind.mode: kind
    for kind in (
        MailboxKind(
            mode=Mode.IMAP,
            title="IMAP",
            protocol="imap",
            features=frozenset({Feature.SERVER, Feature.FOLDERS, Feature.SHARED, Feature.PUSH}),
            ports=_MAIL_PORTS,
            gateway="imap_host",
            permissions=("IMAP.AccessAsUser.All", "IMAP.AccessAsUser.All"),
        ),
        MailboxKind(
            mode=Mode.POP3,
            title="POP3",
            protocol="pop3",
            # In place of the password: Google and Microsoft take OAuth2 over POP3 as well.
            features=frozenset({Feature.SERVER, Feature.CREDENTIAL}),
            ports=_POP3_PORTS,
            gateway="pop3_host",
            permissions=("POP.AccessAsUser.All", "POP.AccessAsUser.All"),
            family="pop3",
            numbered=False,
            marks_read=False,
            keeps_sessions=False,
            start_depends=True,
            window_hosts=frozenset({"pop.gmail.com", "pop.googlemail.com"}),
        ),
        MailboxKind(
            mode=Mode.GOOGLE_IMAP,
            title="Google",
            protocol="imap",
            features=frozenset({Feature.CREDENTIAL, Feature.FOLDERS, Feature.PUSH}),
            host="imap.gmail.com",
            port=993,
            provider=Provider.GOOGLE,
            gateway="imap_host",
            delegated_scope=_GOOGLE_DELEGATED,
            recommended=True,
        ),
        MailboxKind(
            mode=Mode.MICROSOFT_IMAP,
            title="Microsoft 365 (IMAP)",
            protocol="imap",
            features=frozenset(
                {
                    Feature.CREDENTIAL,
                    Feature.FOLDERS,
                    Feature.SHARED,
                    Feature.CLOUDS,
                    Feature.PUSH,
                }
            ),
            host="outlook.office365.com",
            port=993,
            provider=Provider.MICROSOFT,
            gateway="imap_host",
            permissions=("IMAP.AccessAsUser.All", "IMAP.AccessAsUser.All"),
        ),
        MailboxKind(
            mode=Mode.MICROSOFT_GRAPH,
            title="Microsoft 365 (Graph)",
            protocol="graph",
            features=frozenset(
                {
                    Feature.CREDENTIAL,
                    Feature.FOLDERS,
                    Feature.SHARED,
                    Feature.CLOUDS,
                    Feature.PERMANENT_DELETE,
                }
            ),
            host="graph.microsoft.com",
            port=443,
            provider=Provider.MICROSOFT,
            gateway="graph_host",
            service="graph",
            permissions=("Mail.ReadWrite", "Mail.ReadWrite.Shared"),
            numbered=False,
            unique_keys=True,
            sends_receipts=True,
            steps=_REQUESTS,
            recommended=True,
        ),
    )
}


def kind_named(mode: str) -> MailboxKind | None:
    """The kind of this mode; None where it is none."""
    return KINDS[Mode(mode)] if mode in set(Mode) else None


def kinds_with(feature: Feature) -> list[MailboxKind]:
    """The kinds that have it, in their order."""
    return [kind for kind in KINDS.values() if feature in kind.features]


def recommended_for(provider: Provider) -> MailboxKind:
    """The kind that is offered first for credentials of this provider."""
    own = [kind for kind in KINDS.values() if kind.provider is provider]
    return next((kind for kind in own if kind.recommended), own[0])
