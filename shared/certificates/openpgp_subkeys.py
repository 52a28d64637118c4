"""The parts of an OpenPGP key that decrypt, each usable on its own and whatever its age.

Sequoia hands out the one part of a key that its policy would encrypt *to* today: the newest, not
expired, not revoked, bound by a signature that is not SHA-1. What others encrypted with the other
parts, or before the key expired, would stay closed. A message names a part by its fingerprint,
which covers the part alone (RFC 9580 section 5.5.4), not the key that it belongs to. So each part
is bound, with a signature made here and now, to a primary key that is made for this purpose, lives
in memory and vouches for nothing: Sequoia then opens with it like with any fresh key.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pysequoia import PyDecryptor, Tsk
from pysequoia.packet import Packet, PacketPile, PublicKeyAlgorithm, SignatureType, Tag

_PUBLIC = (Tag.PublicKey, Tag.PublicSubkey)
_SECRET = (Tag.SecretKey, Tag.SecretSubkey)
_SIGNING_ONLY = (
    PublicKeyAlgorithm.RSASign,
    PublicKeyAlgorithm.DSA,
    PublicKeyAlgorithm.ECDSA,
    PublicKeyAlgorithm.EdDSA,
    PublicKeyAlgorithm.Ed25519,
    PublicKeyAlgorithm.Ed448,
    PublicKeyAlgorithm.MLDSA65_Ed25519,
    PublicKeyAlgorithm.MLDSA87_Ed448,
    PublicKeyAlgorithm.SLHDSA128f,
    PublicKeyAlgorithm.SLHDSA128s,
    PublicKeyAlgorithm.SLHDSA256s,
)
_BINDINGS = (
    SignatureType.GenericCertification,
    SignatureType.PersonaCertification,
    SignatureType.CasualCertification,
    SignatureType.PositiveCertification,
    SignatureType.SubkeyBinding,
    SignatureType.DirectKey,
)

# Numbers of RFC 9580: packet types, signature types, algorithms, key flags.
_SECRET_KEY, _SECRET_SUBKEY, _SIGNATURE = 5, 7, 2
_DIRECT_KEY, _SUBKEY_BINDING = 0x1F, 0x18
_ED25519, _SHA512 = 27, 10
_MAY_CERTIFY, _MAY_ENCRYPT = 0x01, 0x0C


class Subkey(NamedTuple):
    """A part that decrypts: its key id and fingerprint (lower-case hex), Sequoia's handle, its
    algorithm (RFC 9580 section 9.1), and the bits of the first number of its public key, which for
    RSA are its length."""

    key_id: str
    fingerprint: str
    decryptor: PyDecryptor
    algorithm: int
    bits: int


class Parts(NamedTuple):
    """`protected`: a part stayed closed because the password is missing or another. `unknown`: the
    algorithms of those that stayed closed for another reason."""

    subkeys: tuple[Subkey, ...]
    protected: bool
    unknown: tuple[str, ...] = ()


def decrypting_parts(secret: Tsk, password: str | None) -> Parts:
    """Every part that may decrypt and whose secret is here and opens."""
    found: list[Subkey] = []
    unknown: list[str] = []
    protected = False
    public = {
        packet.fingerprint: packet.body
        for packet in PacketPile.from_bytes(bytes(secret.extract_certificate()))
        if packet.tag in _PUBLIC
    }
    for packet in _candidates(bytes(secret)):
        try:
            alone = Tsk.from_bytes(_bound(packet.body, public[packet.fingerprint]))
        except (RuntimeError, ValueError):
            continue
        decryptor = _decryptor(alone, password)
        if decryptor is None:
            protected = protected or _is_protected(alone)
            unknown.append(_name(packet))
            continue
        assert packet.key_id is not None
        assert packet.fingerprint is not None
        algorithm = packet.body[5]  # behind the version and the time of creation
        start = 10 if packet.body[0] == 6 else 6
        bits = int.from_bytes(packet.body[start : start + 2])
        found.append(Subkey(packet.key_id, packet.fingerprint, decryptor, algorithm, bits))
    return Parts(tuple(found), protected, tuple(dict.fromkeys(unknown)))


def _decryptor(alone: Tsk, password: str | None) -> PyDecryptor | None:
    """None where it does not open. Without a password, an empty one is tried too: the two are not
    the same for programs that protect a key with whatever they are given (RFC 9580 section 3.7)."""
    for candidate in (password,) if password else (None, ""):
        try:
            return alone.decryptor(candidate)
        except (RuntimeError, ValueError):
            pass
    return None


def _name(packet: Packet) -> str:
    if packet.key_algorithm == PublicKeyAlgorithm.ElGamalEncrypt:
        return "ElGamal"
    if packet.key_algorithm == PublicKeyAlgorithm.ECDH:
        return "ECDH on this curve"
    if packet.key_algorithm in (
        PublicKeyAlgorithm.RSAEncryptSign,
        PublicKeyAlgorithm.RSAEncrypt,
    ):
        return "RSA of this length"
    return str(packet.key_algorithm).rpartition(".")[2]


def _is_protected(alone: Tsk) -> bool:
    # A wrong password is not told as such: what it opens is noise that fails in many ways.
    try:
        alone.decryptor()
    except (RuntimeError, ValueError) as error:
        return "encrypted" in str(error).partition("\n")[0]
    return False


def _candidates(secret: bytes) -> Iterator[Packet]:
    """The secret key packets that encryption may have been meant for.

    Left out is what can only sign, and what every signature that binds it says is for other uses.
    """
    current: Packet | None = None
    encrypts: list[bool] = []
    for packet in PacketPile.from_bytes(secret):
        if packet.tag in _SECRET:
            if current is not None and _may_decrypt(current, encrypts):
                yield current
            current, encrypts = packet, []
        elif packet.tag == Tag.Signature and packet.signature_type in _BINDINGS:
            flags = packet.key_flags
            if flags is not None:
                encrypts.append(flags.transport_encryption or flags.storage_encryption)
    if current is not None and _may_decrypt(current, encrypts):
        yield current


def _may_decrypt(packet: Packet, encrypts: list[bool]) -> bool:
    return packet.key_algorithm not in _SIGNING_ONLY and (not encrypts or any(encrypts))


def _bound(secret: bytes, public: bytes) -> bytes:
    """The bodies of a secret key packet and its public part as a transferable secret key."""
    version = 6 if secret[0] == 6 else 4
    owner = Ed25519PrivateKey.generate()
    seed, point = owner.private_bytes_raw(), owner.public_key().public_bytes_raw()
    now = int(time.time()).to_bytes(4)
    key = bytes((version,)) + now + bytes((_ED25519,))
    key += len(point).to_bytes(4) + point if version == 6 else point
    unprotected = b"\0" + seed + (b"" if version == 6 else (sum(seed) & 0xFFFF).to_bytes(2))
    primary = framed(key)
    return b"".join(
        (
            _packet(_SECRET_KEY, key + unprotected),
            _signature(owner, version, now, _DIRECT_KEY, _MAY_CERTIFY, primary),
            _packet(_SECRET_SUBKEY, secret),
            _signature(
                owner, version, now, _SUBKEY_BINDING, _MAY_ENCRYPT,
                primary + framed(public),
            ),
        )
    )  # fmt: skip


def _signature(
    owner: Ed25519PrivateKey, version: int, now: bytes, kind: int, flags: int, over: bytes
) -> bytes:
    """A signature packet of version 4 or 6 (RFC 9580 section 5.2.3) over `over`."""
    wide = 4 if version == 6 else 2
    hashed = bytes((5, 2)) + now + bytes((2, 27, flags))  # creation time and key flags
    head = bytes((version, kind, _ED25519, _SHA512)) + len(hashed).to_bytes(wide) + hashed
    salt = os.urandom(32) if version == 6 else b""
    trailer = bytes((version, 0xFF)) + len(head).to_bytes(4)
    digest = hashlib.sha512(salt + over + head + trailer).digest()
    salted = bytes((len(salt),)) + salt if version == 6 else b""
    body = head + (0).to_bytes(wide) + digest[:2] + salted + owner.sign(digest)
    return _packet(_SIGNATURE, body)


def framed(public: bytes) -> bytes:
    """The body of a public key packet of version 4 or 6 as signatures cover it (section 5.2.4)."""
    if public[0] == 6:
        return b"\x9b" + len(public).to_bytes(4) + public
    return b"\x99" + len(public).to_bytes(2) + public


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body
