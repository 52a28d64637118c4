"""What an administrator describes: a connection to one folder of one mailbox.

Pure values and rules. What a mode allows and what each field may hold is decided here once; the
API, the pages, `posthouse apply` and the tests all ask these functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter

from shared import fields as typed
from shared.errors import InvalidInput
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


_ALWAYS: Final = frozenset(
    {
        "name",
        "description",
        "mode",
        "username",
        "interval_minutes",
        "certificate_ids",
        "after_download",
        "timeout_ms",
        "enabled",
    }
)
_OF_FEATURE: Final[Mapping[Feature, frozenset[str]]] = {
    Feature.SERVER: frozenset(
        {
            "host",
            "port",
            "security",
            "password",
            "client_certificate",
            "verify_certificate",
            "ca_certificate",
            "trusted_servers",
        }
    ),
    Feature.CREDENTIAL: frozenset({"credential_id"}),
    Feature.FOLDERS: frozenset({"folder", "selection"}),
    Feature.SHARED: frozenset({"shared_mailbox"}),
    Feature.CLOUDS: frozenset({"host_override"}),
    Feature.PUSH: frozenset({"push"}),
    Feature.PERMANENT_DELETE: frozenset({"permanent_delete"}),
}
#: The fields that each mode has a use for; every other field is refused.
FIELDS_OF: Final[Mapping[Mode, frozenset[str]]] = {
    mode: _ALWAYS.union(*(_OF_FEATURE[feature] for feature in kind.features))
    for mode, kind in KINDS.items()
}

#: A change of one of these asks for the acknowledgement again (row M15).
ACKNOWLEDGED_FIELDS: Final = frozenset(
    {
        "mode",
        "host",
        "port",
        "username",
        "shared_mailbox",
        "host_override",
        "folder",
        "selection",
        "after_download",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One mailbox folder to be watched, as the administrator described it.

    `folder` is empty for the inbox, else the exact name with `/` between levels. `shared_mailbox`
    is None where the switch is off. `password` and `client_certificate` (PEM, with its key) are
    never part of this value: they stay sealed in storage until a mailbox is opened. `timeout_ms`
    bounds connection attempts.
    """

    id: int = 0
    name: str
    description: str = ""
    mode: Mode
    host: str = ""
    port: int = 0
    security: TransportSecurity = TransportSecurity.TLS
    verify_certificate: bool = True
    ca_certificate: str | None = None
    username: str = ""
    has_password: bool = False
    has_client_certificate: bool = False
    credential_id: int | None = None
    interval_minutes: int = 1
    folder: str = ""
    certificate_ids: tuple[int, ...] = ()
    after_download: AfterDownload = AfterDownload.MARK_READ
    timeout_ms: int = 10_000
    selection: Selection = Selection.UNREAD
    shared_mailbox: str | None = None
    host_override: str | None = None
    permanent_delete: bool = False
    push: bool = False
    #: Authserv-ids (RFC 8601 section 2.5) in lower case, with spaces between them.
    trusted_servers: str = ""
    enabled: bool = False
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


#: `value` of RFC 8601 section 2.2, as servers write it: a token of RFC 2045.
_AUTHSERV_ID: Final = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]{1,253}")
_MOST_TRUSTED: Final = 20
_EDITABLE: Final = frozenset(f.name for f in fields(Connection)) - {
    "id",
    "has_password",
    "has_client_certificate",
    "created_at",
    "updated_at",
}
SECRET_FIELDS: Final = frozenset({"password", "client_certificate"})


@dataclass(frozen=True, slots=True)
class ConnectionEdit:
    """A checked change: the connection as it will be, and the secrets that were given.

    An empty secret is taken away, None leaves it as it is.
    """

    connection: Connection
    password: str | None = field(default=None, repr=False)
    client_certificate: str | None = field(default=None, repr=False)


def edit(current: Connection | None, changes: Mapping[str, Any]) -> ConnectionEdit:
    """Applies what somebody typed (`changes`: field → JSON value) and checks every rule.

    Raises InvalidInput naming the first offending field. Fields the mode has no use for are
    refused when given, and fall back to their default when the mode changes.
    """
    unknown = sorted(set(changes) - _EDITABLE - SECRET_FIELDS)
    if unknown:
        raise InvalidInput(f"There is no field {unknown[0]!r} in a connection.", field=unknown[0])
    mode = typed.choice(Mode, changes.get("mode", current.mode if current else None), "mode")
    allowed = FIELDS_OF[mode]
    for name in changes:
        if name not in allowed and changes[name] not in (None, "", False):
            raise InvalidInput(
                f"A connection in mode {mode} has no use for {name!r}.",
                field=name,
                hint=f"Leave {name!r} out, or choose a mode that has it.",
            )
    values: dict[str, Any] = {"mode": mode}
    for name in sorted(allowed - {"mode"} - SECRET_FIELDS):
        if name in changes:
            values[name] = _parse(name, changes[name])
        elif current is not None:
            values[name] = getattr(current, name)
    if values.get("name") is None:
        raise InvalidInput("A connection needs a name.", field="name")
    password = typed.secret("password", changes.get("password"), 4096)
    if password and values.get("credential_id") is not None:
        raise InvalidInput(
            "A connection logs in with a password or with an OAuth2 credential, not with both.",
            field="credential_id",
            hint="Leave the credential empty to log in with the password.",
        )
    certificate = typed.secret(
        "client_certificate", changes.get("client_certificate"), 65_536, lines=True
    )
    if certificate and values.get("credential_id") is not None:
        raise InvalidInput(
            "A connection logs in with a client certificate or with an OAuth2 credential, not with "
            "both.",
            field="client_certificate",
        )
    keeps = current is not None and "password" in allowed and values.get("credential_id") is None
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
    return ConnectionEdit(_complete(draft), password, certificate)


