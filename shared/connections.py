"""What an administrator describes: a connection to one folder of one mailbox.

Pure values. What each field may hold is described here once, in its annotation; what people change
goes through `shared.connection_editing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from shared.connection_field_checks import (
    LONGEST_TAG,
    MOST_TAGS,
    FolderName,
    authserv_ids,
    host_alone,
    host_and_port,
    pem,
    tags,
)
from shared.field_descriptions import (
    LINE,
    LINES,
    About,
    Empty,
    FormatText,
    Id,
    Ids,
    Truth,
    Whole,
)
from shared.kinds import KINDS, Feature, MailboxKind, Provider
from shared.kinds import Mode as Mode  # the type of a field, and so is the next
from shared.kinds import TransportSecurity as TransportSecurity
from shared.mail.authentication import GMAIL, MICROSOFT


class AfterDownload(StrEnum):
    MARK_READ = "mark-read"
    DELETE = "delete"


class Selection(StrEnum):
    UNREAD = "unread"
    ALL = "all"


class Health(StrEnum):
    """What the list shows: green, red, yellow, grey, and red with a button."""

    WORKING = "working"
    FAILING = "failing"
    UNUSED = "unused"
    DISABLED = "disabled"
    NEEDS_AUTHORISATION = "needs-authorisation"
    PENDING = "pending"  # enabled, not yet polled
    OVERDUE = "overdue"  # its turn is long over, and nobody took it


#: Whose Authentication-Results a mailbox's own provider writes.
_BELIEVED: Final = {None: (), Provider.GOOGLE: GMAIL, Provider.MICROSOFT: MICROSOFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run failed, as administrators read it; in Postgres it is JSON.

    `message` is a sentence, `hint` what to do, `code` is stable for programs, `step` where it
    happened (DNS, TCP, TLS, login …). `log` has the protocol's lines, secrets removed.
    """

    message: str
    code: str = ""
    step: str = ""
    hint: str = ""
    log: tuple[str, ...] = ()
    at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = _FAILURE.dump_python(self, mode="json")
        return made

    @staticmethod
    def from_json(stored: Mapping[str, Any] | None) -> Failure | None:
        """What `to_json` made; None where nothing failed."""
        return None if stored is None else _FAILURE.validate_python(dict(stored))


