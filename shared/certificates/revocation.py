"""Revocation lists (RFC 5280 section 6.3) and answers of responders (RFC 6960, RFC 5019).

Pure: what was received is read and checked here, whoever fetched it. An answer that does not count
is `Unusable`, with the reason; it never says that a certificate is good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from shared.certificates.identifiers import Unreadable
from shared.certificates.purposes import weak_key
from shared.revocations import Revocation

#: Addresses of one certificate that are asked at most, and octets of one.
MOST_ADDRESSES: Final = 4
_LONGEST_ADDRESS: Final = 2048
#: How far another clock may be ahead.
_SKEW: Final = timedelta(minutes=10)
#: How long an answer counts that does not say it, and how long one counts at most.
_UNTOLD: Final = timedelta(days=1)
_LONGEST: Final = {"crl": timedelta(days=400), "ocsp": timedelta(days=14)}
_WEAK: Final = ("md5", "sha1")
_KEYED = (
    ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


class Unusable(ValueError):
    """An answer that says nothing about a certificate; `str()` says why in a sentence."""


def list_addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the authority publishes whole lists of its own, over HTTP: other points (a part of
    the reasons, another issuer, LDAP) are left out."""
    return _usable(
        name.value
        for point in _points(certificate)
        if point.crl_issuer is None and point.reasons is None
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    )


def responder_addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the authority answers for single certificates, over HTTP."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, *Unreadable):
        return ()
    return _usable(
        one.access_location.value
        for one in access.value
        if one.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    )


def issuer_key(issuer: x509.Certificate) -> bytes:
    """Names an authority by its name and key: 32 octets, the same for each of its certificates."""
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(issuer.subject.public_bytes() + key).digest()


def read_list(data: bytes) -> x509.CertificateRevocationList:
    """A list in DER or PEM. Raises Unusable."""
    try:
        if data.lstrip()[:11] == b"-----BEGIN ":
            return x509.load_pem_x509_crl(data)
        return x509.load_der_x509_crl(data)
    except Unreadable as error:
        raise Unusable("What came is no certificate revocation list.") from error


def check_list(
    found: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime
) -> tuple[datetime, datetime]:
    """Since when and until when the list counts (RFC 5280 section 6.3.3).

    Raises Unusable where it is not a whole list that this authority signed, or not a current one.
    """
    try:
        if found.issuer != issuer.subject:
            raise Unusable("The list is of another authority.")
        if not _may(issuer, "crl_sign"):
            raise Unusable("The certificate of the authority does not allow it to sign lists.")
        _check_strength(issuer, found.signature_hash_algorithm)
        if not found.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
            raise Unusable("The list is not signed by the authority.")
        for extension in found.extensions:
            known = isinstance(extension.value, x509.IssuingDistributionPoint)
            if isinstance(extension.value, x509.DeltaCRLIndicator):
                raise Unusable("The list holds changes only.")
            if extension.critical and not known:
                raise Unusable("The list has an extension that is not known here.")
        scope = _scope(found)
        if scope is not None and scope.indirect_crl:
            raise Unusable("The list holds certificates of other authorities.")
        return _period("crl", found.last_update_utc, found.next_update_utc, now)
    except Unreadable as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable("The list cannot be read.") from error


def by_list(
    found: x509.CertificateRevocationList,
    certificate: x509.Certificate,
    period: tuple[datetime, datetime],
) -> Revocation:
    """What a list that was checked says of a certificate of its authority. Raises Unusable where
    it does not cover it."""
    try:
        _check_scope(found, certificate)
        entry = found.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None:
            return Revocation("good", "crl", *period)
        return Revocation("revoked", "crl", *period, _reason(entry), entry.revocation_date_utc)
    except Unreadable as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable("The list cannot be read.") from error


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """What a responder is asked, DER. Without a nonce, so that it may answer from a cache; SHA-1
    only names the certificate there (RFC 5019 section 2.1)."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
    return builder.build().public_bytes(Encoding.DER)


def by_responder(
    data: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
) -> Revocation:
    """What the answer of a responder says of a certificate (RFC 6960 section 3.2).

    Raises Unusable where it does not speak of this certificate, is not signed by the authority or
    by whom it appointed, is not current, or where the responder does not know.
    """
    try:
        answer = ocsp.load_der_ocsp_response(data)
        if answer.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            word = answer.response_status.name.lower().replace("_", " ")
            raise Unusable(f"The responder says: {word}.")
        _check_responder(answer, issuer, now)
        for one in answer.responses:
            if _is_about(one, certificate, issuer):
                return _answered(one, now)
        raise Unusable("The responder answers for another certificate.")
    except Unreadable as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable("What the responder answers cannot be read.") from error


def _answered(one: ocsp.OCSPSingleResponse, now: datetime) -> Revocation:
    period = _period("ocsp", one.this_update_utc, one.next_update_utc, now)
    if one.certificate_status == ocsp.OCSPCertStatus.GOOD:
        return Revocation("good", "ocsp", *period)
    if one.certificate_status == ocsp.OCSPCertStatus.UNKNOWN:
        raise Unusable("The responder does not know the certificate.")
    reason = one.revocation_reason.value if one.revocation_reason else "unspecified"
    return Revocation("revoked", "ocsp", *period, reason, one.revocation_time_utc)


def _is_about(
    one: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> bool:
    if one.serial_number != certificate.serial_number:
        return False
    asked = (
        ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, one.hash_algorithm).build()
    )
    return (asked.issuer_name_hash, asked.issuer_key_hash) == (
        one.issuer_name_hash,
        one.issuer_key_hash,
    )


def _check_responder(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960 section 4.2.2.2: the authority itself, or whom it appointed for just this."""
    digest = answer.signature_hash_algorithm
    for signer in (issuer, *answer.certificates[:MOST_ADDRESSES]):
        named = answer.responder_name == signer.subject
        if not named and answer.responder_key_hash != _key_hash(signer):
            continue
        _check_strength(signer, digest)
        if not _is_signed(answer, signer.public_key(), digest):
            continue
        if issuer_key(signer) != issuer_key(issuer):
            _check_appointed(signer, issuer, now)
        return
    raise Unusable("The answer is not signed by the authority or by whom it appointed.")


