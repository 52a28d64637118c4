"""Certification paths of every kind, good and bad, for us and for `openssl verify`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.smime.pki import NOW

EMAIL = "alice@example.org"
FAR = timedelta(days=900)
_SIGN_CERTIFICATES = x509.KeyUsage(
    False, False, False, False, False, True, True, False, False
)  # fmt: skip
SIGN = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
ENCIPHER = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
MAIL = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
ANY_AND_MAIL = x509.ExtendedKeyUsage([*ANY, *MAIL])
AUTHORITY = x509.BasicConstraints(True, None)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
_KEYS: dict[str, object] = {}
_SIGNERS: dict[int, object] = {}


def key(kind: str, use: str) -> object:
    """A key for each kind and use, made once."""
    makers: dict[str, Callable[[], object]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "mldsa": mldsa.MLDSA65PrivateKey.generate,
    }
    return _KEYS.setdefault(f"{kind} {use}", makers[kind]())


@dataclass(frozen=True)
class Link:
    """One certificate of a path; `critical` are those of `extensions` that are marked so."""

    key: str = "p256"
    extensions: tuple[x509.ExtensionType, ...] = ()
    critical: tuple[type, ...] = (x509.BasicConstraints, x509.NameConstraints)
    sha1: bool = False
    version_1: bool = False
    subject_email: str = ""
    days: tuple[int, int] = (-800, 800)


ROOT = Link(extensions=(AUTHORITY, _SIGN_CERTIFICATES))
MIDDLE = Link(extensions=(AUTHORITY, _SIGN_CERTIFICATES))
LEAF = Link(extensions=(x509.SubjectAlternativeName([x509.RFC822Name(EMAIL)]), SIGN, MAIL))


def without(link: Link, *kinds: type) -> Link:
    kept = tuple(one for one in link.extensions if not isinstance(one, kinds))
    return replace(link, extensions=kept)


def having(link: Link, *more: x509.ExtensionType) -> Link:
    """The link with these extensions, in the place of those of the same kind."""
    return replace(
        link, extensions=(*without(link, *(type(one) for one in more)).extensions, *more)
    )


def permitted(*names: str) -> x509.NameConstraints:
    return x509.NameConstraints([x509.RFC822Name(name) for name in names], None)


def excluded(*names: str) -> x509.NameConstraints:
    return x509.NameConstraints(None, [x509.RFC822Name(name) for name in names])


def netscape(bits: int) -> x509.UnrecognizedExtension:
    """The extension by which Netscape told what a certificate is for, a BIT STRING."""
    oid = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
    return x509.UnrecognizedExtension(oid, bytes((0x03, 0x02, 0x00, bits)))


def utf8_mailbox(address: str) -> x509.SubjectAlternativeName:
    """An alternative name of the kind SmtpUTF8Mailbox (RFC 9598)."""
    octets = address.encode()
    value = bytes((0x0C, len(octets))) + octets
    oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
    return x509.SubjectAlternativeName([x509.OtherName(oid, value)])


def issued(
    path: list[Link], folder: Path, above: list[x509.Certificate] | None = None
) -> list[x509.Certificate]:
    """The certificates of a path, the authority first; `above` are those that exist already."""
    made = list(above or ())
    signer: object = _SIGNERS[made[-1].serial_number] if made else None
    for number, link in list(enumerate(path))[len(made) :]:
        private = key(link.key, f"level {number}")
        issuer = made[-1].subject if made else _name(0, link)
        if link.version_1:
            made.append(_version_1(private, number, folder))
            signer = _SIGNERS[made[-1].serial_number] = private
            continue
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(number, link))
            .issuer_name(issuer)
            .public_key(private.public_key())  # type: ignore[attr-defined]
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=link.days[0]))
            .not_valid_after(NOW + timedelta(days=link.days[1]))
        )
        for one in link.extensions:
            builder = builder.add_extension(one, isinstance(one, link.critical))
        signer = signer or private
        plain = isinstance(signer, ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey)
        signed = builder.sign(signer, None if plain else hashes.SHA256())  # type: ignore[arg-type]
        made.append(_with_sha1(signed, signer) if link.sha1 and not plain else signed)
        signer = _SIGNERS[made[-1].serial_number] = private
    return made


def _with_sha1(certificate: x509.Certificate, signer: object) -> x509.Certificate:
    """The same certificate with a signature over its SHA-1, which no library makes any more."""
    made = asn1.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))
    rsa_key = isinstance(signer, rsa.RSAPrivateKey)
    name = {"algorithm": "sha1_rsa" if rsa_key else "sha1_ecdsa"}
    made["tbs_certificate"]["signature"] = name
    made["signature_algorithm"] = name
    how = (padding.PKCS1v15(), hashes.SHA1()) if rsa_key else (ec.ECDSA(hashes.SHA1()),)
    made["signature_value"] = signer.sign(made["tbs_certificate"].dump(), *how)  # type: ignore[attr-defined]
    return x509.load_der_x509_certificate(made.dump(force=True))


def _name(number: int, link: Link) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, f"level {number}")]
    if link.subject_email:
        parts.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, link.subject_email))
    return x509.Name(parts)


def _version_1(private: object, number: int, folder: Path) -> x509.Certificate:
    """A self-signed certificate without extensions, as openssl makes it from a request."""
    file = folder / "v1.key"
    file.write_bytes(pem_of_key(private))
    request = subprocess.run(
        ["openssl", "req", "-new", "-key", file, "-subj", f"/CN=level {number}"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    made = subprocess.run(
        ["openssl", "x509", "-req", "-signkey", file, "-days", "800"],
        input=request, check=True, capture_output=True,
    ).stdout  # fmt: skip
    return x509.load_pem_x509_certificate(made)


def pem_of_key(private: object) -> bytes:
    return private.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def openssl_says(
    above: list[x509.Certificate], leaves: list[x509.Certificate], folder: Path
) -> list[bool]:
    """What `openssl verify` says of each leaf, for the purpose of signing mail."""
    root, *middle = above
    for name, held in (("root", [root]), ("middle", middle)):
        (folder / f"{name}.pem").write_bytes(pem(*held))
    files = [folder / f"leaf-{number}.pem" for number in range(len(leaves))]
    for file, leaf in zip(files, leaves, strict=True):
        file.write_bytes(pem(leaf))
    untrusted = ["-untrusted", str(folder / "middle.pem")] if middle else []
    done = subprocess.run(
        ["openssl", "verify", "-no-CApath", "-no-CAstore", "-partial_chain",
         "-purpose", "smimesign", "-CAfile", str(folder / "root.pem"), *untrusted,
         *map(str, files)],
        check=False, capture_output=True,
    )  # fmt: skip
    return [f"{file}: OK".encode() in done.stdout.splitlines() for file in files]
