"""The form of a connection: what it shows in each mode, and what it sends as changes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from services.admin.operations.certificates import certificates_of, search_certificates
from services.admin.operations.connection_list import tags_in_use
from services.admin.operations.credentials import search_credentials
from services.admin.operations.tag_rights import own_tags
from services.admin.pages.forms import PostedForm, Values, whole_number
from services.admin.pages.request_context import context_of
from shared.connection_editing import FIELDS, FIELDS_OF, SECRET_FIELDS
from shared.connections import Connection, Mode, TransportSecurity
from shared.credentials import Credential, Provider
from shared.errors import InvalidInput
from shared.field_descriptions import words_of
from shared.kinds import KINDS, Feature, MailboxKind, kind_named, kinds_with
from shared.microsoft_clouds import CLOUDS

#: Fields by the kind of control that they have; the server's certificate is asked the other way
#: round, secrets are never shown again, and a connection is enabled elsewhere.
_ELSEWHERE: Final = SECRET_FIELDS | {"verify_certificate", "enabled", "certificate_ids", "tags"}
_SHOWN: Final = {name: one for name, one in FIELDS.items() if name not in _ELSEWHERE}
_NUMBERS: Final = frozenset(name for name, one in _SHOWN.items() if one.kind is int)
_FLAGS: Final = tuple(name for name, one in _SHOWN.items() if one.kind is bool)
_TEXTS: Final = frozenset(_SHOWN) - _NUMBERS - set(_FLAGS)
_LISTED_CERTIFICATES: Final = 200
#: From the top of the page.
_PLACES: Final = {
    name: index
    for index, name in enumerate(
        (
            "name",
            "description",
            "tags",
            "mode",
            "host",
            "port",
            "security",
            "credential_id",
            "username",
            "password",
            "shared_mailbox",
            "host_override",
            "folder",
            "interval_minutes",
            "selection",
            "after_download",
            "trusted_servers",
            "permanent_delete",
            "certificate_ids",
            "timeout_ms",
            "push",
            "client_certificate",
            "ca_certificate",
            "unverified",
        )
    )
}


@dataclass(frozen=True, slots=True)
class CredentialChoice:
    """A control that chooses a credential, in these modes; `options` as `_of` gives them."""

    title: str
    modes: list[Mode]
    options: list[tuple[str, str, bool]]
    optional: bool = False


def changes_of(form: PostedForm) -> dict[str, Any]:
    """What was typed as an operation takes it; every rule is checked there.

    A field that the mode has no use for is left out where it is empty, and sent where it is not,
    so that it is refused like everywhere else.
    """
    try:
        mode = Mode(form.text("mode"))
    except ValueError:
        raise InvalidInput("Choose what kind of mailbox it is.", field="mode") from None
    allowed = FIELDS_OF[mode]
    changes: dict[str, Any] = {}
    for name in _TEXTS:
        # Names of folders keep the spaces at their ends.
        typed = form.raw(name) if name == "folder" else form.text(name)
        if words_of(FIELDS[name].kind) and not typed:
            continue
        if name in allowed or typed:
            changes[name] = typed
    for name in _NUMBERS:
        typed = form.text(name)
        if name in allowed and typed:
            changes[name] = _number(typed)
        elif name in allowed:
            about = FIELDS[name].about
            changes[name] = None if about.unset or FIELDS[name].default is None else typed
    if not form.flag("shared"):
        changes.pop("shared_mailbox", None)
        if "shared_mailbox" in allowed:
            changes["shared_mailbox"] = ""
    elif not form.text("shared_mailbox"):
        raise InvalidInput("The address of the shared mailbox is missing.", field="shared_mailbox")
    if not form.flag("overridden"):
        changes.pop("host_override", None)
        if "host_override" in allowed:
            changes["host_override"] = ""
    if "verify_certificate" in allowed:
        changes["verify_certificate"] = not form.flag("unverified")
    for name in _FLAGS:
        if name in allowed:
            changes[name] = form.flag(name)
    changes["certificate_ids"] = form.ids("certificate_ids")
    changes["tags"] = form.tags("tags")
    for name in SECRET_FIELDS:
        if form.raw(name):
            changes[name] = form.raw(name)
        elif form.flag(f"no_{name}"):
            changes[name] = ""
    return changes


def values_of(connection: Connection) -> Values:
    """What the form shows of a saved connection."""
    names = (*_TEXTS, *_NUMBERS, *_FLAGS, "certificate_ids")
    values = Values({name: getattr(connection, name) for name in names})
    values["port"] = connection.port or ""
    values["tags"] = ", ".join(connection.tags)
    values["shared"] = bool(connection.shared_mailbox)
    values["overridden"] = bool(connection.host_override)
    values["unverified"] = not connection.verify_certificate
    values["has_password"] = connection.has_password
    values["has_client_certificate"] = connection.has_client_certificate
    return values


def typed_values(
    form: PostedForm, *, has_password: bool = False, has_client_certificate: bool = False
) -> Values:
    """What was typed, to be shown again; never a secret."""
    values = Values({name: form.text(name) for name in (*_TEXTS, *_NUMBERS, "tags")})
    values["ca_certificate"] = form.raw("ca_certificate")
    for name in (*_FLAGS, "shared", "overridden", "unverified"):
        values[name] = form.flag(name)
    values["certificate_ids"] = tuple(form.ids("certificate_ids"))
    values["has_password"] = has_password
    values["has_client_certificate"] = has_client_certificate
    return values


def new_values(mode: str, credential: str = "") -> Values:
    """The defaults of a new connection, with the credential that it is made for."""
    chosen = kind_named(mode) or next(iter(KINDS.values()))
    values = values_of(Connection(name="", mode=chosen.mode))
    if (chosen_credential := whole_number(credential)) is not None:
        values["credential_id"] = chosen_credential
    return values


def form_context(
    request: Request, values: Values, stored: Connection | None = None
) -> dict[str, Any]:
    """What the template needs besides the values. Who has rights by tag is shown what `stored` has,
    and no name of a certificate or credential that the address or the form only asks for."""
    kind = kind_named(values["mode"])
    ctx = context_of(request)
    found = search_certificates(ctx, per_page=_LISTED_CERTIFICATES).items
    listed = [one.certificate for one in found]
    attached = certificates_of(ctx, values["certificate_ids"] or ())
    known = [one.credential for one in search_credentials(ctx)]
    part = bool(ctx.principal.tags)
    if part:
        listed = []
        known = [one for one in known if stored and one.id == stored.credential_id]
        attached = [one for one in attached if stored and one.id in stored.certificate_ids]
    listed += [c for c in attached if c.id not in {other.id for other in listed}]
    ports = {
        f"{one.mode} {security}": port
        for one in KINDS.values()
        for security, port in one.ports.items()
    }
    return {
        "values": values,
        "modes": [(kind.mode.value, kind.title) for kind in KINDS.values()],
        "modes_of": {
            name: " ".join(m for m in Mode if name in FIELDS_OF[m]) for name in _every_field()
        },
        "kind": kind,
        "shown": FIELDS_OF[kind.mode] if kind else frozenset(),
        "ports": json.dumps(ports),
        "default_port": kind.ports.get(TransportSecurity(values["security"] or "tls"), "")
        if kind
        else "",
        "certificates": listed,
        "gives_certificates": not part,
        "known_tags": own_tags(ctx, list(tags_in_use(ctx))),
        "credential_choices": _credential_choices(known),
        "password_optional": " ".join(k.mode for k in kinds_with(Feature.SERVER) if _both(k)),
        "hosts": _hosts(),
    }


def worded(error: InvalidInput) -> InvalidInput:
    """The error with its fields called, and in the order, as on the page."""
    found = sorted(map(_worded, error.every), key=lambda one: _PLACES.get(one.field, len(_PLACES)))
    first, *rest = found
    return InvalidInput(str(first), field=first.field, hint=first.hint, more=rest)


def _worded(error: InvalidInput) -> InvalidInput:
    label = FIELDS[error.field].about.label if error.field in FIELDS else ""
    if not label:
        return error
    text = str(error).replace(repr(error.field), f"“{label}”")
    # Asked the other way round.
    field = "unverified" if error.field == "verify_certificate" else error.field
    return InvalidInput(text, field=field, hint=error.hint)


def _number(typed: str) -> int | str:
    """A whole number; anything else goes on as it is, to be refused by the field's rule."""
    size = whole_number(typed.removeprefix("-"))
    return typed if size is None else -size if typed.startswith("-") else size


