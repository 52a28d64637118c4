"""OpenPGP secret keys (RFC 9580), read with Sequoia.

Sequoia is the OpenPGP implementation that is written and kept as a library (GnuPG is a program
with a key ring of its own, PGPy is not kept); its Python binding keeps a protected key protected,
so the password is stored with the key: both together are what the vault encrypts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr

from pysequoia import Cert, PyDecryptor, Tsk
from pysequoia.packet import Packet, PacketPile, Tag

from shared.errors import InvalidInput

_SECRET = (Tag.SecretKey, Tag.SecretSubkey)
_ARMOUR = b"-----BEGIN PGP "


@dataclass(frozen=True, slots=True)
class OpenPGPKey:
    """A secret key that can decrypt. `certificate` is its public part, binary."""

    id: str
    fingerprint: str
    key_ids: frozenset[str]
    user_ids: tuple[str, ...]
    emails: tuple[str, ...]
    key_type: str
    created: datetime
    expires: datetime | None
    certificate: bytes
    private_key: bytes = field(repr=False)
    decryptor: PyDecryptor = field(repr=False)


def looks_like_openpgp(data: bytes) -> bool:
    """Whether an upload is OpenPGP: armoured, or a secret or public key packet first."""
    if _ARMOUR in data[:4096]:
        return True
    # RFC 9580 section 4.2: packet type 5 (secret key) or 6 (public key), old or new header.
    return data[0] in (0xC5, 0xC6, 0x94, 0x95, 0x96, 0x98, 0x99, 0x9A)


def parse_openpgp(data: bytes, password: str | None) -> OpenPGPKey:
    """Reads one secret key. Raises InvalidInput with `field` `file` or `password`."""
    try:
        keys = Cert.split_bytes(data)
    except (RuntimeError, ValueError) as error:
        raise InvalidInput("This OpenPGP key is damaged.", field="file") from error
    if not any(packet.tag in _SECRET for packet in PacketPile.from_bytes(data)):
        raise InvalidInput(
            "There is no private key in this file.",
            field="file",
            hint="Export the secret key: gpg --export-secret-keys --armor ADDRESS",
        )
    if len(keys) > 1:
        raise InvalidInput(
            "There are several keys in this file.",
            field="file",
            hint="Upload each key as a file of its own.",
        )
    return _opened("", Tsk.from_bytes(data), password)


def load_openpgp(id: str, certificate: bytes, private_key: bytes) -> OpenPGPKey:
    """From what `parse_openpgp` gave as certificate and private key. Raises InvalidInput."""
    size = int.from_bytes(private_key[:2])
    password = private_key[2 : 2 + size].decode() or None
    try:
        secret = Tsk.from_bytes(private_key[2 + size :])
    except (RuntimeError, ValueError) as error:
        raise InvalidInput("The OpenPGP key cannot be read.") from error
    return _opened(id, secret, password)


def _opened(id: str, secret: Tsk, password: str | None) -> OpenPGPKey:
    try:
        decryptor = secret.decryptor(password)
    except (RuntimeError, ValueError) as error:
        raise _not_opened(secret, password) from error
    certificate = secret.extract_certificate()
    packets = [packet for packet in PacketPile.from_bytes(bytes(secret)) if packet.key_id]
    user_ids = tuple(str(user_id) for user_id in certificate.user_ids)
    emails = tuple(dict.fromkeys(e.lower() for u in user_ids if "@" in (e := parseaddr(u)[1])))
    stored = (password or "").encode()
    return OpenPGPKey(
        id=id,
        fingerprint=certificate.fingerprint,
        key_ids=frozenset(packet.key_id for packet in packets),
        user_ids=user_ids,
        emails=emails,
        key_type=_key_type(packets),
        created=next((p.key_created for p in packets if p.key_created), datetime.now(UTC)),
        expires=certificate.expiration,
        certificate=bytes(certificate),
        private_key=len(stored).to_bytes(2) + stored + bytes(secret),
        decryptor=decryptor,
    )


def _not_opened(secret: Tsk, password: str | None) -> InvalidInput:
    try:
        secret.decryptor()
    except (RuntimeError, ValueError) as error:
        if "encrypted" in str(error).partition("\n")[0]:
            if password:
                return InvalidInput("The password does not open this key.", field="password")
            return InvalidInput("This key is protected by a password.", field="password")
    return InvalidInput(
        "This OpenPGP key has no part that can decrypt.",
        field="file",
        hint="It needs a valid subkey for encryption whose secret is in the file.",
    )


def _key_type(packets: list[Packet]) -> str:
    names = {str(p.key_algorithm).rpartition(".")[2] for p in packets if p.key_algorithm}
    version = packets[0].body[0] if packets else 4
    return f"OpenPGP v{version} " + "+".join(sorted(names))
