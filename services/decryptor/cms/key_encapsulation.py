"""Key encapsulation in CMS (RFC 9629) with ML-KEM (RFC 9936): the post-quantum recipients.

ML-KEM-768 and ML-KEM-1024, which OpenSSL has for `cryptography`; ML-KEM-512 is named only.
ML-KEM never fails: of a damaged ciphertext comes another secret, under which nothing unwraps.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms.ber import INTEGER, OCTET_STRING, SEQUENCE, encode
from services.decryptor.cms.errors import Malformed, NotOpened, Unsupported
from services.decryptor.cms.oids import ML_KEM_768, ML_KEM_1024, dotted, oid
from services.decryptor.cms.recipients import CmsRecipient
from services.decryptor.cms.wraps import WRAPS
from shared.certificates import PrivateKey

ENCAPSULATIONS: dict[bytes, type[mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey]] = {
    ML_KEM_768: mlkem.MLKEM768PrivateKey,
    ML_KEM_1024: mlkem.MLKEM1024PrivateKey,
}
#: HKDF as a key derivation algorithm (RFC 8619), without parameters.
_DERIVATIONS: dict[bytes, hashes.HashAlgorithm] = {
    oid("1.2.840.113549.1.9.16.3.28"): hashes.SHA256(),
    oid("1.2.840.113549.1.9.16.3.29"): hashes.SHA384(),
    oid("1.2.840.113549.1.9.16.3.30"): hashes.SHA512(),
}


def encapsulated(recipient: CmsRecipient, key: PrivateKey, length: int) -> bytes:
    """The content key, `length` octets, of one of the ENCAPSULATIONS.

    Raises Unsupported, Malformed or NotOpened.
    """
    wanted = ENCAPSULATIONS[recipient.algorithm.oid]
    assert recipient.encapsulation is not None
    if not isinstance(key, mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey) or not isinstance(
        key, wanted
    ):
        raise NotOpened
    try:
        secret = key.decapsulate(recipient.encapsulation.ciphertext)
    except ValueError as error:
        raise NotOpened from error
    return unwrapped(recipient, secret, length)


def unwrapped(recipient: CmsRecipient, secret: bytes, length: int) -> bytes:
    """The content key by the secret that was encapsulated (RFC 9629 section 5)."""
    assert recipient.encapsulation is not None
    _, derivation, key_bytes, wrap = recipient.encapsulation
    digest = _DERIVATIONS.get(derivation.oid)
    if digest is None:
        raise Unsupported(f"The key derivation {dotted(derivation.oid)} is not supported.")
    if wrap.oid not in WRAPS:
        raise Unsupported(f"The key wrap {dotted(wrap.oid)} is not supported.")
    wrap_bytes, open_wrap = WRAPS[wrap.oid]
    if key_bytes != wrap_bytes:
        raise Malformed("The recipient names a key of another length than its key wrap has.")
    info = wrap.raw + encode(INTEGER, bytes((key_bytes,)))
    if recipient.user_keying_material:
        info += encode(0xA0, encode(OCTET_STRING, recipient.user_keying_material))
    kek = HKDF(digest, wrap_bytes, None, encode(SEQUENCE, info)).derive(secret)
    try:
        content_key = open_wrap(kek, recipient.wrapped_key)
    except (keywrap.InvalidUnwrap, ValueError) as error:
        raise NotOpened from error
    if len(content_key) != length:
        raise NotOpened
    return content_key
