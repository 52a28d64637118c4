"""Certificates and OpenPGP keys of senders, and trust anchors: public parts that somebody uploads.

An OpenPGP key has no trust anchor that vouches for it; a certificate may have one that is not known
here. Who uploads one as a sender's says: I know whose it is. It then counts for its own addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pysequoia import Cert
from pysequoia.packet import Packet, PacketPile, Tag

from shared.bounded_process import TookTooMuch, in_bounds
from shared.certificates.identifiers import Unreadable
from shared.certificates.openpgp_keys import (
    emails_of,
    expiry_of,
    looks_like_openpgp,
    refuse_other_versions,
)
from shared.certificates.pkcs12_files import without_marks
from shared.certificates.purposes import may_sign_mail, weak_key
from shared.certificates.uploads import MAX_UPLOAD_BYTES, addresses
from shared.errors import InvalidInput

#: User ids of one key, of which Sequoia takes the square at each signature that is right: 10,000
#: take it four seconds.
_MOST_USER_IDS = 200
_ECDSA = b"\x13"
#: Algorithms whose keys begin with the number that is their length.
_NUMBERS = {b"\x01": "RSA", b"\x03": "RSA", b"\x11": "DSA"}
_FEWEST_BITS = 2048
#: Those of GnuPG, by their OID.
_UNREAD_CURVES = {
    bytes.fromhex("2b8104000a"): "secp256k1",
    bytes.fromhex("2b2403030208010107"): "brainpoolP256r1",
    bytes.fromhex("2b240303020801010b"): "brainpoolP384r1",
    bytes.fromhex("2b240303020801010d"): "brainpoolP512r1",
}


@dataclass(frozen=True, slots=True)
class ParsedSender:
    """What an upload holds of one sender. `certificate` is DER, or an OpenPGP key in binary.

    `fingerprint` is that of the certificate (SHA-256) or of the OpenPGP key, in lower-case hex;
    `not_after` is None for a key without an end.
    """

    kind: Literal["smime", "openpgp"]
    subject: str
    emails: tuple[str, ...]
    fingerprint: str
    not_after: datetime | None
    certificate: bytes = field(repr=False)


def parse_sender_upload(data: bytes) -> Sequence[ParsedSender]:
    """`parse_senders` for a service: the file takes bounded work (`bounded_process`), as Sequoia
    unpacks what is compressed in a file, and tries each signature that fits nothing over each
    part of its key."""
    data = _checked(data)
    if not looks_like_openpgp(data):
        return parse_senders(data)
    try:
        return in_bounds(parse_senders, data)
    except TookTooMuch as error:
        raise InvalidInput(
            "This file asks for more work or memory than a key is worth.",
            field="file",
            hint="Export the key again, without what others signed: gpg --export --armor "
            "--export-options export-minimal ADDRESS",
        ) from error


def parse_senders(data: bytes) -> Sequence[ParsedSender]:
    """Reads certificates (PEM, or one in DER) or OpenPGP public keys (armoured or not).

    Raises InvalidInput (`file`) where one of them could never make a signature count. Takes what
    work the file asks for, up to its size: whoever has the file from somebody calls
    `parse_sender_upload`.
    """
    data = _checked(data)
    if looks_like_openpgp(data):
        return _openpgp(data)
    return [_certificate(one) for one in read_certificates(data)]


def merge_newer_copy(known: bytes, given: ParsedSender) -> ParsedSender | None:
    """An OpenPGP key that is known, with what a newer copy of it adds: a later end, a subkey, a
    revocation. None where it adds nothing, and for a certificate, which does not change.

    Nothing of the known one is lost: an older copy takes no revocation back. Raises InvalidInput
    where both together are too large for a key.
    """
    if given.kind != "openpgp":
        return None
    old = Cert.from_bytes(known)
    merged = bytes(old.merge(Cert.from_bytes(given.certificate)))
    if merged == bytes(old.merge(old)):
        return None
    (sender,) = parse_sender_upload(merged)
    return sender


def read_certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates of a file in PEM, or the one in DER. Raises InvalidInput (`file`)."""
    data = _checked(data)
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except Unreadable as error:
        raise InvalidInput("This file holds no readable certificate.", field="file") from error


def _checked(data: bytes) -> bytes:
    """A file of a size that may be, without what Windows wrote in front of it."""
    if len(data) > MAX_UPLOAD_BYTES:
        raise InvalidInput("This file is too large for a certificate.", field="file")
    data = without_marks(data)
    if not data.strip():
        raise InvalidInput("The file is empty.", field="file")
    return data


