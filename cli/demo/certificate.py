"""The demo mailbox's own S/MIME identity, made on this machine the first time it is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Protects a key that opens sample mails and nothing else; so it may be known.
PASSWORD = "demo"  # noqa: S105
USER = "demo@posthouse.example"


@dataclass(frozen=True)
class DemoCertificate:
    """Certificate and key that mails to the demo mailbox are encrypted for."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    pkcs12: bytes

    @classmethod
    def of(cls, folder: Path) -> DemoCertificate:
        """The one of this folder, made the first time."""
        path = folder / "demo.p12"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = folder / f"demo.p12.{os.getpid()}"
            beside.touch(mode=0o600)
            beside.write_bytes(_new_pkcs12())
            try:  # whoever is first: everybody else takes that one
                os.link(beside, path)
            except FileExistsError:
                pass
            finally:
                beside.unlink()
        content = path.read_bytes()
        key, certificate, _ = pkcs12.load_key_and_certificates(content, PASSWORD.encode())
        assert isinstance(key, rsa.RSAPrivateKey)
        assert certificate is not None
        return cls(certificate, key, content)


def self_signed(name: str, address: str) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A fresh S/MIME certificate that nobody but itself vouches for."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, address),
        ]
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1095))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _new_pkcs12() -> bytes:
    certificate, key = self_signed("Posthouse demo mailbox", USER)
    return pkcs12.serialize_key_and_certificates(
        b"demo mailbox",
        key,
        certificate,
        None,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
