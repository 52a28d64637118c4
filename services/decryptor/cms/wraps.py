"""Key wraps: the content key under a key that the two sides agreed on (RFC 3394, 5649, 3217)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.constant_time import bytes_eq

from services.decryptor.cms.algorithms import SHA1
from services.decryptor.cms.oids import oid

_AES = "2.16.840.1.101.3.4.1."
Unwrap = Callable[[bytes, bytes], bytes]


def _triple_des_unwrap(wrapping_key: bytes, wrapped: bytes) -> bytes:
    """CMS Triple-DES key wrap (RFC 3217 section 3.2): what some take together with 3DES, and
    OpenSSL for keys of AES as well."""
    if len(wrapped) % 8 or not 32 <= len(wrapped) <= 48:
        raise keywrap.InvalidUnwrap
    first = _triple_des(wrapping_key, bytes.fromhex("4adda22c79e82105"), wrapped)[::-1]
    unwrapped = _triple_des(wrapping_key, first[:8], first[8:])
    key, check = unwrapped[:-8], unwrapped[-8:]
    digest = hashes.Hash(SHA1)
    digest.update(key)
    if not bytes_eq(digest.finalize()[:8], check):
        raise keywrap.InvalidUnwrap
    return key


def _triple_des(key: bytes, nonce: bytes, data: bytes) -> bytes:
    context = Cipher(TripleDES(key), modes.CBC(nonce)).decryptor()
    return context.update(data) + context.finalize()


#: Key wraps (RFC 3394, RFC 5649, RFC 3217) by OID: length of the key that wraps, in octets.
WRAPS: dict[bytes, tuple[int, Unwrap]] = {
    oid(_AES + "5"): (16, keywrap.aes_key_unwrap),
    oid(_AES + "25"): (24, keywrap.aes_key_unwrap),
    oid(_AES + "45"): (32, keywrap.aes_key_unwrap),
    oid(_AES + "8"): (16, keywrap.aes_key_unwrap_with_padding),
    oid(_AES + "28"): (24, keywrap.aes_key_unwrap_with_padding),
    oid(_AES + "48"): (32, keywrap.aes_key_unwrap_with_padding),
    oid("1.2.840.113549.1.9.16.3.6"): (24, _triple_des_unwrap),
}
