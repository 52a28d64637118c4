"""What administrators have of a client certificate: PEM, or a PFX with a password."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    KeySerializationEncryption,
    NoEncryption,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from shared.clock import utc_now
from shared.errors import InvalidInput
from shared.microsoft_certificates import client_certificate_of, pem_of

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "posthouse")])
CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(7)
    .not_valid_before(utc_now())
    .not_valid_after(utc_now() + timedelta(days=90))
    .sign(KEY, hashes.SHA256())
)


def pfx(encryption: KeySerializationEncryption) -> str:
    octets = pkcs12.serialize_key_and_certificates(b"x", KEY, CERTIFICATE, None, encryption)
    return base64.b64encode(octets).decode()


@pytest.mark.promise("A1")
def test_a_pfx_is_taken_with_its_password() -> None:
    for given in (
        f"pass:word:{pfx(BestAvailableEncryption(b'pass:word'))}",
        pfx(NoEncryption()),
    ):
        pem = pem_of(given)
        assert client_certificate_of(pem) == CERTIFICATE
        assert pem_of(pem) == pem


@pytest.mark.parametrize(
    "given", [f"wrong:{pfx(BestAvailableEncryption(b'right'))}", "no base64!", "AAAA", ""]
)
def test_what_is_neither_is_refused_with_what_to_do(given: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        pem_of(given)
    assert refused.value.field == "client_certificate"
    assert "openssl pkcs12" in refused.value.hint