def _complete(draft: Connection) -> Connection:
    """The rules that span fields, and the defaults that depend on others."""
    if draft.kind.has_server:
        if not draft.host:
            raise InvalidInput("The host of the mail server is missing.", field="host")
        if not draft.port:
            draft = replace(draft, port=draft.kind.ports[draft.security])
        if draft.has_client_certificate and draft.security is TransportSecurity.NONE:
            raise InvalidInput(
                "A client certificate is shown inside TLS only.",
                field="security",
                hint="Choose tls, or starttls.",
            )
        if not (draft.has_password or draft.has_client_certificate or draft.credential_id):
            raise InvalidInput("The password is missing.", field="password")
        if draft.credential_id is not None and draft.security is TransportSecurity.NONE:
            raise InvalidInput(
                "An OAuth2 token is never sent in plain text.",
                field="security",
                hint="Choose tls, or starttls.",
            )
        if draft.credential_id is not None and not draft.verify_certificate:
            raise InvalidInput(
                "An OAuth2 token is only sent to a server whose certificate is verified.",
                field="verify_certificate",
                hint="A private authority is named in the credential.",
            )
        if draft.credential_id is not None and draft.ca_certificate:
            raise InvalidInput(
                "Whom to trust with OAuth2 tokens is said by the credential.",
                field="ca_certificate",
                hint="Name the private authority in the credential.",
            )
    if not draft.username:
        raise InvalidInput("The username is missing.", field="username")
    if draft.kind.provider is not None and draft.credential_id is None:
        raise InvalidInput(
            f"Mode {draft.mode} needs an OAuth2 credential.",
            field="credential_id",
            hint="Create one under Credentials first, then choose it here.",
        )
    return draft


def _parse(name: str, value: Any) -> Any:
    match name:
        case "name" | "username":
            return typed.text(name, value, 1, 200)
        case "description":
            return typed.text(name, value, 0, 2000, lines=True)
        case "host":
            host = _host(name, typed.text(name, value, 1, 253))
            if host.count(":") == 1:
                raise InvalidInput(
                    "The host holds a port.", field=name, hint="The port has a field of its own."
                )
            return host
        case "port":
            return typed.whole(name, value, 1, 65535) if value not in (None, "", 0) else 0
        case "interval_minutes":
            return typed.whole(name, value, 1, 60, unit="whole minutes")
        case "timeout_ms":
            return typed.whole(name, value, 1, 60_000, unit="milliseconds")
        case "security":
            return typed.choice(TransportSecurity, value, name)
        case "after_download":
            return typed.choice(AfterDownload, value, name)
        case "selection":
            return typed.choice(Selection, value, name)
        case "folder":
            return _folder(value)
        case "certificate_ids":
            return typed.ids(name, value)
        case "credential_id":
            return None if value in (None, "") else typed.whole(name, value, 1, 2**63 - 1)
        case "shared_mailbox":
            return typed.text(name, "" if value is None else value, 0, 320) or None
        case "host_override":
            return _host_and_port(name, "" if value is None else value) or None
        case "trusted_servers":
            return _authserv_ids(name, typed.text(name, "" if value is None else value, 0, 2000))
        case "ca_certificate":
            text = typed.text(name, "" if value is None else value, 0, 65_536, lines=True)
            if text and "-----BEGIN CERTIFICATE-----" not in text:
                raise InvalidInput("The private CA is given as PEM certificates.", field=name)
            return text or None
        case _:  # verify_certificate, permanent_delete, push, enabled
            return typed.truth(name, value)


def _authserv_ids(name: str, text: str) -> str:
    found = list(dict.fromkeys(text.lower().replace(",", " ").split()))
    odd = next((one for one in found if not _AUTHSERV_ID.fullmatch(one)), None)
    if odd is not None or len(found) > _MOST_TRUSTED:
        raise InvalidInput(
            f"{odd!r} is no authserv-id."
            if odd is not None
            else f"At most {_MOST_TRUSTED} servers are trusted.",
            field=name,
            hint="It is the first word of the Authentication-Results that your own server writes, "
            "mostly its name, such as mx.example.org.",
        )
    return " ".join(found)


def _host(name: str, text: str) -> str:
    if any(c.isspace() or c in "/@" for c in text):
        raise InvalidInput("The host is a name or an address, nothing else.", field=name)
    return text


def _host_and_port(name: str, value: Any) -> str:
    text = _host(name, typed.text(name, value, 0, 253))
    host, colon, port = text.partition(":")
    if colon and not (host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InvalidInput("The host is a name, with :port where it is not the usual.", field=name)
    return text


def _folder(value: Any) -> str:
    """Names keep the spaces at their ends. A leading `/` is a folder outside the personal ones."""
    if isinstance(value, str) and any(ord(c) < 32 or ord(c) == 127 for c in value.strip()):
        raise InvalidInput(
            "The folder's name holds a control character, a tab perhaps.",
            field="folder",
            hint="Mail servers list such a folder and do not open it: rename it there.",
        )
    text = typed.text("folder", "" if value is None else value, 0, 1000, strip=False)
    if not text.strip():
        return ""
    if any(not level for level in text.removeprefix("/").split("/")):
        raise InvalidInput(
            "The folder has an empty level: write Main/Sub, without a slash at the end.",
            field="folder",
        )
    return text
