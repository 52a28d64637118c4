"""Private keys of ML-KEM (RFC 9935 section 6) in the form that OpenSSL writes: seed and expanded
key. The library reads the seed alone, which is all that the key is made of."""

from __future__ import annotations

import binascii
import re

from asn1crypto import core
from cryptography.hazmat.primitives.asymmetric import mlkem

#: RFC 9935 section 3.
_KINDS: dict[str, type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]] = {
    "2.16.840.1.101.3.4.4.2": mlkem.MLKEM768PrivateKey,
    "2.16.840.1.101.3.4.4.3": mlkem.MLKEM1024PrivateKey,
}
_BLOCK = re.compile(rb"-----BEGIN PRIVATE KEY-----(.*?)-----END PRIVATE KEY-----", re.DOTALL)
_SEED_OCTETS = 64


class NoSeed(Exception):
    """The key is one of ML-KEM and holds its expanded form alone."""


def from_both_forms(pem: bytes) -> mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey | None:
    """The key of a block of PKCS #8 in PEM; None where it is no key of ML-KEM in such a form.

    The certificate tells whether the seed is that of its key. Raises NoSeed.
    """
    block = _BLOCK.search(pem)
    try:
        info = core.Sequence.load(binascii.a2b_base64(block[1]) if block else b"")
        kind = _KINDS.get(info[1][0].dotted)
        held = core.load(info[2].native)
        if kind is None:
            return None
        if isinstance(held, core.OctetString):
            raise NoSeed
        seed = held[0].native
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None
    if not isinstance(seed, bytes) or len(seed) != _SEED_OCTETS:
        return None
    return kind.from_seed_bytes(seed)
