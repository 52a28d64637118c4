"""OpenPGP secret keys (RFC 9580), read with Sequoia.

Sequoia is the OpenPGP implementation that is written and kept as a library (GnuPG is a program
with a key ring of its own, PGPy is not kept); its Python binding keeps a protected key protected,
so the password is stored with the key: both together are what the vault encrypts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pysequoia import Cert, Tsk
from pysequoia.packet import Packet, PacketPile, SignatureType, Tag

from shared.certificates.openpgp_subkeys import Subkey, decrypting_parts
from shared.errors import InvalidInput
from shared.mail.addresses import lowered, read_addresses

_SECRET = (Tag.SecretKey, Tag.SecretSubkey)
_SELF_SIGNATURES = (
    SignatureType.GenericCertification,
    SignatureType.PersonaCertification,
    SignatureType.CasualCertification,
    SignatureType.PositiveCertification,
    SignatureType.DirectKey,
)
#: Versions of keys that are read (RFC 9580 section 5.5.2).
_VERSIONS = (b"\4", b"\6")
#: Of several keys in a file so many are named, each by so many characters.
_SHOWN = 10
_LONGEST_NAME = 100
_ARMOUR = b"-----BEGIN PGP "
_PRIVATE = re.compile(
    rb"-----BEGIN PGP PRIVATE KEY BLOCK-----.*?-----END PGP PRIVATE KEY BLOCK-----[^\n]*\n?", re.S
)


@dataclass(frozen=True, slots=True)
class OpenPGPKey:
    """A secret key that can decrypt. `certificate` is its public part, binary.

    `subkeys` are all parts that decrypt, expired and revoked ones too: the mails that were
    encrypted for them do not change.
    """

    id: str
    fingerprint: str
    user_ids: tuple[str, ...]
    emails: tuple[str, ...]
    key_type: str
    created: datetime
    expires: datetime | None
    certificate: bytes
    private_key: bytes = field(repr=False)
    subkeys: tuple[Subkey, ...] = field(repr=False)


def looks_like_openpgp(data: bytes) -> bool:
    """Whether an upload is OpenPGP: armoured, or a secret or public key packet first."""
    if _ARMOUR in data[:4096]:
        return True
    # RFC 9580 section 4.2: packet type 5 (secret key) or 6 (public key), old or new header.
    return data[0] in (0xC5, 0xC6, 0x94, 0x95, 0x96, 0x98, 0x99, 0x9A)


def parse_openpgp(data: bytes, password: str | None) -> OpenPGPKey:
    """Reads one secret key. Raises InvalidInput with `field` `file` or `password`."""
    data = _private_blocks(data)
    try:
        packets = list(PacketPile.from_bytes(data))
        refuse_other_versions(packets)
        if not any(packet.tag in _SECRET for packet in packets):
            raise InvalidInput(
                "There is no private key in this file.",
                field="file",
                hint="Export the secret key: gpg --export-secret-keys --armor ADDRESS",
            )
        keys = Cert.split_bytes(data)
    except (RuntimeError, ValueError) as error:
        raise InvalidInput("This OpenPGP key is damaged.", field="file") from error
    if len(keys) > 1:
        raise InvalidInput(
            f"There are {len(keys)} keys in this file: {', '.join(map(_called, keys[:_SHOWN]))}"
            f"{' …' if len(keys) > _SHOWN else '.'}",
            field="file",
            hint="Upload each key as a file of its own: "
            f"gpg --export-secret-keys --armor {keys[0].fingerprint.upper()}",
        )
    return _opened("", Tsk.from_bytes(data), password)


def _called(key: Cert) -> str:
    user_ids = user_ids_of(key)
    return f"{user_ids[0][:_LONGEST_NAME]} ({key.fingerprint})" if user_ids else key.fingerprint


def _private_blocks(data: bytes) -> bytes:
    """Of armour, the private keys alone: exports put the public key into the same file."""
    return b"\n".join(_PRIVATE.findall(data)) or data


def load_openpgp(id: str, certificate: bytes, private_key: bytes) -> OpenPGPKey:
    """From what `parse_openpgp` gave as certificate and private key. Raises InvalidInput."""
    size = int.from_bytes(private_key[:2])
    password = private_key[2 : 2 + size].decode() or None
    try:
        secret = Tsk.from_bytes(private_key[2 + size :])
    except (RuntimeError, ValueError) as error:
        raise InvalidInput("The OpenPGP key cannot be read.") from error
    return _opened(id, secret, password)


class SecretPacket(NamedTuple):
    """A secret key packet, of type 5 or 7 (RFC 9580 section 5.5.1), and the password of its key."""

    kind: int
    body: bytes
    password: str


def secret_packet(key: OpenPGPKey, fingerprint: str) -> SecretPacket:
    """That of one part of a key; its body is empty where the secret is not here."""
    size = int.from_bytes(key.private_key[:2])
    password = key.private_key[2 : 2 + size].decode()
    for packet in PacketPile.from_bytes(key.private_key[2 + size :]):
        if packet.tag in _SECRET and packet.fingerprint == fingerprint:
            return SecretPacket(5 if packet.tag == Tag.SecretKey else 7, packet.body, password)
    return SecretPacket(7, b"", password)


def _opened(id: str, secret: Tsk, password: str | None) -> OpenPGPKey:
    subkeys, protected, unknown = decrypting_parts(secret, password)
    if not subkeys:
        raise _not_opened(password, protected, unknown)
    certificate = secret.extract_certificate()
    packets = [packet for packet in PacketPile.from_bytes(bytes(secret)) if packet.key_id]
    user_ids = user_ids_of(certificate)
    stored = (password or "").encode()
    return OpenPGPKey(
        id=id,
        fingerprint=certificate.fingerprint,
        user_ids=user_ids,
        emails=emails_of(user_ids),
        key_type=_key_type(packets),
        created=created_of(certificate),
        expires=expiry_of(certificate),
        certificate=bytes(certificate),
        private_key=len(stored).to_bytes(2) + stored + bytes(secret),
        subkeys=subkeys,
    )


def _not_opened(password: str | None, protected: bool, unknown: tuple[str, ...]) -> InvalidInput:
    """Why none of the parts opened."""
    if protected:
        if password:
            return InvalidInput("The password does not open this key.", field="password")
        return InvalidInput("This key is protected by a password.", field="password")
    if unknown:
        return InvalidInput(
            f"This OpenPGP key decrypts with {' or '.join(unknown)}, which is not supported.",
            field="file",
            hint="Add a subkey for encryption of RSA, or of ECDH on another curve.",
        )
    return InvalidInput(
        "This OpenPGP key has no part that can decrypt.",
        field="file",
        hint="It needs a subkey for encryption whose secret is in the file.",
    )


def refuse_other_versions(packets: list[Packet]) -> None:
    """Raises InvalidInput where a key is of a version that is not read, and names the key: of 5,
    which only GnuPG knows, or of PGP 2."""
    keys = (*_SECRET, Tag.PublicKey, Tag.PublicSubkey)
    for number, packet in enumerate(packets):
        version = packet.body[:1]
        if packet.tag not in keys or not version or version in _VERSIONS:
            continue
        name = next((one.user_id for one in packets[number:] if one.user_id), None)
        form = {5: ", a form of GnuPG's own", 2: " (PGP 2)", 3: " (PGP 2)"}.get(version[0], "")
        raise InvalidInput(
            f"This is an OpenPGP key of version {version[0]}{form} that is not supported"
            f"{f': {name[:_LONGEST_NAME]}' if name else ''}.",
            field="file",
            hint="Versions 4 and 6 (RFC 9580) are. GnuPG makes version 4 unless told otherwise.",
        )


def user_ids_of(certificate: Cert) -> tuple[str, ...]:
    """Of a key whatever its signatures are worth: for showing, never for trusting."""
    found = (packet.user_id for packet in PacketPile.from_bytes(bytes(certificate)))
    return tuple(dict.fromkeys(user_id for user_id in found if user_id))


def emails_of(user_ids: Iterable[str]) -> tuple[str, ...]:
    """The mail addresses in user ids, in lower case, each once; none of one that names several."""
    read = (read_addresses(one.encode("utf-8", "replace")).addresses for one in user_ids)
    return tuple(dict.fromkeys(lowered(found[0].address) for found in read if len(found) == 1))


def created_of(certificate: Cert) -> datetime:
    """When the primary key was made."""
    packets = PacketPile.from_bytes(bytes(certificate))
    return next((p.key_created for p in packets if p.key_created), datetime.now(UTC))


def expiry_of(certificate: Cert) -> datetime | None:
    """When a key ends, by its newest self-signature, whatever that is worth; None: without end."""
    created = created_of(certificate)
    newest: tuple[datetime, timedelta | None] | None = None
    own: set[str | None] = set()
    for packet in PacketPile.from_bytes(bytes(certificate)):
        if packet.tag == Tag.PublicSubkey:
            break
        if packet.tag == Tag.PublicKey:
            own = {packet.key_id, packet.fingerprint}
        if packet.tag != Tag.Signature or packet.signature_type not in _SELF_SIGNATURES:
            continue
        if not own & {packet.issuer_key_id, packet.issuer_fingerprint} - {None}:
            continue  # somebody else's certification
        made = packet.signature_created
        if made is not None and (newest is None or made >= newest[0]):
            newest = (made, packet.key_validity_period)
    if newest is None or newest[1] is None:
        return None
    return created + newest[1]


def _key_type(packets: list[Packet]) -> str:
    names = {str(p.key_algorithm).rpartition(".")[2] for p in packets if p.key_algorithm}
    version = packets[0].body[0] if packets else 4
    return f"OpenPGP v{version} " + "+".join(sorted(names))
