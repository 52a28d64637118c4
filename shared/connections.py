"""What an administrator describes: a connection to one folder of one mailbox.

Pure values and rules. What a mode allows and what each field may hold is decided here once; the
API, the pages, `posthouse apply` and the tests all ask these functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from shared.connection_fields import (
    LONGEST_TAG,
    MOST_TAGS,
    FolderName,
    authserv_ids,
    host_alone,
    host_and_port,
    pem,
    tags,
)
from shared.described import (
    LINE,
    LINES,
    About,
    Described,
    Empty,
    Id,
    Ids,
    Secret,
    Text,
    Truth,
    Whole,
    fields_of,
)
from shared.errors import InvalidInput, Refusals
from shared.kinds import KINDS, Feature, Kind
from shared.kinds import Mode as Mode  # the type of a field, and so is the next
from shared.kinds import TransportSecurity as TransportSecurity


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
        Text(strip=False),
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
    def kind(self) -> Kind:
        """What its mode is."""
        return KINDS[self.mode]

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

    def mailbox_key(self) -> str:
        """Names the mailbox, whatever the folder."""
        host, port = self.endpoint
        return "|".join((self.kind.family, host.lower(), str(port), self.mailbox.lower()))

    def lease_key(self) -> str:
        """Names the mailbox folder: two connections with one key never fetch at the same time."""
        folder = self.folder if self.folder.upper() != "INBOX" else ""
        return f"{self.mailbox_key()}|{folder}"


@dataclass(frozen=True, slots=True)
class ConnectionEdit:
    """A checked change: the connection as it will be, and the secrets that were given.

    An empty secret is taken away, None leaves it as it is.
    """

    connection: Connection
    password: Annotated[
        Annotated[str, Field(max_length=4096), Secret()] | None,
        About(label="Password", help="never shown again", feature=Feature.SERVER, secret=True),
    ] = field(default=None, repr=False)
    client_certificate: Annotated[
        Annotated[str, Field(max_length=65_536), Secret(lines=True)] | None,
        About(
            label="Client certificate",
            help="PEM with its private key, or password:base64 of a PFX file; shown in TLS, and "
            "logged in with (EXTERNAL) where there is no password; never shown again",
            feature=Feature.SERVER,
            secret=True,
        ),
    ] = field(default=None, repr=False)


#: Every field that somebody may give, by name: what it holds, and which kinds have it.
FIELDS: Final[Mapping[str, Described]] = {**fields_of(Connection), **fields_of(ConnectionEdit)}
SECRET_FIELDS: Final = frozenset(name for name, one in FIELDS.items() if one.about.secret)
#: A change of one of these asks for the acknowledgement again (row M15).
ACKNOWLEDGED_FIELDS: Final = frozenset(n for n, one in FIELDS.items() if one.about.estimates)
#: The fields that each mode has a use for; every other field is refused.
FIELDS_OF: Final[Mapping[Mode, frozenset[str]]] = {
    mode: frozenset(
        name
        for name, one in FIELDS.items()
        if not one.about.feature or one.about.feature in kind.features
    )
    for mode, kind in KINDS.items()
}


def edit(current: Connection | None, changes: Mapping[str, Any]) -> ConnectionEdit:
    """Applies what somebody typed (`changes`: field → JSON value) and checks every rule.

    Raises InvalidInput naming every offending field. Fields the mode has no use for are refused
    when given, and fall back to their default when the mode changes.
    """
    unknown = sorted(set(changes) - set(FIELDS))
    if unknown:
        raise InvalidInput(f"There is no field {unknown[0]!r} in a connection.", field=unknown[0])
    mode: Mode = FIELDS["mode"].parse(changes.get("mode", current.mode if current else None))
    allowed = FIELDS_OF[mode]
    refusals = Refusals()
    for name in changes:
        if name not in allowed and changes[name] not in (None, "", False):
            refusals.add(
                InvalidInput(
                    f"A connection in mode {mode} has no use for {name!r}.",
                    field=name,
                    hint=f"Leave {name!r} out, or choose a mode that has it.",
                )
            )
    values: dict[str, Any] = {"mode": mode}
    for name in sorted(allowed - {"mode"} - SECRET_FIELDS):
        if name in changes:
            with refusals.collected():
                values[name] = FIELDS[name].parse(changes[name])
        elif current is not None:
            values[name] = getattr(current, name)
    if values.setdefault("name", None) is None:
        refusals.add(InvalidInput("A connection needs a name.", field="name"))
    secrets: dict[str, str | None] = dict.fromkeys(SECRET_FIELDS)
    for name in SECRET_FIELDS:
        with refusals.collected():
            secrets[name] = FIELDS[name].parse(changes.get(name))
    password, certificate = secrets["password"], secrets["client_certificate"]
    by_credential = values.get("credential_id") is not None
    keeps = current is not None and "password" in allowed and not by_credential
    keeps_password = keeps and current is not None and current.has_password
    keeps_certificate = keeps and current is not None and current.has_client_certificate
    draft = Connection(
        **values,
        id=current.id if current else 0,
        has_password=bool(password) or (keeps_password and password is None),
        has_client_certificate=bool(certificate) or (keeps_certificate and certificate is None),
        created_at=current.created_at if current else None,
        updated_at=current.updated_at if current else None,
    )
    if draft.kind.has_server and not draft.port:
        draft = replace(draft, port=draft.kind.ports[draft.security])
    for error in _contradictions(draft, password, certificate):
        refusals.add(error)
    refusals.finish(FIELDS)
    return ConnectionEdit(draft, password, certificate)


def _contradictions(
    draft: Connection, password: str | None, certificate: str | None
) -> Iterator[InvalidInput]:
    """What is wrong by the rules that span fields."""
    by_credential = draft.credential_id is not None
    if not draft.username:
        yield InvalidInput("The username is missing.", field="username")
    if draft.kind.provider is not None and not by_credential:
        yield InvalidInput(
            f"Mode {draft.mode} needs an OAuth2 credential.",
            field="credential_id",
            hint="Create one under Credentials first, then choose it here.",
        )
    if password and by_credential:
        yield InvalidInput(
            "A connection logs in with a password or with an OAuth2 credential, not with both.",
            field="credential_id",
            hint="Leave the credential empty to log in with the password.",
        )
    if certificate and by_credential:
        yield InvalidInput(
            "A connection logs in with a client certificate or with an OAuth2 credential, not with "
            "both.",
            field="client_certificate",
        )
    if not draft.kind.has_server:
        return
    if not draft.host:
        yield InvalidInput("The host of the mail server is missing.", field="host")
    if draft.has_client_certificate and draft.security is TransportSecurity.NONE:
        yield InvalidInput(
            "A client certificate is shown inside TLS only.",
            field="security",
            hint="Choose tls, or starttls.",
        )
    if not (draft.has_password or draft.has_client_certificate or by_credential):
        yield InvalidInput("The password is missing.", field="password")
    if by_credential and draft.security is TransportSecurity.NONE:
        yield InvalidInput(
            "An OAuth2 token is never sent in plain text.",
            field="security",
            hint="Choose tls, or starttls.",
        )
    if by_credential and not draft.verify_certificate:
        yield InvalidInput(
            "An OAuth2 token is only sent to a server whose certificate is verified.",
            field="verify_certificate",
            hint="A private authority is named in the credential.",
        )
    if by_credential and draft.ca_certificate:
        yield InvalidInput(
            "Whom to trust with OAuth2 tokens is said by the credential.",
            field="ca_certificate",
            hint="Name the private authority in the credential.",
        )
