"""Who vouches for a signer: certificate paths to the authorities that are trusted here.

Paths are built and checked (validity, constraints, signatures; RFC 5280 section 6) by the
`cryptography` library, at the time of signing: a certificate that expired since then was good when
it was used. Revocation is not asked for: no answer about a mail may wait for the network.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from pysequoia import Cert

from services.decryptor.openpgp.verifying import Keyring
from shared.certificates.naming import Unreadable

#: A claimed time of signing further in the future than clocks differ counts as now.
_CLOCK_SKEW = timedelta(days=1)
_MAX_DEPTH = 8
_MAX_INTERMEDIATES = 16

_AUTHORITY = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)
_SIGNER = verification.ExtensionPolicy.permit_all()


class Trust(NamedTuple):
    """Whether somebody trusted vouches for a certificate; if not, `reason` says why."""

    trusted: bool
    reason: str = ""


class TrustStore:
    """The authorities whose word counts."""

    def __init__(
        self, authorities: Iterable[x509.Certificate] = (), openpgp: Iterable[Cert] = ()
    ) -> None:
        """`openpgp`: public keys whose owners are known; OpenPGP has no authorities."""
        self.authorities = tuple(authorities)
        self.keyring = Keyring(openpgp)
        self._store = verification.Store(list(self.authorities)) if self.authorities else None

    @classmethod
    def load(cls, files: Iterable[bytes] = (), *, system: bool = True) -> TrustStore:
        """The authorities of the operating system, and what the administrator adds.

        `files` hold certificates (PEM or DER) or OpenPGP public keys (armoured). Raises ValueError
        where one holds neither.
        """
        found: list[x509.Certificate] = []
        openpgp: list[Cert] = []
        with warnings.catch_warnings():
            # The system's own list has certificates that newer rules would not allow.
            warnings.simplefilter("ignore")
            if system:
                paths = ssl.get_default_verify_paths()
                bundle = Path(paths.cafile or paths.openssl_cafile)
                if bundle.is_file():
                    found += x509.load_pem_x509_certificates(bundle.read_bytes())
            for data in files:
                if b"-----BEGIN PGP" in data:
                    openpgp += _public_keys(data)
                else:
                    found += _authorities(data)
        return cls(found, openpgp)

    def judge(
        self,
        certificate: x509.Certificate,
        intermediates: Iterable[x509.Certificate],
        signed_at: datetime | None,
    ) -> Trust:
        """Whether a path leads from an authority to the signer's certificate.

        `signed_at` is the time that the signer claims; None means now.
        """
        now = datetime.now(UTC)
        at = now if signed_at is None or signed_at > now + _CLOCK_SKEW else signed_at
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            return Trust(False, "The certificate of the signer was not valid when it signed.")
        if not _may_sign_mail(certificate):
            return Trust(False, "The certificate of the signer is not meant for mail.")
        if self._store is None:
            return Trust(False, "No authority is trusted here.")
        verifier = (
            verification.PolicyBuilder()
            .store(self._store)
            .time(at)
            .max_chain_depth(_MAX_DEPTH)
            .extension_policies(ca_policy=_AUTHORITY, ee_policy=_SIGNER)
            .build_client_verifier()
        )
        others = _distinct(intermediates, certificate, at)
        try:
            verifier.verify(certificate, others)
        except (verification.VerificationError, *Unreadable):
            return Trust(False, "No trusted authority vouches for the certificate of the signer.")
        return Trust(True)


def _distinct(
    intermediates: Iterable[x509.Certificate], leaf: x509.Certificate, at: datetime
) -> list[x509.Certificate]:
    """The certificates that can lie on a path at that time, one for each name and key.

    Dozens with one name and one key fit each below every other: the paths through them are more
    than can ever be tried.
    """
    found: dict[tuple[bytes, bytes], x509.Certificate] = {}
    for one in intermediates:
        if one == leaf or not one.not_valid_before_utc <= at <= one.not_valid_after_utc:
            continue
        try:
            key = one.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            found.setdefault((one.subject.public_bytes(), key), one)
        except Unreadable:
            continue
    return list(found.values())[:_MAX_INTERMEDIATES]


def _authorities(data: bytes) -> list[x509.Certificate]:
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except Unreadable as error:
        raise ValueError("not a certificate") from error


def _public_keys(data: bytes) -> list[Cert]:
    try:
        return Cert.split_bytes(data)
    except RuntimeError as error:
        raise ValueError("not an OpenPGP public key") from error


def _may_sign_mail(certificate: x509.Certificate) -> bool:
    """RFC 8550 section 4.4: key usage and extended key usage, where they are present."""
    try:
        extensions = certificate.extensions
    except Unreadable:
        return False
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature or usage.content_commitment):
            return False
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return (
        ExtendedKeyUsageOID.EMAIL_PROTECTION in purposes
        or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes
    )
