"""OAuth2 credentials: what a provider knows Posthouse by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.admin.context import Context
from services.admin.operations import consents
from services.admin.operations.edit_conflicts import check_version
from shared import input_fields as typed
from shared.connections import Connection
from shared.credentials import (
    FIELDS,
    IN_ORDER,
    SECRET_FIELDS,
    Credential,
    Provider,
    check_settings,
    contradictions,
    service_account_of,
)
from shared.errors import Conflict, InvalidInput, NotFound, Refusals, User
from shared.microsoft_certificates import client_certificate_of, pem_of
from shared.microsoft_clouds import check_use, cloud_named
from shared.storage import authorisations, credentials, scheduling
from shared.storage.pool import Session
from shared.vault import client_certificate_path, client_secret_path


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A credential, what uses it, and the address that the provider must be told."""

    credential: Credential
    uses: int
    redirect_uri: str
    used_by: tuple[User, ...] = ()
    #: Where an administrator of the tenant consents; empty where there is no such link.
    admin_consent_url: str = ""
    #: Why the provider will not take `redirect_uri`; empty where it will.
    redirect_problem: str = ""


def redirect_uri(ctx: Context) -> str:
    """Where providers send the browser back to: to be entered at the provider."""
    return ctx.app_state.settings.public_url.rstrip("/") + "/api/v1/oauth/callback"


def search_credentials(ctx: Context, q: str = "") -> Sequence[CredentialView]:
    """All whose name or client id holds `q`."""
    with ctx.transaction() as session:
        found = credentials.search(session, q)
        uses = credentials.uses(session, [c.id for c in found])
    return [_view(ctx, credential, uses[credential.id]) for credential in found]


def get_credential(ctx: Context, credential_id: int) -> CredentialView:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return _see(ctx, session, credential_id)


def create_credential(ctx: Context, changes: Mapping[str, Any]) -> CredentialView:
    """Raises InvalidInput, NameTaken."""
    credential = _edited(None, changes)
    with ctx.transaction() as session:
        new = credentials.insert(session, credential)
        _keep_secrets(ctx, session, new, changes)
        ctx.record(session, "create", f"credential/{new}", after=replace(credential, id=new))
        return _see(ctx, session, new)


def update_credential(
    ctx: Context, credential_id: int, changes: Mapping[str, Any]
) -> CredentialView:
    """Secrets that are left out stay. Raises NotFound, InvalidInput, NameTaken, Conflict."""
    with ctx.transaction() as session:
        before = credentials.get(session, credential_id, lock=True)
        check_version(ctx, session, f"credential/{credential_id}", before)
        after = _edited(before, changes)
        _refuse_moved_secret(before, after, changes)
        users = credentials.used_by(session, credential_id)
        if users and (after.provider, after.grant) != (before.provider, before.grant):
            raise Conflict(
                "Connections use this credential: its provider and grant stay.",
                hint="Create another credential and choose it in the connections.",
                code="in-use",
            )
        credentials.update(session, after)
        if _authority(before) != _authority(after):
            # Refresh tokens would go to another authorisation server than the one that gave them.
            authorisations.forget_credential(session, credential_id)
        _keep_secrets(ctx, session, credential_id, changes)
        scheduling.end_back_off(session, credential_id)
        given = {name: changes[name] for name in SECRET_FIELDS if changes.get(name)}
        ctx.record(
            session,
            "change",
            f"credential/{credential_id}",
            {**_plain(before), **dict.fromkeys(given, "")},
            {**_plain(after), **given},
        )
        return _see(ctx, session, credential_id)


def delete_credential(ctx: Context, credential_id: int) -> None:
    """Raises NotFound, InUse."""
    with ctx.transaction() as session:
        before = credentials.get(session, credential_id, lock=True)
        check_version(ctx, session, f"credential/{credential_id}", before)
        credentials.delete(session, credential_id)
        ctx.record(session, "delete", f"credential/{credential_id}", before=before)


