"""Keys and certificates for the tests: made once a session, written for the openssl command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.decryptor.trust import TrustStore
from shared.certificates import Identity, IdentityIndex

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Holder:
    """Somebody with a key: `key` and `cert` are PEM files."""

    name: str
    email: str
    private: object
    certificate: x509.Certificate
    key: Path
    cert: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pkcs8(self) -> bytes:
        return self.private.private_bytes(  # type: ignore[attr-defined, no-any-return]
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def identity(self) -> Identity:
        return Identity.load(self.name, self.der, self.pkcs8)


def common_name(text: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Stadtwerke"),
            x509.NameAttribute(NameOID.COMMON_NAME, text),
        ]
    )


class Pki:
    """An authority, and holders made by it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holders: dict[str, Holder] = {}
        self.root_key = rsa.generate_private_key(65537, 2048)
        self.root = self._authority("Example Root", self.root_key)
        self.root_pem = folder / "root.pem"
        self.root_pem.write_bytes(self.root.public_bytes(serialization.Encoding.PEM))
        self.trust = TrustStore([self.root])

    def _authority(self, name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(common_name(name))
            .issuer_name(common_name(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 4000 * DAY)
            .not_valid_after(NOW + 4000 * DAY)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )

    def holder(
        self,
        name: str,
        private: object,
        *,
        email: str | None = None,
        days: tuple[int, int] = (-30, 365),
        key_id: bool = True,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        self_signed: bool = False,
        pss: bool = False,
    ) -> Holder:
        """A certificate for `name`, valid from `days[0]` to `days[1]` (from now)."""
        email = email or f"{name}@example.org"
        public = private.public_key()  # type: ignore[attr-defined]
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name(name))
            .issuer_name(common_name(name) if self_signed else self.root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
        )
        if key_id:
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public), False
            )
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None
        certificate = builder.sign(
            private if self_signed else self.root_key,  # type: ignore[arg-type]
            None
            if self_signed
            and isinstance(private, ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey)
            else hashes.SHA256(),
            rsa_padding=scheme,
        )
        key, cert = self.folder / f"{name}.key.pem", self.folder / f"{name}.cert.pem"
        key.write_bytes(
            private.private_bytes(  # type: ignore[attr-defined]
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.holders[name] = Holder(name, email, private, certificate, key, cert)
        return self.holders[name]


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve)


def x25519_key() -> x25519.X25519PrivateKey:
    return x25519.X25519PrivateKey.generate()


def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def index(*holders: Holder) -> IdentityIndex:
    return IdentityIndex(holder.identity() for holder in holders)