def _of(known: list[Credential], provider: Provider | None = None) -> list[tuple[str, str, bool]]:
    """(id, what is shown, whether it gives application access)."""
    return [("", "Choose one", False)] + [
        (
            str(c.id),
            f"{c.name} ({'somebody logs in' if c.needs_login else 'application access'})",
            not c.needs_login,
        )
        for c in known
        if provider is None or c.provider is provider
    ]


def _both(kind: MailboxKind) -> bool:
    """Whether it logs in with a password, or with a credential in its place."""
    return {Feature.SERVER, Feature.CREDENTIAL} <= kind.features


def _credential_choices(known: list[Credential]) -> list[CredentialChoice]:
    """A control for each provider whose credentials a kind needs, one for those that have it in
    place of a password."""
    with_credential = kinds_with(Feature.CREDENTIAL)
    found = []
    for provider in Provider:
        modes = [kind.mode for kind in with_credential if kind.provider is provider]
        found.append(CredentialChoice(provider.title(), modes, _of(known, provider)))
    optional = [kind for kind in with_credential if _both(kind)]
    options = [("", "None: the password below", False), *_of(known)[1:]]
    title = ", ".join(kind.title for kind in optional)
    return [*found, CredentialChoice(title, [k.mode for k in optional], options, optional=True)]


def _hosts() -> list[tuple[str, str]]:
    hosts = {cloud.imap: f"{cloud.title}, IMAP" for cloud in CLOUDS}
    return list((hosts | {cloud.graph: f"{cloud.title}, Graph" for cloud in CLOUDS}).items())


def _every_field() -> set[str]:
    return set().union(*FIELDS_OF.values())
