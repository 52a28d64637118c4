"""Certification paths (RFC 5280 section 6) from a signer to a trust anchor, built by OpenSSL.

With the OpenSSL that `cryptography` brings, through pyOpenSSL: what `openssl verify` finds, these
find, brainpool curves, version 1 roots, ML-DSA and name constraints for mail addresses (those in
the subject too) included. What OpenSSL leaves to its caller is checked here on the path it found:
digests and keys that prove nothing any more, and what intermediate authorities are meant for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import crypto

from shared.certificates.identifiers import Unreadable
from shared.certificates.purposes import weak_key, why_no_ca

_MAX_DEPTH = 8
_MAX_INTERMEDIATES = 16
_WEAK_DIGESTS = ("md5", "sha1")
#: Errors of X509_verify_cert that say no more than that there is no path.
_NO_PATH = frozenset({2, 18, 19, 20, 21})


class NoPath(Exception):
    """`str()` says in a sentence why nobody vouches."""


class Paths:
    """Finds paths to some trust anchors. Thread-safe."""

    def __init__(self, trust_anchors: Iterable[x509.Certificate]) -> None:
        self.trust_anchors = tuple(trust_anchors)
        self._loaded = [crypto.X509.from_cryptography(one) for one in self.trust_anchors]

    def check(
        self,
        certificate: x509.Certificate,
        intermediates: Iterable[x509.Certificate],
        at: datetime,
    ) -> list[x509.Certificate]:
        """The path from the certificate to the trust anchor that vouches for it at that time.

        Raises NoPath where none does.
        """
        if not self.trust_anchors:
            raise NoPath("There is no trust anchor here.")
        others = _distinct(intermediates, certificate, at)
        try:
            chain = self._built(certificate, others, at)
            _check_strength(chain)
            return chain
        except (crypto.Error, *Unreadable) as error:
            raise NoPath("No trust anchor vouches for the certificate of the signer.") from error

    def _built(
        self, certificate: x509.Certificate, others: Sequence[x509.Certificate], at: datetime
    ) -> list[x509.Certificate]:
        # One store for each check: of the times that a store is given, only the first counts.
        store = crypto.X509Store()
        # A trust anchor that is given counts, whoever signed it.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        store.set_time(at)
        for one in self._loaded:
            store.add_cert(one)
        leaf = crypto.X509.from_cryptography(certificate)
        between = [crypto.X509.from_cryptography(one) for one in others]
        try:
            chain = crypto.X509StoreContext(store, leaf, between).get_verified_chain()
        except crypto.X509StoreContextError as error:
            raise NoPath(_said(error)) from error
        return [one.to_cryptography() for one in chain]


def _said(error: crypto.X509StoreContextError) -> str:
    number, _, text = (*error.errors, 0, 0, "")[:3]
    sentence = "No trust anchor vouches for the certificate of the signer"
    return f"{sentence}." if number in _NO_PATH else f"{sentence}: {text}."


def _check_strength(chain: Sequence[x509.Certificate]) -> None:
    """`chain` leads from the signer to a trust anchor, whose own signature says
    nothing and is not looked at."""
    if len(chain) - 2 > _MAX_DEPTH:
        raise NoPath("The path to the trust anchor is too long.")
    for number, one in enumerate(chain):
        who = "the signer" if number == 0 else "an authority on the way"
        weak = weak_key(one)
        if weak:
            raise NoPath(f"The certificate of {who} proves nothing: {weak}.")
        digest = None if one is chain[-1] else one.signature_hash_algorithm
        if digest is not None and digest.name in _WEAK_DIGESTS:
            raise NoPath(f"The certificate of {who} is signed with {digest.name.upper()}.")
        why = why_no_ca(one) if number else ""
        if why:
            raise NoPath(f"An authority on the way vouches for nobody: {why}.")


def _distinct(
    intermediates: Iterable[x509.Certificate], leaf: x509.Certificate, at: datetime
) -> list[x509.Certificate]:
    """The certificates that can lie on a path at that time, one for each name and key.

    A mail can bring dozens with one name and one key, each of which fits below every other.
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