def is_revoked(kind: str, certificate: bytes) -> bool:
    """Whether a stored OpenPGP key says itself that its owner revoked it; of a certificate its
    authority says so."""
    return kind == "openpgp" and Cert.from_bytes(certificate).is_revoked


def text_of(kind: str, certificate: bytes) -> str:
    """A stored certificate or OpenPGP key as text: PEM, or armoured."""
    if kind == "openpgp":
        return str(Cert.from_bytes(certificate))
    read = x509.load_der_x509_certificate(certificate)
    return read.public_bytes(serialization.Encoding.PEM).decode()


def _certificate(one: x509.Certificate) -> ParsedSender:
    try:
        subject = one.subject.rfc4514_string()
        emails = addresses(one)
        weak = weak_key(one)
    except Unreadable as error:
        raise InvalidInput("This certificate is damaged.", field="file") from error
    why = weak or ("" if may_sign_mail(one) else "it is not meant for signing mail")
    if not emails:
        why = "it names no mail address"
    if why:
        raise InvalidInput(
            f"{subject} cannot be the certificate of a sender: {why}.",
            field="file",
            hint="The certificate of an authority belongs among the trust anchors.",
        )
    return ParsedSender(
        kind="smime",
        subject=subject or emails[0],
        emails=emails,
        fingerprint=one.fingerprint(hashes.SHA256()).hex(),
        not_after=one.not_valid_after_utc,
        certificate=one.public_bytes(serialization.Encoding.DER),
    )


def _openpgp(data: bytes) -> list[ParsedSender]:
    try:
        packets = list(PacketPile.from_bytes(data))
        refuse_other_versions(packets)
        _refuse_many_user_ids(packets)
        keys = Cert.split_bytes(data)
    except (RuntimeError, ValueError) as error:
        raise InvalidInput("This OpenPGP key is damaged.", field="file") from error
    if any(packet.tag in (Tag.SecretKey, Tag.SecretSubkey) for packet in packets):
        raise InvalidInput(
            "This file holds a secret key.",
            field="file",
            hint="Of a sender, give the public key only: gpg --export --armor ADDRESS",
        )
    return [_key(key) for key in keys]


def _refuse_many_user_ids(packets: Sequence[Packet]) -> None:
    user_ids = 0
    for packet in packets:
        if packet.tag == Tag.PublicKey:
            user_ids = 0
        user_ids += packet.tag == Tag.UserID
        if user_ids > _MOST_USER_IDS:
            raise InvalidInput(
                f"This key has more than {_MOST_USER_IDS} user ids.",
                field="file",
                hint="Export it with those that are needed: gpg --export --armor "
                "--export-filter 'keep-uid=mbox = ADDRESS' ADDRESS",
            )


def _key(key: Cert) -> ParsedSender:
    try:
        user_ids = tuple(str(user_id) for user_id in key.user_ids)
    except (RuntimeError, ValueError):
        user_ids = ()
    emails = emails_of(user_ids)
    if not emails:
        unread = _unread_kind(bytes(key))
        if unread:
            raise InvalidInput(
                f"The key {key.fingerprint} is {unread}: its signatures are not believed here.",
                field="file",
                hint="Ask its owner for a key of RSA with 2048 bits or more, on Curve25519 or on a "
                "NIST curve.",
            )
        raise InvalidInput(
            f"The key {key.fingerprint} binds no mail address to itself.",
            field="file",
            hint="Its user ids are missing, revoked, or signed with SHA-1, which can be forged: "
            "its owner has to renew it.",
        )
    return ParsedSender(
        kind="openpgp",
        subject=user_ids[0],
        emails=emails,
        fingerprint=key.fingerprint,
        not_after=expiry_of(key),
        certificate=bytes(key),
    )


def _unread_kind(key: bytes) -> str:
    """Of which kind a primary key is by which Sequoia believes nothing, a user id neither; "" where
    it is of another (RFC 9580 section 5.5.5)."""
    body = next((one.body for one in PacketPile.from_bytes(key) if one.tag == Tag.PublicKey), b"")
    algorithm, numbers = body[5:6], body[10:] if body[:1] == b"\6" else body[6:]
    bits = int.from_bytes(numbers[:2])
    if algorithm == _ECDSA:
        curve = _UNREAD_CURVES.get(numbers[1 : 1 + numbers[0]]) if numbers else None
        return f"one on the curve {curve}" if curve else ""
    name = _NUMBERS.get(algorithm)
    return f"one of {name} with {bits} bits" if name and bits < _FEWEST_BITS else ""
