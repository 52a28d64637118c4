"""What is known of revoked certificates, and lists of authorities that are given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.admin.context import Context
from shared.certificates.identifiers import Unreadable
from shared.certificates.revocation import Unusable, check_list, issuer_key, read_list
from shared.clock import utc_now
from shared.errors import Conflict, InvalidInput
from shared.storage import revocations
from shared.storage.pool import Session
from shared.storage.revocations import RevocationListView

_MOST_TROUBLED: Final = 10


@dataclass(frozen=True, slots=True)
class RevocationOverview:
    """Certificates of signers and their authorities, counted by what is known of them; `failing`
    are those of which nothing could be learned the last time."""

    counts: Mapping[str, int]
    failing: int
    #: The latest of them: subject, why, and when.
    troubled: Sequence[tuple[str, str, datetime]]


def known_revocations(ctx: Context) -> RevocationOverview:
    with ctx.transaction() as session:
        counts = {status: count for status, (count, _) in revocations.counts(session).items()}
        failing = revocations.failing(session)
        found = revocations.troubled(session, _MOST_TROUBLED)
    return RevocationOverview(counts, failing, [(_subject(der), why, at) for der, why, at in found])


def _subject(der: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except Unreadable:
        return "a certificate that cannot be read"


def list_revocation_lists(ctx: Context) -> Sequence[RevocationListView]:
    """All of them, those that could not be fetched first."""
    with ctx.transaction() as session:
        return revocations.lists(session)


def add_revocation_list(ctx: Context, data: bytes) -> int:
    """Takes a list (DER or PEM) of an authority that is trusted, or of one that vouched for a
    signer; returns its id. While it counts, nobody is asked for another one of this authority.

    Raises InvalidInput where it does not count, Conflict where a newer one is there.
    """
    now = utc_now()
    with ctx.transaction() as session:
        try:
            found = read_list(data)
            issuer = _issuer(session, found)
            as_of, next_update = check_list(found, issuer, now)
        except Unusable as error:
            raise InvalidInput(str(error), field="file") from error
        name = issuer.subject.rfc4514_string()
        kept = revocations.write_list(
            session,
            issuer_key=issuer_key(issuer),
            issuer_name=name,
            address="",
            list=found.public_bytes(Encoding.DER),
            as_of=as_of,
            next_update=next_update,
            refresh_at=now + (next_update - now) / 2,
        )
        if kept is None:
            raise Conflict(
                "This list is not kept: a newer one of this authority is there, or there is no "
                "room for more lists."
            )
        revocations.make_due(session, issuer_key(issuer))
        after = {"authority": name, "as_of": as_of, "next_update": next_update}
        ctx.record(session, "create", f"revocation-list/{kept}", after=after)
        return kept


def delete_revocation_list(ctx: Context, list_id: int) -> None:
    """What it said stays known. Raises NotFound."""
    with ctx.transaction() as session:
        name, address = revocations.delete_list(session, list_id)
        before = {"authority": name, "address": address}
        ctx.record(session, "delete", f"revocation-list/{list_id}", before=before)


def _issuer(session: Session, found: x509.CertificateRevocationList) -> x509.Certificate:
    """Who signed the list, of all that are known by its name."""
    named = []
    for der in revocations.issuers(session):
        try:
            one = x509.load_der_x509_certificate(der)
            if one.subject == found.issuer:
                named.append(one)
        except Unreadable:
            continue
    for one in named:
        if found.is_signature_valid(one.public_key()):  # type: ignore[arg-type]
            return one
    if named:
        raise Unusable("The list is not signed by the authority of this name that is known here.")
    raise InvalidInput(
        f"No authority is known here by the name {found.issuer.rfc4514_string()}.",
        field="file",
        hint="Add its certificate to the trust anchors first; one below them is known once "
        "a mail came that it vouches for.",
    )
