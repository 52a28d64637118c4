"""Who vouches for a signer: a trust anchor, or the administrator himself.

A certificate counts at the time of signing: one that expired since then was good when it was used.
What is known of its revocation is beside it (`revocations`): no answer waits for the network.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from pysequoia import Cert

from services.decryptor.certification_paths import NoPath, Paths
from services.decryptor.openpgp.sender_keys import SenderKeys
from services.decryptor.revocation import Revocations
from shared.certificates.identifiers import Unreadable
from shared.certificates.purposes import may_sign_mail

#: A claimed time of signing further in the future than clocks differ counts as now.
_CLOCK_SKEW = timedelta(days=1)


class Trust(NamedTuple):
    """Whether somebody trusted vouches for a certificate; `reason` says why not, or what is to be
    known about it. `path` leads from the certificate to the trust anchor, and is empty for known
    senders."""

    trusted: bool
    reason: str = ""
    path: Sequence[x509.Certificate] = ()


class TrustStore:
    """The trust anchors and senders whose word counts."""

    def __init__(
        self,
        trust_anchors: Iterable[x509.Certificate] = (),
        openpgp: Iterable[Cert] = (),
        *,
        senders: Iterable[x509.Certificate] = (),
        system: Iterable[x509.Certificate] = (),
        revocations: Revocations | None = None,
    ) -> None:
        """`openpgp` and `senders` are keys and certificates whose owners the administrator knows;
        `system` are those of the operating system's list."""
        self.revocations = revocations or Revocations()
        self.keyring = SenderKeys(openpgp)
        self.senders: Sequence[x509.Certificate] = tuple(senders)
        self._given = Paths(trust_anchors)
        self._system = Paths(system)

    @classmethod
    def load(
        cls,
        trust_anchors: Iterable[bytes] = (),
        senders: Iterable[bytes] = (),
        *,
        system: bool,
        revocations: Revocations | None = None,
    ) -> TrustStore:
        """What the administrator gave, and with `system` the operating system's trust anchors.

        `trust_anchors` are certificates, `senders` certificates (PEM or DER) or OpenPGP public
        keys. Raises ValueError where one is neither.
        """
        openpgp: list[Cert] = []
        known: list[x509.Certificate] = []
        with warnings.catch_warnings():
            # The system's own list has certificates that newer rules would not allow.
            warnings.simplefilter("ignore")
            given = [one for data in trust_anchors for one in _certificates(data)]
            for data in senders:
                if data.lstrip()[:1] in (b"-", b"\x30") and b"-----BEGIN PGP" not in data:
                    known += _certificates(data)
                else:
                    openpgp += _public_keys(data)
            listed = _of_the_system() if system else ()
            return cls(given, openpgp, senders=known, system=listed, revocations=revocations)

    def judge(
        self,
        certificate: x509.Certificate,
        intermediates: Iterable[x509.Certificate],
        signed_at: datetime | None,
    ) -> Trust:
        """Whether the certificate was given as a sender's, or a path leads to a trust anchor.

        `signed_at` is the time that the signer claims; None means now.
        """
        now = datetime.now(UTC)
        at = now if signed_at is None or signed_at > now + _CLOCK_SKEW else signed_at
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            return Trust(False, "The certificate of the signer was not valid when it signed.")
        if not may_sign_mail(certificate):
            return Trust(False, "The certificate of the signer is not meant for mail.")
        if certificate in self.senders:
            return Trust(True)
        others = list(intermediates)
        try:
            return Trust(True, path=self._given.check(certificate, others, at))
        except NoPath as refusal:
            try:
                path = self._system.check(certificate, [*others, *self._given.trust_anchors], at)
            except NoPath:
                return Trust(False, str(refusal))
            return Trust(True, _BY_THE_SYSTEM, path)


_BY_THE_SYSTEM = (
    "The trust anchor is one of the operating system's list, which is made for web servers."
)


def _of_the_system() -> list[x509.Certificate]:
    paths = ssl.get_default_verify_paths()
    bundle = Path(paths.cafile or paths.openssl_cafile)
    return x509.load_pem_x509_certificates(bundle.read_bytes()) if bundle.is_file() else []


def _certificates(data: bytes) -> list[x509.Certificate]:
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