def _check_appointed(signer: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        signer.verify_directly_issued_by(issuer)
        purposes = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (InvalidSignature, x509.ExtensionNotFound, *Unreadable) as error:
        raise Unusable("Who signed the answer was not appointed by the authority.") from error
    _check_strength(signer, signer.signature_hash_algorithm)
    if ExtendedKeyUsageOID.OCSP_SIGNING not in purposes or not _may(signer, "digital_signature"):
        raise Unusable("The certificate of the responder is not meant for answers.")
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Unusable("The certificate of the responder is not valid.")


def _is_signed(
    answer: ocsp.OCSPResponse, key: CertificatePublicKeyTypes, digest: hashes.HashAlgorithm | None
) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(digest))
        elif isinstance(key, _KEYED):
            key.verify(answer.signature, answer.tbs_response_bytes)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _check_strength(signer: x509.Certificate, digest: hashes.HashAlgorithm | None) -> None:
    weak = weak_key(signer)
    if weak:
        raise Unusable(f"What the authority signs proves nothing: {weak}.")
    if digest is not None and digest.name in _WEAK:
        raise Unusable(f"It is signed with {digest.name.upper()}.")


def _period(
    source: str, since: datetime, until: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    if since > now + _SKEW:
        raise Unusable("What the authority says is of the future.")
    end = min(until or since + _UNTOLD, since + _LONGEST[source])
    if end <= now:
        raise Unusable(f"What the authority says is out of date since {end:%Y-%m-%d %H:%M} UTC.")
    return since, end


def _check_scope(found: x509.CertificateRevocationList, certificate: x509.Certificate) -> None:
    """RFC 5280 section 6.3.3 (b) (2): a list may be for some of the certificates only."""
    scope = _scope(found)
    if scope is None:
        return
    if scope.relative_name is not None or scope.only_some_reasons is not None:
        raise Unusable("The list covers a part only.")
    if scope.full_name:
        names = {name for point in _points(certificate) for name in point.full_name or ()}
        if names.isdisjoint(scope.full_name):
            raise Unusable("The list is one that the certificate does not name.")
    authority = _is_authority(certificate)
    if (
        scope.only_contains_attribute_certs
        or (scope.only_contains_user_certs and authority)
        or (scope.only_contains_ca_certs and not authority)
    ):
        raise Unusable("The list is for certificates of another kind.")


def _scope(found: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return found.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _reason(entry: x509.RevokedCertificate) -> str:
    """Revoked is revoked, whatever else an entry says that cannot be read."""
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, *Unreadable):
        return "unspecified"


def _points(certificate: x509.Certificate) -> list[x509.DistributionPoint]:
    try:
        return list(
            certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        )
    except (x509.ExtensionNotFound, *Unreadable):
        return []


def _usable(found: Iterable[str]) -> tuple[str, ...]:
    usable = [one for one in dict.fromkeys(found) if _may_be_asked(one)]
    return tuple(usable[:MOST_ADDRESSES])


def _may_be_asked(address: str) -> bool:
    if len(address) > _LONGEST_ADDRESS or not address.isascii() or not address.isprintable():
        return False
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username


def _may(certificate: x509.Certificate, what: str) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool(getattr(usage, what))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key_hash(certificate: x509.Certificate) -> bytes:
    """The SHA-1 of the public key, as responders name themselves (RFC 6960 section 4.2.1)."""
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
