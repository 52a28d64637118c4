"""The session key of an OpenPGP message, for what Sequoia does not read or say.

Sequoia gives no session keys out. Here are the keys that GnuPG makes: RSA, and ECDH on Curve25519,
the NIST and the Brainpool curves (RFC 9580 section 5.1); X25519 and X448 of that RFC; and these
with ML-KEM (draft-ietf-openpgp-pqc). `secret_parts` opens what is behind a password.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms.errors import NotOpened, Unsupported
from services.decryptor.openpgp.packet_body import PacketBody
from services.decryptor.openpgp.secret_parts import AES_KEYS, HASHES, OtherKey, secret_part
from shared.certificates.openpgp_keys import SecretPacket

_RSA, _ECDH, _X25519, _X448 = (1, 2), 18, 25, 26
#: Octets of a key, then how the key is made that wraps the session key.
_MONTGOMERY: dict[int, tuple[int, hashes.HashAlgorithm, bytes, int]] = {
    _X25519: (32, hashes.SHA256(), b"OpenPGP X25519", 16),
    _X448: (56, hashes.SHA512(), b"OpenPGP X448", 32),
}
#: The key of ML-KEM, and the algorithm beside it; the octets of ciphertext and public key, and the
#: separation of domains (draft-ietf-openpgp-pqc sections 4.2 and 4.3).
_COMPOSITE: dict[
    int, tuple[type[mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey], int, int, int]
] = {
    35: (mlkem.MLKEM768PrivateKey, _X25519, 1088, 1184),
    36: (mlkem.MLKEM1024PrivateKey, _X448, 1568, 1568),
}
_SEED = 64
_DOMAIN = b"OpenPGPCompositeKDFv1"
_SHORTEST_KEY, _LONGEST_KEY = 8, 64
CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("2a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("2b81040022"): ec.SECP384R1(),
    bytes.fromhex("2b81040023"): ec.SECP521R1(),
    bytes.fromhex("2b2403030208010107"): ec.BrainpoolP256R1(),
    bytes.fromhex("2b240303020801010b"): ec.BrainpoolP384R1(),
    bytes.fromhex("2b240303020801010d"): ec.BrainpoolP512R1(),
}
_CURVE25519 = bytes.fromhex("2b060104019755010501")
_CAMELLIA = {11: 16, 12: 24, 13: 32}
#: The ciphers whose session keys are read, by their number, and the octets of these.
CIPHER_KEYS = AES_KEYS | _CAMELLIA
#: The ciphers that are named and not opened, and the octets of their keys (RFC 9580 section 9.3).
_OTHER_CIPHERS = {
    1: ("IDEA", 16),
    2: ("3DES", 24),
    3: ("CAST5", 16),
    4: ("Blowfish", 16),
    10: ("Twofish", 32),
}


class SessionKey(NamedTuple):
    """The symmetric algorithm (RFC 9580 section 9.3) and its key; 0 where the encrypted packet
    names the algorithm."""

    cipher: int
    key: bytes


def session_key(secret: SecretPacket, fingerprint: str, encrypted: bytes) -> SessionKey:
    """By a secret key packet of version 4 or 6, and the body of a PKESK of version 3 or 6.

    Raises NotOpened, OtherKey for other kinds of keys, or Unsupported for the cipher.
    """
    key = PacketBody(secret.body)
    version = key.number(1)
    is_new = encrypted[:1] == b"\x06"
    if version not in (4, 6):
        raise OtherKey
    if encrypted[:1] not in (b"\x03", b"\x06"):
        raise NotOpened
    key.take(4)
    algorithm = key.number(1)
    if version == 6:
        key.take(4)
    # Behind the version there is a key id, or the length of a fingerprint with its version.
    message = PacketBody(encrypted[3 + encrypted[1] :] if is_new else encrypted[10:])
    if algorithm in _RSA:
        n, e = key.mpi(), key.mpi()
        found = _rsa(n, e, secret_part(secret, key), message)
    elif algorithm == _ECDH:
        found = _ecdh(key, fingerprint, secret, message)
    elif algorithm in _MONTGOMERY:
        return _by_montgomery(algorithm, key, secret, message, is_new=is_new)
    elif algorithm in _COMPOSITE:
        return _by_composite(algorithm, key, secret, message, is_new=is_new)
    else:
        raise OtherKey
    if is_new:
        found = b"\0" + found
    cipher, value, check = found[0], found[1:-2], int.from_bytes(found[-2:])
    if sum(value) & 0xFFFF != check:
        raise NotOpened
    return _checked(SessionKey(cipher, value), is_new=is_new)


def _checked(key: SessionKey, *, is_new: bool) -> SessionKey:
    """Raises NotOpened where the key is none, Unsupported where it is one of another cipher.

    Of a new form the encrypted packet names the cipher; in an old one 0 is none at all (section
    9.3).
    """
    cipher, value = key
    if not is_new and CIPHER_KEYS.get(cipher) != len(value):
        name, size = _OTHER_CIPHERS.get(cipher, (f"number {cipher}", len(value)))
        if size != len(value) or not _SHORTEST_KEY <= size <= _LONGEST_KEY:
            raise NotOpened
        raise Unsupported(f"The encryption {name} is not supported.")
    return key


def block_cipher(key: SessionKey) -> algorithms.AES | Camellia:
    """What a content is encrypted with by that key, in blocks of 16 octets."""
    return (Camellia if key.cipher in _CAMELLIA else algorithms.AES)(key.key)


def _by_montgomery(
    algorithm: int, key: PacketBody, secret: SecretPacket, message: PacketBody, *, is_new: bool
) -> SessionKey:
    """RFC 9580 sections 5.1.6 and 5.1.7."""
    size, digest, name, length = _MONTGOMERY[algorithm]
    public = key.take(size)
    own = secret_part(secret, key).take(size)
    ephemeral = message.take(size)
    shared = _exchanged(algorithm, own, ephemeral)
    kek = HKDF(digest, length, None, name).derive(ephemeral + public + shared)
    return _unwrapped(kek, message, is_new=is_new)


def _by_composite(
    algorithm: int, key: PacketBody, secret: SecretPacket, message: PacketBody, *, is_new: bool
) -> SessionKey:
    """draft-ietf-openpgp-pqc section 4.2: both parts of the key, and their shares combined."""
    kind, beside, sealed_size, public_size = _COMPOSITE[algorithm]
    size = _MONTGOMERY[beside][0]
    public = key.take(size)
    key.take(public_size)
    part = secret_part(secret, key)
    own, seed = part.take(size), part.take(_SEED)
    ephemeral, sealed = message.take(size), message.take(sealed_size)
    shared = _exchanged(beside, own, ephemeral)
    try:
        encapsulated = kind.from_seed_bytes(seed).decapsulate(sealed)
    except ValueError as error:
        raise NotOpened from error
    combined = encapsulated + shared + ephemeral + public
    combined += bytes((algorithm,)) + _DOMAIN + bytes((len(_DOMAIN),))
    return _unwrapped(hashlib.sha3_256(combined).digest(), message, is_new=is_new)


def _exchanged(algorithm: int, own: bytes, ephemeral: bytes) -> bytes:
    try:
        if algorithm == _X25519:
            return x25519.X25519PrivateKey.from_private_bytes(own).exchange(
                x25519.X25519PublicKey.from_public_bytes(ephemeral)
            )
        return x448.X448PrivateKey.from_private_bytes(own).exchange(
            x448.X448PublicKey.from_public_bytes(ephemeral)
        )
    except ValueError as error:
        raise NotOpened from error


def _unwrapped(kek: bytes, message: PacketBody, *, is_new: bool) -> SessionKey:
    wrapped = message.take(message.number(1))
    cipher = 0 if is_new else wrapped[0] if wrapped else 0
    try:
        value = keywrap.aes_key_unwrap(kek, wrapped if is_new else wrapped[1:])
    except (ValueError, keywrap.InvalidUnwrap) as error:
        raise NotOpened from error
    return _checked(SessionKey(cipher, value), is_new=is_new)


@lru_cache(maxsize=64)
def _rsa_key(n: bytes, e: bytes, d: bytes, p: bytes, q: bytes) -> rsa.RSAPrivateKey:
    modulus, exponent, own, one, other = (int.from_bytes(number) for number in (n, e, d, p, q))
    numbers = rsa.RSAPrivateNumbers(
        one, other, own, rsa.rsa_crt_dmp1(own, one), rsa.rsa_crt_dmq1(own, other),
        rsa.rsa_crt_iqmp(one, other), rsa.RSAPublicNumbers(exponent, modulus),
    )  # fmt: skip
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _rsa(n: bytes, e: bytes, secret: PacketBody, message: PacketBody) -> bytes:
    private = _rsa_key(n, e, secret.mpi(), secret.mpi(), secret.mpi())
    wrapped = message.mpi().rjust(len(n), b"\0")
    try:
        found = private.decrypt(wrapped, padding.PKCS1v15())
    except ValueError as error:
        raise NotOpened from error
    if len(found) < 4:
        raise NotOpened
    return found


def _ecdh(key: PacketBody, fingerprint: str, secret: SecretPacket, message: PacketBody) -> bytes:
    """RFC 9580 section 11.5."""
    curve = key.take(key.number(1))
    key.mpi()
    size, _, hash_id, wrap = key.take(4)
    scalar = secret_part(secret, key).mpi()
    point = message.mpi()
    wrapped = message.take(message.number(1))
    digest = HASHES.get(hash_id)
    if size != 3 or digest is None or wrap not in AES_KEYS:
        raise OtherKey
    try:
        shared = _agreed(curve, scalar, point)
        info = bytes((len(curve),)) + curve + bytes((_ECDH, 3, 1, hash_id, wrap))
        info += b"Anonymous Sender    " + bytes.fromhex(fingerprint)
        kek = hashlib.new(digest, b"\0\0\0\1" + shared + info, usedforsecurity=False).digest()
        found = keywrap.aes_key_unwrap(kek[: AES_KEYS[wrap]], wrapped)
    except (ValueError, keywrap.InvalidUnwrap) as error:
        raise NotOpened from error
    pad = found[-1]
    if not 1 <= pad <= 8 or found[-pad:] != bytes((pad,)) * pad or len(found) - pad < 4:
        raise NotOpened
    return found[:-pad]


def _agreed(curve: bytes, scalar: bytes, point: bytes) -> bytes:
    if curve == _CURVE25519:
        private = x25519.X25519PrivateKey.from_private_bytes(scalar.rjust(32, b"\0")[::-1])
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(point[1:]))
    known = CURVES.get(curve)
    if known is None:
        raise OtherKey
    owner = ec.derive_private_key(int.from_bytes(scalar), known)
    return owner.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(known, point))
