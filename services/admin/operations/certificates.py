"""Certificates that mails are opened with, and trust anchors for signers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.admin.context import Context
from shared import input_fields as typed
from shared.certificates import ParsedCertificate, parse_upload
from shared.certificates.purposes import why_no_trust_anchor
from shared.certificates.senders import read_certificates
from shared.errors import InvalidInput, User
from shared.storage import certificates, revocations
from shared.storage.certificates import Certificate, TrustAnchor
from shared.storage.list_search import Page
from shared.storage.pool import Session
from shared.vault import private_key_path

_FIELDS: Final = frozenset({"name", "alias"})


@dataclass(frozen=True, slots=True)
class CertificateView:
    """A certificate and what uses it. `uses` counts connections; `used_by` names them where one
    certificate is looked at."""

    certificate: Certificate
    uses: int
    used_by: tuple[User, ...] = ()


def search_certificates(
    ctx: Context, *, q: str = "", page: int = 1, per_page: int = 50
) -> Page[CertificateView]:
    """By a part of name, alias, subject, address or fingerprint."""
    with ctx.transaction() as session:
        found = certificates.search(session, q, page=page, per_page=per_page)
        uses = certificates.uses(session, [c.id for c in found.items])
    items = tuple(CertificateView(c, uses[c.id]) for c in found.items)
    return Page(items, found.total, page, per_page)


def certificates_of(ctx: Context, ids: Sequence[int]) -> list[Certificate]:
    """Those of these ids that are still there."""
    with ctx.transaction() as session:
        return [one for one in certificates.get_many(session, list(ids)) if one is not None]


def get_certificate(ctx: Context, certificate_id: int) -> CertificateView:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return _see(session, certificate_id)


def upload_certificate(
    ctx: Context,
    data: bytes,
    *,
    password: str | None = None,
    name: str = "",
    alias: str = "",
) -> CertificateView:
    """Adds the certificate and key of a PKCS #12, PEM or OpenPGP file.

    The name is the file's address or subject where none is given, the alias its friendly name.
    Raises InvalidInput (`file`, `password`), NameTaken.
    """
    parsed = parse_upload(data, password)
    certificate = _certificate(
        parsed,
        name=_name(name) or _name_of(parsed),
        alias=_alias(alias) or parsed.friendly_name[:200],
    )
    with ctx.transaction() as session:
        new = certificates.insert(session, certificate, der=parsed.certificate, chain=parsed.chain)
        _keep_key(ctx, session, new, parsed)
        ctx.record(session, "create", f"certificate/{new}", after=replace(certificate, id=new))
        return _see(session, new)


def replace_certificate(
    ctx: Context, certificate_id: int, data: bytes, *, password: str | None = None
) -> CertificateView:
    """Puts a new file in the place of an old one; name, alias and connections stay."""
    parsed = parse_upload(data, password)
    with ctx.transaction() as session:
        before = certificates.get(session, certificate_id, lock=True)
        after = replace(
            _certificate(parsed, name=before.name, alias=before.alias), id=certificate_id
        )
        certificates.replace(session, after, der=parsed.certificate, chain=parsed.chain)
        _keep_key(ctx, session, certificate_id, parsed)
        ctx.record(session, "replace", f"certificate/{certificate_id}", before, after)
        return _see(session, certificate_id)


def rename_certificate(
    ctx: Context, certificate_id: int, changes: Mapping[str, Any]
) -> CertificateView:
    """Changes `name` and `alias`. Raises NotFound, InvalidInput, NameTaken."""
    typed.only(changes, _FIELDS, "certificate (upload a new file to replace it)")
    with ctx.transaction() as session:
        before = certificates.get(session, certificate_id, lock=True)
        after = before
        if "name" in changes:
            after = replace(after, name=typed.text("name", changes["name"], 1, 200))
        if "alias" in changes:
            after = replace(after, alias=_alias(changes["alias"] or ""))
        certificates.rename(session, after)
        ctx.record(session, "change", f"certificate/{certificate_id}", before, after)
        return _see(session, certificate_id)


def delete_certificate(ctx: Context, certificate_id: int) -> None:
    """Raises NotFound, InUse."""
    with ctx.transaction() as session:
        before = certificates.get(session, certificate_id, lock=True)
        certificates.delete(session, certificate_id)
        ctx.record(session, "delete", f"certificate/{certificate_id}", before=before)


def list_trust_anchors(ctx: Context) -> Sequence[TrustAnchor]:
    with ctx.transaction() as session:
        return certificates.trust_anchors(session)


def add_trust_anchors(ctx: Context, data: bytes, *, name: str = "") -> Sequence[int]:
    """Adds every certificate of a PEM bundle (or one DER certificate); returns their ids.

    Raises InvalidInput where a certificate cannot be a trust anchor, NameTaken where it is there.
    """
    found = read_certificates(data)
    with ctx.transaction() as session:
        return [_add_anchor(ctx, session, one, name) for one in found]


def delete_trust_anchor(ctx: Context, anchor_id: int) -> None:
    with ctx.transaction() as session:
        name = certificates.delete_trust_anchor(session, anchor_id)
        revocations.pause_unused(session)
        ctx.record(session, "delete", f"trust-anchor/{anchor_id}", before={"name": name})


def _add_anchor(ctx: Context, session: Session, one: x509.Certificate, name: str) -> int:
    subject = one.subject.rfc4514_string()
    why = why_no_trust_anchor(one)
    if why:
        raise InvalidInput(
            f"{subject} cannot be a trust anchor: {why}.",
            field="file",
            hint="The certificate or OpenPGP key of a sender belongs among the known senders.",
        )
    values = {
        "name": _name(name) or subject[:200],
        "subject": subject,
        "fingerprint": one.fingerprint(hashes.SHA256()).hex(),
        "not_after": one.not_valid_after_utc,
    }
    new = certificates.insert_trust_anchor(
        session,
        name=str(values["name"]),
        subject=subject,
        fingerprint=str(values["fingerprint"]),
        not_after=one.not_valid_after_utc,
        der=one.public_bytes(Encoding.DER),
    )
    ctx.record(session, "create", f"trust-anchor/{new}", after=values)
    return new


def _see(session: Session, certificate_id: int) -> CertificateView:
    certificate = certificates.get(session, certificate_id)
    users = tuple(certificates.used_by(session, certificate_id))
    return CertificateView(certificate, len(users), users)


def _keep_key(
    ctx: Context, session: Session, certificate_id: int, parsed: ParsedCertificate
) -> None:
    sealed = ctx.app_state.vault.seal(parsed.private_key, private_key_path(certificate_id))
    certificates.write_key(session, certificate_id, sealed)


def _certificate(parsed: ParsedCertificate, *, name: str, alias: str) -> Certificate:
    return Certificate(
        kind=parsed.kind,
        name=name,
        alias=alias,
        subject=parsed.subject,
        issuer=parsed.issuer,
        serial=parsed.serial,
        fingerprint=parsed.fingerprint,
        not_before=parsed.not_before,
        not_after=parsed.not_after,
        emails=parsed.emails,
        key_type=parsed.key_type,
    )


def _name_of(parsed: ParsedCertificate) -> str:
    found = parsed.emails[0] if parsed.emails else parsed.subject
    return "".join(c for c in found if c.isprintable())[:200].strip() or parsed.fingerprint[:16]


def _name(value: str) -> str:
    return typed.text("name", value, 0, 200)


def _alias(value: Any) -> str:
    return typed.text("alias", value, 0, 200)