def refuse_misfit(session: Session, connection: Connection) -> None:
    """Raises InvalidInput where the credential is not there, or not for this kind of mailbox."""
    if connection.credential_id is None:
        return
    try:
        credential = credentials.get(session, connection.credential_id)
    except NotFound as error:
        raise InvalidInput(str(error), field="credential_id") from error
    wanted = connection.kind.provider or credential.provider
    if credential.provider is not wanted:
        raise InvalidInput(
            f"The credential {credential.name!r} is one of {credential.provider.title()}; a "
            f"connection in mode {connection.mode} needs one of {wanted.title()}.",
            field="credential_id",
        )
    check_use(connection, credential)


def _edited(current: Credential | None, changes: Mapping[str, Any]) -> Credential:
    typed.only(changes, set(FIELDS), "credential")
    values: dict[str, Any] = {} if current is None else _plain(current)
    refusals = Refusals()
    for name in changes:
        with refusals.collected():
            given = FIELDS[name].parse(changes[name])
            if name not in SECRET_FIELDS:
                values[name] = given
            elif given is not None:
                values[f"has_{name}"] = bool(given)
    for name in ("name", "provider"):
        if not values.get(name):
            refusals.add(InvalidInput(f"A credential needs a {name}.", field=name))
    if "provider" in refusals:  # what else is wrong depends on it
        refusals.finish(IN_ORDER)
    credential = Credential(**{"name": "", **values})
    pasted = changes.get("client_certificate")
    with refusals.collected():
        if credential.provider is Provider.MICROSOFT:
            cloud_named(credential.cloud)
    with refusals.collected():
        if pasted and credential.provider is Provider.GOOGLE:
            service_account_of(pasted)
        elif pasted:
            ends = client_certificate_of(pem_of(pasted)).not_valid_after_utc
            if not changes.get("secret_expires_at"):
                # A client secret does not say when it ends; a certificate does.
                credential = replace(credential, secret_expires_at=ends)
    with refusals.collected():
        check_settings(credential.settings)
    for error in contradictions(credential):
        refusals.add(error)
    refusals.finish(IN_ORDER)
    return credential


def _refuse_moved_secret(before: Credential, after: Credential, changes: Mapping[str, Any]) -> None:
    """A stored secret goes to the authority it was stored for, and to no other one."""
    moved = any(
        before.setting(name) != after.setting(name) for name in ("authority", "ca_certificate")
    )
    for name in sorted(SECRET_FIELDS):
        if moved and getattr(after, f"has_{name}") and not changes.get(name):
            raise InvalidInput(
                "Enter the secret again: it was stored for another authority.", field=name
            )


def _authority(credential: Credential) -> tuple[str, ...]:
    """What decides where tokens are fetched."""
    settings = (credential.setting("authority"), credential.setting("ca_certificate"))
    return (credential.cloud, credential.client_id, *settings)


def _keep_secrets(
    ctx: Context, session: Session, credential_id: int, changes: Mapping[str, Any]
) -> None:
    secret, certificate = changes.get("client_secret"), changes.get("client_certificate")
    vault = ctx.app_state.vault
    if secret is not None:
        sealed = vault.seal(secret.encode(), client_secret_path(credential_id))
        credentials.write_client_secret(session, credential_id, sealed if secret else None)
    if certificate is not None:
        microsoft = credentials.get(session, credential_id).provider is Provider.MICROSOFT
        kept = pem_of(certificate) if certificate and microsoft else certificate
        sealed = vault.seal(kept.encode(), client_certificate_path(credential_id))
        credentials.write_client_certificate(
            session, credential_id, sealed if certificate else None
        )


def _see(ctx: Context, session: Session, credential_id: int) -> CredentialView:
    credential = credentials.get(session, credential_id)
    users = tuple(credentials.used_by(session, credential_id))
    return _view(ctx, credential, len(users), users)


def _view(
    ctx: Context, credential: Credential, uses: int, users: tuple[User, ...] = ()
) -> CredentialView:
    address = redirect_uri(ctx)
    own = bool(credential.setting("authority"))
    problem = consents.redirect_problem(credential.provider, address, own)
    return CredentialView(
        credential,
        uses,
        address,
        users,
        admin_consent_url=consents.link(credential, address),
        redirect_problem=problem if credential.needs_login else "",
    )


def _plain(credential: Credential) -> dict[str, Any]:
    return {name: getattr(credential, name) for name in Credential.__slots__}
