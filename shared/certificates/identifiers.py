"""What a certificate is called by others: issuer and serial number, or key id (RFC 5652 10.2.4)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

from asn1crypto import core, x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

#: What reading (a field of) a damaged certificate raises; not all of them are ValueErrors.
Unreadable = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
)


#: What asn1crypto raises for a structure that is none.
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, IndexError)


class CertificateName(NamedTuple):
    """`issuer` is the Name element as it lies in the certificate.

    `key_ids` are the subject key identifier and the SHA-1 of the public key, which senders use
    where the extension is absent.
    """

    issuer: bytes
    serial: int
    key_ids: frozenset[bytes]


def certificate_name(certificate: bytes) -> CertificateName:
    """Of a certificate in DER. Raises ValueError where it cannot be read."""
    try:
        tbs = x509.Certificate.load(certificate)["tbs_certificate"]
        # Its bits, whatever algorithm they belong to: the library stops at those that it knows.
        public = core.SequenceOf.load(tbs["subject_public_key_info"].dump(), spec=core.Any)[1]
        key_ids = {hashlib.sha1(public.contents[1:], usedforsecurity=False).digest()}
        for extension in tbs["extensions"]:
            if extension["extn_id"].native == "key_identifier":
                key_ids.add(bytes(extension["extn_value"].parsed))
        return CertificateName(
            tbs["issuer"].dump(), tbs["serial_number"].native, frozenset(key_ids)
        )
    except _DAMAGED as error:
        raise ValueError("not a certificate") from error


@lru_cache(maxsize=1024)
def normalised_name(name: bytes) -> str:
    """A Name element prepared for comparison (RFC 5280 section 7.1).

    Senders re-encode names: other string types, other case. A damaged one equals only itself.
    """
    try:
        return str(x509.Name.load(name).hashable)
    except _DAMAGED:
        return name.hex()


@lru_cache(maxsize=1024)
def name_text(name: bytes) -> str:
    """A Name element for people: `CN=Example CA, O=Example`; hex where it is damaged."""
    try:
        parts = [
            f"{_SHORT.get(pair['type'].native, pair['type'].native)}={pair['value'].native}"
            for relative in reversed(list(x509.Name.load(name).chosen))
            for pair in relative
        ]
        return ", ".join(parts)[:500]
    except _DAMAGED:
        return name[:64].hex()


_SHORT = {
    "common_name": "CN",
    "organization_name": "O",
    "organizational_unit_name": "OU",
    "country_name": "C",
    "locality_name": "L",
    "state_or_province_name": "ST",
    "email_address": "E",
    "serial_number": "SN",
    "domain_component": "DC",
}
