"""The session key of an OpenPGP message, for what Sequoia does not read or say.

Sequoia gives no session keys out. Here are the keys that GnuPG makes: RSA, and ECDH on Curve25519,
the NIST and the Brainpool curves, plain or behind a password (RFC 9580 sections 5.1, 5.5 and 3.7);
and X25519 and X448 of that RFC.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms.errors import NotOpened, Unsupported
from services.decryptor.openpgp.packet_body import Octets

_RSA, _ECDH, _X25519, _X448 = (1, 2), 18, 25, 26
#: Octets of a key, then how the key is made that wraps the session key.
_MONTGOMERY: dict[int, tuple[int, hashes.HashAlgorithm, bytes, int]] = {
    _X25519: (32, hashes.SHA256(), b"OpenPGP X25519", 16),
    _X448: (56, hashes.SHA512(), b"OpenPGP X448", 32),
}
_AES = {7: 16, 8: 24, 9: 32}
_SHORTEST_KEY, _LONGEST_KEY = 8, 64
_HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("2a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("2b81040022"): ec.SECP384R1(),
    bytes.fromhex("2b81040023"): ec.SECP521R1(),
    bytes.fromhex("2b2403030208010107"): ec.BrainpoolP256R1(),
    bytes.fromhex("2b240303020801010b"): ec.BrainpoolP384R1(),
    bytes.fromhex("2b240303020801010d"): ec.BrainpoolP512R1(),
}
_CURVE25519 = bytes.fromhex("2b060104019755010501")
#: The ciphers that are named and not opened, and the octets of their keys (RFC 9580 section 9.3).
_OTHER_CIPHERS = {
    1: ("IDEA", 16),
    2: ("3DES", 24),
    3: ("CAST5", 16),
    4: ("Blowfish", 16),
    10: ("Twofish", 32),
    11: ("Camellia-128", 16),
    12: ("Camellia-192", 24),
    13: ("Camellia-256", 32),
}


class OtherKey(Unsupported):
    """A kind of key that this does not know."""

    def __init__(self) -> None:
        super().__init__("This form of encryption is not supported for a key of this kind.")


class SessionKey(NamedTuple):
    """The symmetric algorithm (RFC 9580 section 9.3) and its key; 0 where the encrypted packet
    names the algorithm."""

    cipher: int
    key: bytes


def session_key(
    secret_body: bytes, fingerprint: str, password: str, encrypted: bytes
) -> SessionKey:
    """By the body of a secret key packet of version 4, or 6 without a password, and that of a
    PKESK of version 3 or 6.

    Raises NotOpened, OtherKey for other kinds of keys, or Unsupported for the cipher.
    """
    key = Octets(secret_body)
    version = key.number(1)
    is_new = encrypted[:1] == b"\x06"
    if version not in (4, 6) or encrypted[:1] not in (b"\x03", b"\x06"):
        raise OtherKey
    key.take(4)
    algorithm = key.number(1)
    if version == 6:
        key.take(4)
        if password:
            raise OtherKey
    # Behind the version there is a key id, or the length of a fingerprint with its version.
    message = Octets(encrypted[3 + encrypted[1] :] if is_new else encrypted[10:])
    if algorithm in _RSA:
        n, e = key.mpi(), key.mpi()
        found = _rsa(n, e, _secret(key, password), message)
    elif algorithm == _ECDH:
        found = _ecdh(key, fingerprint, password, message)
    elif algorithm in _MONTGOMERY:
        return _by_montgomery(algorithm, key, password, message, is_new=is_new)
    else:
        raise OtherKey
    if is_new:
        found = b"\0" + found
    cipher, value, check = found[0], found[1:-2], int.from_bytes(found[-2:])
    if sum(value) & 0xFFFF != check:
        raise NotOpened
    return _checked(SessionKey(cipher, value))


def _checked(key: SessionKey) -> SessionKey:
    """Raises NotOpened where the key is none, Unsupported where it is one of another cipher."""
    cipher, value = key
    if cipher and _AES.get(cipher) != len(value):
        name, size = _OTHER_CIPHERS.get(cipher, (f"number {cipher}", len(value)))
        if size != len(value) or not _SHORTEST_KEY <= size <= _LONGEST_KEY:
            raise NotOpened
        raise Unsupported(f"The encryption {name} is not supported.")
    return key


def _by_montgomery(
    algorithm: int, key: Octets, password: str, message: Octets, *, is_new: bool
) -> SessionKey:
    """RFC 9580 sections 5.1.6 and 5.1.7."""
    size, digest, name, length = _MONTGOMERY[algorithm]
    public = key.take(size)
    secret = _secret(key, password).take(size)
    ephemeral = message.take(size)
    wrapped = message.take(message.number(1))
    cipher = 0 if is_new else wrapped[0] if wrapped else 0
    try:
        if algorithm == _X25519:
            shared = x25519.X25519PrivateKey.from_private_bytes(secret).exchange(
                x25519.X25519PublicKey.from_public_bytes(ephemeral)
            )
        else:
            shared = x448.X448PrivateKey.from_private_bytes(secret).exchange(
                x448.X448PublicKey.from_public_bytes(ephemeral)
            )
        kek = HKDF(digest, length, None, name).derive(ephemeral + public + shared)
        value = keywrap.aes_key_unwrap(kek, wrapped if is_new else wrapped[1:])
    except (ValueError, keywrap.InvalidUnwrap) as error:
        raise NotOpened from error
    return _checked(SessionKey(cipher, value))


def _rsa(n: bytes, e: bytes, secret: Octets, message: Octets) -> bytes:
    d, p, q, _ = (int.from_bytes(secret.mpi()) for _ in range(4))
    public = rsa.RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    )
    private = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    wrapped = message.mpi().rjust(len(n), b"\0")
    try:
        found = private.decrypt(wrapped, padding.PKCS1v15())
    except ValueError as error:
        raise NotOpened from error
    if len(found) < 4:
        raise NotOpened
    return found


def _ecdh(key: Octets, fingerprint: str, password: str, message: Octets) -> bytes:
    """RFC 9580 section 11.5."""
    curve = key.take(key.number(1))
    key.mpi()
    size, _, hash_id, wrap = key.take(4)
    scalar = _secret(key, password).mpi()
    point = message.mpi()
    wrapped = message.take(message.number(1))
    digest = _HASHES.get(hash_id)
    if size != 3 or digest is None or wrap not in _AES:
        raise OtherKey
    try:
        shared = _agreed(curve, scalar, point)
        info = bytes((len(curve),)) + curve + bytes((_ECDH, 3, 1, hash_id, wrap))
        info += b"Anonymous Sender    " + bytes.fromhex(fingerprint)
        kek = hashlib.new(digest, b"\0\0\0\1" + shared + info, usedforsecurity=False).digest()
        found = keywrap.aes_key_unwrap(kek[: _AES[wrap]], wrapped)
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


def _secret(key: Octets, password: str) -> Octets:
    """The secret part in the clear (RFC 9580 section 5.5.3): as it is, or by CFB and a password."""
    usage = key.number(1)
    if usage == 0:
        return key
    if usage != 254:
        raise OtherKey
    cipher = key.number(1)
    size = _AES.get(cipher)
    if size is None:
        raise OtherKey
    wrapping = _stretched(key, password.encode(), size)
    nonce = key.take(16)
    context = Cipher(algorithms.AES(wrapping), CFB(nonce)).decryptor()
    plain = context.update(key.rest()) + context.finalize()
    if hashlib.sha1(plain[:-20], usedforsecurity=False).digest() != plain[-20:]:
        raise NotOpened
    return Octets(plain[:-20])


def _stretched(key: Octets, password: bytes, size: int) -> bytes:
    """A key from a password: simple, salted, or iterated (RFC 9580 section 3.7.1)."""
    kind, hash_id = key.number(1), key.number(1)
    digest = _HASHES.get(hash_id)
    if kind not in (0, 1, 3) or digest is None:
        raise OtherKey
    data = (key.take(8) if kind else b"") + password
    count = len(data)
    if kind == 3:
        coded = key.number(1)
        count = max(count, (16 + (coded & 15)) << ((coded >> 4) + 6))
    found = b""
    while len(found) < size:
        context = hashlib.new(digest, bytes(len(found) and 1), usedforsecurity=False)
        block = data * (65536 // len(data) + 1)
        left = count
        while left > 0:
            step = min(left, len(block) // len(data) * len(data))
            context.update(block[:step])
            left -= step
        found += context.digest()
    return found[:size]