_FAILURE: Final = TypeAdapter(Failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One mailbox folder to be watched, as the administrator described it.

    `folder` is empty for the inbox, else the exact name with `/` between levels. `shared_mailbox`
    is None where the switch is off. `password` and `client_certificate` (PEM, with its key) are
    never part of this value: they stay sealed in storage until a mailbox is opened. `timeout_ms`
    bounds connection attempts.
    """

    id: int = 0
    name: Annotated[str, Field(min_length=1, max_length=200), LINE, About(label="Name")]
    description: Annotated[str, Field(max_length=2000), LINES, About(label="Description")] = ""
    tags: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=LONGEST_TAG)], ...],
        Field(max_length=MOST_TAGS),
        BeforeValidator(tags),
        About(label="Tags", help="what lists are filtered by and rights given by, in lower case"),
    ] = ()
    mode: Annotated[Mode, About(label="Kind of mailbox", estimates=True)]
    host: Annotated[
        str,
        Field(min_length=1, max_length=253),
        LINE,
        AfterValidator(host_alone),
        About(label="Mail server", feature=Feature.SERVER, estimates=True, unset=True),
    ] = ""
    port: Annotated[
        Annotated[Whole, Field(ge=1, le=65535)],
        Empty(0, other=(0,)),
        About(
            label="Port",
            help="default by mode and security",
            feature=Feature.SERVER,
            estimates=True,
            unset=True,
        ),
    ] = 0
    security: Annotated[TransportSecurity, About(label="Encryption", feature=Feature.SERVER)] = (
        TransportSecurity.TLS
    )
    verify_certificate: Annotated[
        Truth, About(label="Do not verify the server's certificate", feature=Feature.SERVER)
    ] = True
    ca_certificate: Annotated[
        Annotated[str, Field(max_length=65_536), LINES, AfterValidator(pem)] | None,
        Empty(),
        About(label="Private certificate authority", help="PEM", feature=Feature.SERVER),
    ] = None
    username: Annotated[
        str,
        Field(min_length=1, max_length=200),
        LINE,
        About(label="Username", estimates=True, needed=True),
    ] = ""
    has_password: bool = False
    has_client_certificate: bool = False
    credential_id: Annotated[
        Id | None,
        Empty(),
        About(
            label="OAuth2 credential",
            help="with the first of them in place of the password",
            feature=Feature.CREDENTIAL,
        ),
    ] = None
    interval_minutes: Annotated[
        Whole,
        Field(ge=1, le=60),
        About(label="Look for new mails every", unit="whole minutes"),
    ] = 1
    folder: Annotated[
        str,
        Field(max_length=1000),
        FormatText(strip=False),
        FolderName(),
        About(
            label="Folder",
            help="Empty: the inbox; / between levels",
            feature=Feature.FOLDERS,
            estimates=True,
        ),
    ] = ""
    certificate_ids: Annotated[Ids, About(label="Certificates")] = ()
    after_download: Annotated[AfterDownload, About(label="After download", estimates=True)] = (
        AfterDownload.MARK_READ
    )
    timeout_ms: Annotated[
        Whole,
        Field(ge=1, le=60_000),
        About(label="Connection timeout", unit="milliseconds"),
    ] = 10_000
    selection: Annotated[
        Selection, About(label="Which mails", feature=Feature.FOLDERS, estimates=True)
    ] = Selection.UNREAD
    shared_mailbox: Annotated[
        Annotated[str, Field(max_length=320), LINE] | None,
        Empty(),
        About(label="Address of the shared mailbox", feature=Feature.SHARED, estimates=True),
    ] = None
    host_override: Annotated[
        Annotated[str, Field(max_length=253), LINE, AfterValidator(host_and_port)] | None,
        Empty(),
        About(label="Host", feature=Feature.CLOUDS, estimates=True),
    ] = None
    permanent_delete: Annotated[Truth, About(feature=Feature.PERMANENT_DELETE)] = False
    push: Annotated[Truth, About(feature=Feature.PUSH)] = False
    #: Authserv-ids (RFC 8601 section 2.5) in lower case, with spaces between them.
    trusted_servers: Annotated[
        Annotated[str, Field(max_length=2000), LINE, AfterValidator(authserv_ids)],
        Empty(""),
        About(
            label="Trusted servers",
            help="authserv-ids (RFC 8601) of the servers whose Authentication-Results are "
            "believed, with spaces or commas between them",
            feature=Feature.SERVER,
        ),
    ] = ""
    enabled: Annotated[Truth, About(help="Needs acknowledged: true as well")] = False
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def kind(self) -> MailboxKind:
        """What its mode is."""
        return KINDS[self.mode]

    @property
    def believed_servers(self) -> tuple[str, ...]:
        """The authserv-ids whose Authentication-Results are believed: those of its provider, or
        those that it names."""
        return _BELIEVED[self.kind.provider] or tuple(self.trusted_servers.split())

    @property
    def mailbox(self) -> str:
        """The mailbox whose mails are read: the shared one where there is one."""
        return self.shared_mailbox or self.username

    @property
    def uses_oauth(self) -> bool:
        """Whether it logs in with OAuth2 tokens: always in the providers' own modes, over POP3
        where a credential is chosen in place of the password."""
        return self.kind.provider is not None or self.credential_id is not None

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port that are actually connected to."""
        kind = self.kind
        if kind.has_server:
            return (self.host, self.port)
        host, _, port = (self.host_override or kind.host).partition(":")
        return (host, int(port or kind.port))

    def session_destinations(self) -> tuple[str, ...]:
        """Where a session of it counts: at its server (the host), and at its mailbox there
        (`user at host`) where several connections, each to a folder, have sessions of one mailbox.
        """
        host = self.endpoint[0].lower()
        if not (self.kind.keeps_sessions and self.kind.has_folders):
            return (host,)
        return (host, f"{self.mailbox.lower()} at {host}")

    def mailbox_key(self) -> str:
        """Names the mailbox, whatever the folder."""
        host, port = self.endpoint
        return "|".join((self.kind.family, host.lower(), str(port), self.mailbox.lower()))

    def lease_key(self) -> str:
        """Names the mailbox folder: two connections with one key never fetch at the same time."""
        folder = self.folder if self.folder.upper() != "INBOX" else ""
        return f"{self.mailbox_key()}|{folder}"


def folder_name(folder: str) -> str:
    """A folder that mails came through, as it is named wherever facts of mails are told: `INBOX`
    for the inbox (RFC 9051 section 5.1), which is empty or so in any case where a connection has
    it. POP3 has no other, and that of Graph is called so whatever its language."""
    return "INBOX" if not folder or folder.upper() == "INBOX" else folder
