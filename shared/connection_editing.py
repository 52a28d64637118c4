"""What people change of a connection, checked: which fields a mode has, and rules that span fields.

The API, the pages, `posthouse apply` and the import all ask `edit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from pydantic import Field

from shared.connections import Connection, Mode, TransportSecurity
from shared.errors import InvalidInput, Refusals
from shared.field_descriptions import About, Described, Secret, fields_of
from shared.input_fields import no_field
from shared.kinds import KINDS, Feature


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
        raise no_field(unknown[0], FIELDS, "connection")
    mode = _mode(current, changes)
    refusals = Refusals()
    for error in _useless(mode, changes):
        refusals.add(error)
    values = _values(current, changes, mode, refusals)
    secrets: dict[str, str | None] = dict.fromkeys(SECRET_FIELDS)
    for name in SECRET_FIELDS:
        with refusals.collected():
            secrets[name] = FIELDS[name].parse(changes.get(name))
    password, certificate = secrets["password"], secrets["client_certificate"]
    draft = _draft(current, values, password, certificate)
    for error in _contradictions(draft, password, certificate):
        refusals.add(error)
    refusals.finish(FIELDS)
    return ConnectionEdit(draft, password, certificate)


def _mode(current: Connection | None, changes: Mapping[str, Any]) -> Mode:
    """Raises InvalidInput where it is none, also for the form of the other fields: which of them a
    connection has is not known then."""
    refusals = Refusals()
    with refusals.collected():
        mode: Mode = FIELDS["mode"].parse(changes.get("mode", current.mode if current else None))
    if "mode" in refusals:
        for name, value in changes.items():
            with refusals.collected():
                FIELDS[name].parse(value)
    refusals.finish(FIELDS)
    return mode


def _values(
    current: Connection | None, changes: Mapping[str, Any], mode: Mode, refusals: Refusals
) -> dict[str, Any]:
    """The fields of a connection in this mode, as changed or as they are; secrets left out."""
    values: dict[str, Any] = {"mode": mode}
    for name in sorted(FIELDS_OF[mode] - {"mode"} - SECRET_FIELDS):
        if name in changes:
            with refusals.collected():
                values[name] = FIELDS[name].parse(changes[name])
        elif current is not None:
            values[name] = getattr(current, name)
    if values.setdefault("name", None) is None:
        refusals.add(InvalidInput("A connection needs a name.", field="name"))
    return values


def _draft(
    current: Connection | None,
    values: Mapping[str, Any],
    password: str | None,
    certificate: str | None,
) -> Connection:
    """The connection as it will be. Secrets that are there stay, unless the mode has none, or a
    credential takes their place."""
    has_secrets = "password" in FIELDS_OF[values["mode"]] and values.get("credential_id") is None
    before = current if has_secrets else None
    draft = Connection(
        **values,
        id=current.id if current else 0,
        has_password=_is_there(password, before is not None and before.has_password),
        has_client_certificate=_is_there(
            certificate, before is not None and before.has_client_certificate
        ),
        created_at=current.created_at if current else None,
        updated_at=current.updated_at if current else None,
    )
    if draft.kind.has_server and not draft.port:
        draft = replace(draft, port=draft.kind.ports[draft.security])
    return draft


def _is_there(given: str | None, before: bool) -> bool:
    """Whether there is a secret from now on: an empty one takes it away, None leaves it."""
    return before if given is None else bool(given)


def _useless(mode: Mode, changes: Mapping[str, Any]) -> Iterator[InvalidInput]:
    """Fields that were given and that connections in this mode do not have."""
    for name in changes:
        if name not in FIELDS_OF[mode] and changes[name] not in (None, "", False):
            yield InvalidInput(
                f"A connection in mode {mode} has no use for {name!r}.",
                field=name,
                hint=f"Leave {name!r} out, or choose a mode that has it.",
            )


def _contradictions(
    draft: Connection, password: str | None, certificate: str | None
) -> Iterator[InvalidInput]:
    """What is wrong by the rules that span fields."""
    yield from _login_contradictions(draft, password, certificate)
    if draft.kind.has_server:
        yield from _server_contradictions(draft)


def _login_contradictions(
    draft: Connection, password: str | None, certificate: str | None
) -> Iterator[InvalidInput]:
    """Who logs in, and by what."""
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


def _server_contradictions(draft: Connection) -> Iterator[InvalidInput]:
    """Where the mail server is, and what may be sent to it."""
    by_credential = draft.credential_id is not None
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
