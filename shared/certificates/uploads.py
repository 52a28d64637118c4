"""An uploaded file with a certificate and its private key: PKCS #12 of every age, or PEM."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from shared.bounded_process import TookTooMuch, in_bounds
from shared.certificates import ml_kem, openpgp_keys, pem_certificates, pkcs12_files
from shared.certificates.decryption_keys import PrivateKey
from shared.certificates.identifiers import Unreadable
from shared.errors import InvalidInput
from shared.mail.addresses import lowered

#: No key file comes near this.
MAX_UPLOAD_BYTES = 1 << 20

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_OPENSSH = b"BEGIN OPENSSH PRIVATE KEY"
#: Of several keys in a file so many are named, each by so many characters.
_SHOWN = 10
_LONGEST_NAME = 100
_SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"
_NO_KEY = "There is no private key in this file."
_NO_KEY_HINT = (
    "Export the certificate together with its private key: as PKCS #12 (.p12, .pfx), or as PEM "
    "with both in one file."
)
_NOT_READ = "The key in this file is of a kind, or in a form, that is not read here."
_NOT_OPENED = (
    "The password does not open the key in this file, or the key is of a kind, or in a form, that "
    "is not read here."
)
_NOT_READ_HINT = (
    "RSA, elliptic curves and X25519 are read in every form; X448 as PEM; ML-KEM-768 and 1024 as "
    "PEM without a password, with the seed: openssl pkcs12 -in FILE -noenc -out NEW.pem"
)
_ONLY_A_KEY = "There is no certificate in this file, only a key."
_OTHER_ENCRYPTION = "The key in this file is protected by an encryption that is not supported."


@dataclass(frozen=True, slots=True)
class ParsedCertificate:
    """What an upload holds. `private_key` is to be encrypted at rest, and shown to nobody.

    `serial` and `fingerprint` (SHA-256 of the certificate; for OpenPGP the key's own fingerprint)
    are lower-case hex. `private_key` is PKCS #8 DER for `smime`, opaque for `openpgp`.
    `not_after` is None for a key without an end.
    """

    kind: Literal["smime", "openpgp"]
    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime | None
    friendly_name: str
    emails: tuple[str, ...]
    key_type: str
    certificate: bytes
    private_key: bytes = field(repr=False)
    chain: tuple[bytes, ...] = ()


def parse_upload(data: bytes, password: str | None = None) -> ParsedCertificate:
    """`parse_certificate` for a service: the file takes bounded work (`bounded_process`)."""
    try:
        return in_bounds(parse_certificate, data, password)
    except TookTooMuch as error:
        raise InvalidInput(
            "This file asks for more work or memory than its password is worth.",
            field="file",
            hint="Export it again with fewer iterations: openssl pkcs12 -in FILE -export -out NEW",
        ) from error


def parse_certificate(data: bytes, password: str | None = None) -> ParsedCertificate:
    """Reads PKCS #12, PEM, or an OpenPGP secret key (armoured or not).

    Raises InvalidInput with `field` `file` or `password`. Takes what work the file asks for.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise InvalidInput("This file is too large for a certificate.", field="file")
    data = pkcs12_files.without_marks(data)
    if not data.strip():
        raise InvalidInput("The file is empty.", field="file")
    if openpgp_keys.looks_like_openpgp(data):
        key = openpgp_keys.parse_openpgp(data, password)
        return ParsedCertificate(
            kind="openpgp",
            subject=key.user_ids[0] if key.user_ids else key.fingerprint,
            issuer="",
            serial="",
            fingerprint=key.fingerprint,
            not_before=key.created,
            not_after=key.expires,
            friendly_name=key.user_ids[0] if key.user_ids else key.fingerprint,
            emails=key.emails,
            key_type=key.key_type,
            certificate=key.certificate,
            private_key=key.private_key,
        )
    with warnings.catch_warnings():
        # Old certificates break rules that newer ones follow; they still open old mail.
        warnings.simplefilter("ignore")
        try:
            armoured = pkcs12_files.unarmoured_pkcs12(data)
            if armoured is None and b"-----BEGIN " in data:
                return _pem(data, password)
            return _pkcs12(armoured or data, password)
        except Unreadable as error:
            raise InvalidInput(
                "A certificate in this file cannot be read.", field="file"
            ) from error


def _pkcs12(data: bytes, password: str | None) -> ParsedCertificate:
    if data[:1] != b"\x30":
        raise InvalidInput(
            "This is neither a PKCS #12 file nor PEM.", field="file", hint=_NO_KEY_HINT
        )
    names = pkcs12_files.key_names(data)
    if len(names) > 1:
        raise InvalidInput(
            f"There are {len(names)} private keys in this file: {', '.join(names)}.",
            field="file",
            hint="Export each key with its certificate into a file of its own.",
        )
    loaded: pkcs12.PKCS12KeyAndCertificates | None = None
    # An empty password and none at all are two different things in PKCS #12, but not to people.
    tries = [password.encode()] if password else [b"", None]
    cause: Exception | None = None
    for candidate in tries:
        try:
            loaded = pkcs12.load_pkcs12(data, candidate)
            break
        except Unreadable as error:
            cause = error
    if loaded is None:
        raise _not_pkcs12(data, password, cause) from cause
    if loaded.key is None:
        raise InvalidInput(_NO_KEY, field="file", hint=_NO_KEY_HINT)
    entries = ([loaded.cert] if loaded.cert else []) + list(loaded.additional_certs)
    if not entries:
        raise InvalidInput(_ONLY_A_KEY, field="file", hint=_NO_KEY_HINT)
    friendly = {
        entry.certificate.fingerprint(hashes.SHA256()): entry.friendly_name for entry in entries
    }
    return _parsed(loaded.key, [entry.certificate for entry in entries], friendly)


def _not_pkcs12(data: bytes, password: str | None, cause: Exception | None) -> InvalidInput:
    """Why a DER file did not load, as precisely as can be said."""
    if cause is not None and _is_about_the_key(cause):
        return InvalidInput(_NOT_READ, field="file", hint=_NOT_READ_HINT)
    if isinstance(cause, UnsupportedAlgorithm):
        return InvalidInput(
            "This PKCS #12 file uses an encryption that is not supported.",
            field="file",
            hint="Export it again with a current program, or convert it with openssl.",
        )
    try:
        x509.load_der_x509_certificate(data)
        return InvalidInput(_NO_KEY, field="file", hint=_NO_KEY_HINT)
    except Unreadable:
        pass
    if _is_lone_key(data):
        return InvalidInput(_ONLY_A_KEY, field="file", hint=_NO_KEY_HINT)
    if cause is not None and "password" in str(cause).lower():
        if password:
            return InvalidInput("The password does not open this file.", field="password")
        return InvalidInput("This file is protected by a password.", field="password")
    return InvalidInput("This PKCS #12 file is damaged.", field="file")


def _is_lone_key(data: bytes) -> bool:
    """Whether a DER file is a private key of PKCS #8, behind a password or not."""
    try:
        serialization.load_der_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm):
        return False
    except TypeError:  # there is a password
        pass
    return True


