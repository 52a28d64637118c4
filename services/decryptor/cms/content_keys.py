"""Unwrapping the content key with a private key: RSA (RFC 8017, 3560) and ECDH (RFC 5753, 8418).

ML-KEM is in `key_encapsulation`.

RSA PKCS #1 v1.5 never fails here: where the padding is wrong OpenSSL gives pseudo-random octets
(implicit rejection), and where their length is wrong a random key takes their place (RFC 3218
section 2.3.2). The content then does not open, in the same time and with the same error as for
any other damage; an attacker who can send many mails learns nothing from the answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from services.decryptor.cms.algorithms import (
    SHA1,
    Algorithm,
    algorithm,
    digest,
    mask_digest,
    tagged_parameters,
)
from services.decryptor.cms.ber import NULL, OCTET_STRING, OID, SEQUENCE, encode, reader_at
from services.decryptor.cms.errors import NotOpened, Unsupported
from services.decryptor.cms.key_encapsulation import ENCAPSULATIONS, encapsulated
from services.decryptor.cms.oids import (
    KEM_RSA,
    ML_KEM_512,
    ML_KEM_768,
    ML_KEM_1024,
    P_SPECIFIED,
    RSA,
    RSA_KEM,
    RSA_OAEP,
    dotted,
    oid,
)
from services.decryptor.cms.recipients import CmsRecipient
from services.decryptor.cms.wraps import WRAPS
from shared.certificates import PrivateKey

_PKCS1V15 = padding.PKCS1v15()


@dataclass(frozen=True, slots=True)
class _Derivation:
    digest: hashes.HashAlgorithm
    hkdf: bool = False


_AGREEMENTS: dict[bytes, _Derivation] = {
    # dhSinglePass-stdDH-*kdf-scheme, then the cofactor ones: all curves here have cofactor 1.
    oid("1.3.133.16.840.63.0.2"): _Derivation(SHA1),
    oid("1.3.132.1.11.0"): _Derivation(hashes.SHA224()),
    oid("1.3.132.1.11.1"): _Derivation(hashes.SHA256()),
    oid("1.3.132.1.11.2"): _Derivation(hashes.SHA384()),
    oid("1.3.132.1.11.3"): _Derivation(hashes.SHA512()),
    oid("1.3.133.16.840.63.0.3"): _Derivation(SHA1),
    oid("1.3.132.1.14.0"): _Derivation(hashes.SHA224()),
    oid("1.3.132.1.14.1"): _Derivation(hashes.SHA256()),
    oid("1.3.132.1.14.2"): _Derivation(hashes.SHA384()),
    oid("1.3.132.1.14.3"): _Derivation(hashes.SHA512()),
    # BSI TR-03111 ECKA-EG with the X9.63 function (metering): the same by another name.
    oid("0.4.0.127.0.7.1.1.5.1.1.1"): _Derivation(SHA1),
    oid("0.4.0.127.0.7.1.1.5.1.1.2"): _Derivation(hashes.SHA224()),
    oid("0.4.0.127.0.7.1.1.5.1.1.3"): _Derivation(hashes.SHA256()),
    oid("0.4.0.127.0.7.1.1.5.1.1.4"): _Derivation(hashes.SHA384()),
    oid("0.4.0.127.0.7.1.1.5.1.1.5"): _Derivation(hashes.SHA512()),
    # RFC 8418: HKDF instead of the X9.63 function.
    oid("1.2.840.113549.1.9.16.3.19"): _Derivation(hashes.SHA256(), hkdf=True),
    oid("1.2.840.113549.1.9.16.3.20"): _Derivation(hashes.SHA384(), hkdf=True),
    oid("1.2.840.113549.1.9.16.3.21"): _Derivation(hashes.SHA512(), hkdf=True),
}

_NAMES = {
    RSA: "RSA-PKCS1v15",
    RSA_OAEP: "RSA-OAEP",
    RSA_KEM: "RSA-KEM",
    KEM_RSA: "RSA-KEM",
    ML_KEM_512: "ML-KEM-512",
    ML_KEM_768: "ML-KEM-768",
    ML_KEM_1024: "ML-KEM-1024",
}


def key_algorithm_name(recipient: CmsRecipient) -> str:
    """What people call the way in which the content key is protected."""
    if recipient.kind in ("transport", "encapsulation", "other"):
        return _NAMES.get(recipient.algorithm.oid, dotted(recipient.algorithm.oid))
    return "ECDH" if recipient.kind == "agreement" else recipient.kind


def can_be_opened(recipient: CmsRecipient) -> bool:
    """Whether there are certificates, here or elsewhere, whose keys open it by what is known."""
    if recipient.kind == "encapsulation":
        return recipient.algorithm.oid in ENCAPSULATIONS
    return recipient.kind in ("transport", "agreement") and recipient.algorithm.oid != RSA_KEM


def unwrap(recipient: CmsRecipient, key: PrivateKey, length: int) -> bytes:
    """The content key, `length` octets.

    Raises Unsupported (the algorithm), Malformed, or NotOpened (never for PKCS #1 v1.5).
    """
    if recipient.kind == "transport":
        if recipient.algorithm.oid not in (RSA, RSA_OAEP):
            name = key_algorithm_name(recipient)
            raise Unsupported(f"The key transport {name} is not supported.")
        if not isinstance(key, rsa.RSAPrivateKey):
            raise NotOpened
        return _transported(recipient, key, length)
    if recipient.kind == "agreement":
        return _agreed(recipient, key, length)
    if recipient.kind == "encapsulation":
        if recipient.algorithm.oid not in ENCAPSULATIONS:
            name = key_algorithm_name(recipient)
            raise Unsupported(f"The encapsulation {name} is not supported.")
        return encapsulated(recipient, key, length)
    raise Unsupported(f"Keys wrapped with a {recipient.kind} are not supported.")


def _transported(recipient: CmsRecipient, key: rsa.RSAPrivateKey, length: int) -> bytes:
    chosen = recipient.algorithm
    if chosen.oid == RSA:
        # Drawn in any case, so that both ways take the same time.
        substitute = os.urandom(length)
        try:
            content_key = key.decrypt(recipient.wrapped_key, _PKCS1V15)
        except ValueError:
            return substitute
        return content_key if len(content_key) == length else substitute
    scheme = _oaep(chosen.parameters)
    try:
        content_key = key.decrypt(recipient.wrapped_key, scheme)
    except UnsupportedAlgorithm as error:
        raise Unsupported("This combination of digests in RSA-OAEP is not supported.") from error
    except ValueError as error:
        raise NotOpened from error
    if len(content_key) != length:
        raise NotOpened
    return content_key


@lru_cache(maxsize=64)
def _oaep(parameters: bytes) -> padding.OAEP:
    """RSAES-OAEP-params (RFC 4055 section 4.1), which senders write alike in all their mails; every
    field has a default."""
    fields = tagged_parameters(parameters)
    main: hashes.HashAlgorithm = SHA1
    mask: hashes.HashAlgorithm = SHA1
    label = b""
    if 0 in fields:
        main = digest(algorithm(fields[0]).oid)
    if 1 in fields:
        mask = mask_digest(fields[1])
    if 2 in fields:
        source = algorithm(fields[2])
        if source.oid != P_SPECIFIED or source.parameters[:1] != bytes((OCTET_STRING,)):
            raise Unsupported("The label of RSA-OAEP is not supported.")
        label = reader_at(source.parameters).value(OCTET_STRING)
    return padding.OAEP(padding.MGF1(mask), main, label or None)


def _agreed(recipient: CmsRecipient, key: PrivateKey, length: int) -> bytes:
    derivation = _AGREEMENTS.get(recipient.algorithm.oid)
    if derivation is None:
        raise Unsupported(f"The agreement {dotted(recipient.algorithm.oid)} is not supported.")
    if recipient.originator_algorithm is None:
        raise Unsupported("Key agreement with a static sender key is not supported.")
    wrap = algorithm(recipient.algorithm.parameters)
    if wrap.oid not in WRAPS:
        raise Unsupported(f"The key wrap {dotted(wrap.oid)} is not supported.")
    wrap_bytes, open_wrap = WRAPS[wrap.oid]
    secret = _shared_secret(recipient, key)
    material = recipient.user_keying_material
    infos = _shared_infos(wrap, material, wrap_bytes) if material else _usual(wrap, wrap_bytes)
    for info in infos:
        for wrapping_key in _derived(derivation, secret, info, recipient, wrap_bytes):
            try:
                content_key = open_wrap(wrapping_key, recipient.wrapped_key)
            except (keywrap.InvalidUnwrap, ValueError):
                continue
            if len(content_key) == length:
                return content_key
    raise NotOpened


def _shared_secret(recipient: CmsRecipient, key: PrivateKey) -> bytes:
    point = recipient.originator_key
    try:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            # The curve is that of our key whatever the sender repeats about it.
            public = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
            return key.exchange(ec.ECDH(), public)
        if isinstance(key, x25519.X25519PrivateKey):
            return key.exchange(x25519.X25519PublicKey.from_public_bytes(point))
        if isinstance(key, x448.X448PrivateKey):
            return key.exchange(x448.X448PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise NotOpened from error
    raise NotOpened


def _shared_infos(wrap: Algorithm, material: bytes, wrap_bytes: int) -> list[bytes]:
    """ECC-CMS-SharedInfo (RFC 5753 section 7.2) as the sender may have encoded it.

    The key wrap algorithm enters as the sender wrote it; some hash it without the NULL that they
    send, or with one that they do not send.
    """
    fields = encode(0xA0, encode(OCTET_STRING, material)) if material else b""
    fields += encode(0xA2, encode(OCTET_STRING, (wrap_bytes * 8).to_bytes(4)))
    name = encode(OID, wrap.oid)
    written = [wrap.raw, encode(SEQUENCE, name), encode(SEQUENCE, name + bytes((NULL, 0)))]
    return [encode(SEQUENCE, identifier + fields) for identifier in dict.fromkeys(written)]


@lru_cache(maxsize=64)
def _usual(wrap: Algorithm, wrap_bytes: int) -> list[bytes]:
    """What is the same for all mails of a sender that sends no keying material, as most."""
    return _shared_infos(wrap, b"", wrap_bytes)


def _derived(
    derivation: _Derivation, secret: bytes, info: bytes, recipient: CmsRecipient, length: int
) -> Iterator[bytes]:
    """The keys that may wrap: with HKDF, senders differ in whether the keying material is salt."""
    if not derivation.hkdf:
        yield X963KDF(derivation.digest, length, info).derive(secret)
        return
    yield HKDF(derivation.digest, length, None, info).derive(secret)
    if recipient.user_keying_material:
        yield HKDF(derivation.digest, length, recipient.user_keying_material, info).derive(secret)
