"""The secret part of an OpenPGP key: as it is, or behind a password (RFC 9580 sections 5.5.3, 3.7).

A password is stretched for milliseconds up to a second, so what it opened is kept: the key lies in
memory anyway while mails are opened with it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms.errors import NotOpened, Unsupported
from services.decryptor.openpgp.aead import NONCES, decrypting
from services.decryptor.openpgp.packet_body import PacketBody
from shared.certificates.openpgp_keys import SecretPacket

#: Octets of a key of AES by its number (section 9.3), and the digests of section 9.5.
AES_KEYS = {7: 16, 8: 24, 9: 32}
HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_PLAIN, _AEAD, _CFB = 0, 253, 254
_SIMPLE, _SALTED, _ITERATED, _ARGON2 = 0, 1, 3, 4
#: KiB, as a power of two: an upload has no more memory either.
_MOST_MEMORY = 18
_NEW = 6


class OtherKey(Unsupported):
    """A kind of key that this does not know."""

    def __init__(self) -> None:
        super().__init__("This form of encryption is not supported for a key of this kind.")


def secret_part(secret: SecretPacket, behind: PacketBody) -> PacketBody:
    """What stands in a packet behind its public part, to which `behind` was read, in the clear.

    Raises NotOpened (the password does not open it) or OtherKey for other forms.
    """
    return PacketBody(_in_the_clear(secret, behind.position))


@lru_cache(maxsize=64)
def _in_the_clear(secret: SecretPacket, start: int) -> bytes:
    octets = PacketBody(secret.body[start:])
    usage = octets.number(1)
    if usage == _PLAIN:
        return octets.rest()
    if usage not in (_AEAD, _CFB):
        raise OtherKey
    is_new = secret.body[0] == _NEW
    if is_new:
        octets.take(1)  # how many octets say how it is protected
    cipher = octets.number(1)
    mode = octets.number(1) if usage == _AEAD else 0
    if is_new:
        octets.take(1)  # how many of them stretch the password
    size = AES_KEYS.get(cipher)
    if size is None or (usage == _AEAD and mode not in NONCES):
        raise OtherKey
    wrapping = _stretched(octets, secret.password.encode(), size)
    if usage == _AEAD:
        nonce = octets.take(NONCES[mode])
        kind = bytes((0xC0 | secret.kind,))
        info = kind + secret.body[:1] + bytes((cipher, mode))
        key = HKDF(hashes.SHA256(), size, None, info).derive(wrapping)
        try:
            return decrypting(mode, key)(nonce, octets.rest(), kind + secret.body[:start])
        except (InvalidTag, ValueError) as error:
            raise NotOpened from error
    nonce = octets.take(16)
    context = Cipher(algorithms.AES(wrapping), CFB(nonce)).decryptor()
    plain = context.update(octets.rest()) + context.finalize()
    if hashlib.sha1(plain[:-20], usedforsecurity=False).digest() != plain[-20:]:
        raise NotOpened
    return plain[:-20]


def _stretched(octets: PacketBody, password: bytes, size: int) -> bytes:
    """A key from a password: by Argon2; or simple, salted, or iterated (section 3.7.1)."""
    kind = octets.number(1)
    if kind == _ARGON2:
        salt = octets.take(16)
        passes, lanes, memory = octets.take(3)
        if memory > _MOST_MEMORY:
            raise OtherKey
        try:
            return Argon2id(
                salt=salt, length=size, iterations=passes, lanes=lanes, memory_cost=1 << memory
            ).derive(password)
        except ValueError as error:
            raise OtherKey from error
    digest = HASHES.get(octets.number(1))
    if kind not in (_SIMPLE, _SALTED, _ITERATED) or digest is None:
        raise OtherKey
    data = (octets.take(8) if kind else b"") + password
    count = len(data)
    if kind == _ITERATED:
        coded = octets.number(1)
        count = max(count, (16 + (coded & 15)) << ((coded >> 4) + 6))
    found = b""
    while len(found) < size:
        context = hashlib.new(digest, bytes(len(found) and 1), usedforsecurity=False)
        block = data * (65536 // max(len(data), 1) + 1)
        left = count
        while left > 0:
            step = min(left, len(block) // len(data) * len(data))
            context.update(block[:step])
            left -= step
        found += context.digest()
    return found[:size]