def _pem(data: bytes, password: str | None) -> ParsedCertificate:
    blocks = [(match[1].decode("ascii"), match[0]) for match in _PEM.finditer(data)]
    certificates = [
        pem_certificates.certificate(block)
        for label, block in blocks
        if label in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
    ]
    keys = list(dict.fromkeys(block for label, block in blocks if label.endswith("PRIVATE KEY")))
    if not keys:
        raise InvalidInput(_NO_KEY, field="file", hint=_NO_KEY_HINT)
    if len(keys) > 1:
        names = [_key_name(key, password, certificates) for key in keys[:_SHOWN]]
        raise InvalidInput(
            f"There are {len(keys)} private keys in this file: {', '.join(names)}"
            f"{' …' if len(keys) > _SHOWN else '.'}",
            field="file",
            hint="Upload each key with its certificate as a file of its own.",
        )
    if not certificates:
        raise InvalidInput(_ONLY_A_KEY, field="file", hint=_NO_KEY_HINT)
    return _parsed(_private_key(keys[0], password), certificates, {})


def _key_name(block: bytes, password: str | None, certificates: Sequence[x509.Certificate]) -> str:
    """What a private key is called: as its certificate, or else by its kind."""
    try:
        key = _private_key(block, password)
    except InvalidInput:
        return "one that is not read" if b"ENCRYPTED" not in block else "one behind a password"
    public = _public_bytes(key.public_key())  # type: ignore[attr-defined]
    own = [one for one in certificates if _public_key_of(one) == public]
    if own:
        return _name(own[0].subject)[:_LONGEST_NAME]
    kind = _key_type(key) if isinstance(key, PrivateKey) else "signing"
    return f"one without a certificate ({kind})"


def _private_key(block: bytes, password: str | None) -> object:
    protected = b"ENCRYPTED" in block
    if protected and not password:
        raise InvalidInput("The key in this file is protected by a password.", field="password")
    try:
        secret = password.encode() if protected and password else None
        return serialization.load_pem_private_key(block, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if str(error).startswith("Unknown key encryption algorithm"):
            raise InvalidInput(
                _OTHER_ENCRYPTION, field="file", hint="Convert it: openssl pkey -aes256 -in FILE"
            ) from error
        if _OPENSSH in block:
            raise InvalidInput(_NOT_READ, field="file", hint=_NOT_READ_HINT) from error
        if protected and not _is_about_the_key(error):
            raise InvalidInput(
                "The password does not open the key in this file.", field="password"
            ) from error
        if protected and not isinstance(error, UnsupportedAlgorithm):
            # Nothing but the padding shows a wrong password, and that fits once in 256 times.
            raise InvalidInput(_NOT_OPENED, field="password", hint=_NOT_READ_HINT) from error
        try:
            key = None if protected else ml_kem.from_both_forms(block)
        except ml_kem.NoSeed:
            raise InvalidInput(_NOT_READ, field="file", hint=_NOT_READ_HINT) from error
        if key is not None:
            return key
        if protected or isinstance(error, UnsupportedAlgorithm):
            raise InvalidInput(_NOT_READ, field="file", hint=_NOT_READ_HINT) from error
        raise InvalidInput("The private key in this file is damaged.", field="file") from error


def _is_about_the_key(error: Exception) -> bool:
    """Whether the file was opened, and the key in it not understood. There is no other sign."""
    return str(error).startswith(
        ("Unknown key type", "Could not deserialize key data", "Key must be ")
    )


def _parsed(
    key: object,
    certificates: Sequence[x509.Certificate],
    names: dict[bytes, bytes | None],
) -> ParsedCertificate:
    if not isinstance(key, PrivateKey):
        raise InvalidInput(
            "The key in this file can sign, but not decrypt.",
            field="file",
            hint="Upload the one that others encrypt for: RSA, elliptic curve, X25519 or ML-KEM.",
        )
    public = _public_bytes(key.public_key())
    own = [one for one in certificates if _public_key_of(one) == public]
    if not own:
        raise InvalidInput(
            "The private key in this file does not belong to a certificate in it.", field="file"
        )
    leaf = max(own, key=lambda one: one.not_valid_after_utc)
    fingerprint = leaf.fingerprint(hashes.SHA256())
    emails = addresses(leaf)
    name = names.get(fingerprint)
    subject = _name(leaf.subject)
    return ParsedCertificate(
        kind="smime",
        subject=subject,
        issuer=_name(leaf.issuer),
        serial=f"{leaf.serial_number:x}",
        fingerprint=fingerprint.hex(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        friendly_name=name.decode("utf-8", "replace") if name else "",
        emails=emails,
        key_type=_key_type(key),
        certificate=leaf.public_bytes(serialization.Encoding.DER),
        private_key=key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        chain=tuple(
            one.public_bytes(serialization.Encoding.DER) for one in certificates if one is not leaf
        ),
    )


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public_key_of(certificate: x509.Certificate) -> bytes | None:
    try:
        return _public_bytes(certificate.public_key())
    except Unreadable:
        return None


def _name(name: x509.Name) -> str:
    return name.rfc4514_string({NameOID.EMAIL_ADDRESS: "E"})


def addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """The mail addresses of a certificate, in lower case: those of its alternative names, else of
    its subject.

    An authority that checks alternative names may leave a subject as it was asked for
    (X509_check_email of OpenSSL looks no further either).
    """
    found: list[str] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found += names.get_values_for_type(x509.RFC822Name)
        for other in names.get_values_for_type(x509.OtherName):
            if other.type_id.dotted_string == _SMTP_UTF8_MAILBOX:
                found += _utf8_mailbox(other.value)
    except (x509.ExtensionNotFound, *Unreadable):
        pass
    if not found:
        try:
            for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
                found.append(str(attribute.value))
        except Unreadable:
            pass
    return tuple(dict.fromkeys(map(lowered, found)))


def _utf8_mailbox(value: bytes) -> list[str]:
    """The address of a SmtpUTF8Mailbox (RFC 9598 section 3), a UTF8String.

    None where its local part is ASCII: such an address belongs into rfc822Name, and here it would
    pass by the constraints for names of that kind.
    """
    if value[:1] != b"\x0c" or len(value) < 2 or value[1] >= 0x80 or len(value) != value[1] + 2:
        return []
    try:
        address = value[2:].decode("utf-8")
    except UnicodeDecodeError:
        return []
    return [] if address.rpartition("@")[0].isascii() else [address]


def _key_type(key: object) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"EC {key.curve.name}"
    names: dict[type, str] = {
        x25519.X25519PrivateKey: "X25519",
        x448.X448PrivateKey: "X448",
        mlkem.MLKEM768PrivateKey: "ML-KEM-768",
        mlkem.MLKEM1024PrivateKey: "ML-KEM-1024",
    }
    return next(name for kind, name in names.items() if isinstance(key, kind))
